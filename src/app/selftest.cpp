#include "app/selftest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "app/config.h"
#include "app/core.h"
#include "app/report.h"
#include "app/selftest_target.h"
#include "app/trial_place.h"
#include "audit/audit.h"
#include "base/error.h"
#include "base/measure.h"
#include "http/client.h"

namespace dragoman::app {
namespace {

using nlohmann::json;

// Where the hub ends itself, and how many times it passes there at most before it does (docs/reference/selftest.md).
const std::map<std::string, int> kSteps{{"intake.before_store", 12}, {"intake.stored", 12},        {"queue.claimed", 5},
                                        {"deliver.begun", 5},        {"deliver.intended", 5},      {"deliver.sent", 5},
                                        {"finish.before_commit", 5}, {"finish.committed", 5}};
constexpr const char* kUnderWay = "send.under_way";  // while the target works on a call, which it finishes
constexpr const char* kAnyMoment = "any.moment";
constexpr int kClients = 3;
constexpr Micros kReachMax = std::chrono::seconds(20);
constexpr int kMissesMax = 5;
constexpr Micros kStartMax = std::chrono::seconds(60);
constexpr Micros kEndMax = std::chrono::minutes(5);
constexpr Micros kLook = std::chrono::milliseconds(10);

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return ntohs(address.sin_port);
}

/// The hub under test: this program once more.
///
/// Threads: `kill` from any thread, else one thread at a time.
class Child {
 public:
  Child(const TrialPlace& place, std::uint16_t port) : place_(place), port_(port) {}
  ~Child() { kill(), wait(); }

  void start(const std::string& kill_at) {
    std::vector<std::string> words{"dragoman", "selftest", "hub", "--data-dir", place_.folder(), "--store",
                                   place_.store_url(), "--listen", fmt::format("127.0.0.1:{}", port_)};
    std::vector<std::string> variables{"DRAGOMAN_HTTP_RATE_PER_SECOND=0", "DRAGOMAN_HUB_LOG_FILE=" + log()};
    if (!kill_at.empty()) variables.push_back("DRAGOMAN_KILL_AT=" + kill_at);
    for (const auto& [name, value] : process_environment())
      if (!name.starts_with("DRAGOMAN_") && !name.starts_with("ODOO_")) variables.push_back(name + "=" + value);
    std::vector<char*> argv, environment;
    for (auto& word : words) argv.push_back(word.data());
    for (auto& variable : variables) environment.push_back(variable.data());
    argv.push_back(nullptr);
    environment.push_back(nullptr);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&files, 1, output().c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::posix_spawn_file_actions_adddup2(&files, 1, 2);
    // Of its own group: Ctrl-C is for this process, which ends the hub itself.
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    pid_t pid = 0;
    const int code = ::posix_spawn(&pid, "/proc/self/exe", &files, &attributes, argv.data(), environment.data());
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
    if (code != 0) throw Error(Error::Kind::unavailable, fmt::format("The hub can't be started (error {}).", code));
    std::lock_guard lock(mutex_);
    pid_ = pid;
    ended_.reset();
  }
  void kill(int signal = SIGKILL) {
    std::lock_guard lock(mutex_);
    if (pid_ > 0 && !ended_) ::kill(pid_, signal);
  }
  /// How it ended, as waitpid has it; nullopt: it lives.
  std::optional<int> ended() { return reap(WNOHANG); }
  void wait() { reap(0); }

  std::string log() const { return place_.folder() + "/hub.log"; }
  std::string output() const { return place_.folder() + "/output"; }

 private:
  std::optional<int> reap(int options) {
    pid_t pid = 0;
    {
      std::lock_guard lock(mutex_);
      if (ended_ || pid_ <= 0) return ended_ ? ended_ : std::optional(0);
      pid = pid_;
    }
    int status = 0;
    if (::waitpid(pid, &status, options) == pid) {
      std::lock_guard lock(mutex_);
      ended_ = status;
    }
    std::lock_guard lock(mutex_);
    return ended_;
  }

  const TrialPlace& place_;
  const std::uint16_t port_;
  std::mutex mutex_;
  pid_t pid_ = 0;
  std::optional<int> ended_;
};

/// A client that writes down what was acknowledged: hands in records, each request again with its key until it is.
class Client {
 public:
  Client(int number, std::uint64_t seed, std::string url, const std::string& token, Clock& clock)
      : number_(number), url_(std::move(url)), token_(token), clock_(clock), state_(seed * 7919 + static_cast<std::uint64_t>(number) + 1),
        http_(http::make_client({.total_timeout = std::chrono::seconds(30)})) {
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }

  /// Begins no further request, and waits for the acknowledgement of the one under way; gives up when `stop` is asked.
  void finish() { enough_ = true; }
  bool finished() const { return finished_; }
  void end() {
    thread_.request_stop();
    if (thread_.joinable()) thread_.join();
  }

  /// After the end: what has to be at the target, by key.
  struct Offered {
    std::int64_t version = 0;
    std::string value;
  };
  const std::map<std::string, Offered>& acknowledged() const { return acknowledged_; }
  const std::vector<std::string>& refused() const { return refused_; }
  std::int64_t acks() const { return acks_; }

 private:
  std::uint64_t next() {  // xorshift: a seed gives the same load everywhere
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

  void run(std::stop_token stop) {
    for (std::int64_t request = 0; !enough_ && !stop.stop_requested(); ++request) {
      std::map<std::string, Offered> offered;
      json records = json::array();
      const auto count = next() % 3 == 0 ? 1 + next() % 5 : 1;
      for (std::uint64_t i = 0; i < count; ++i) {
        // Some are new states of what was handed in before.
        const bool again = keys_ > 0 && next() % 10 < 3;
        const std::string key = fmt::format("c{}-{}", number_, again ? static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(keys_)) : keys_);
        if (offered.contains(key)) continue;
        if (!again) ++keys_;
        const auto known = acknowledged_.find(key);
        Offered one{known == acknowledged_.end() ? 1 : known->second.version + 1, fmt::format("{:x}", next())};
        records.push_back({{"key", key}, {"version", one.version}, {"values", {{"value", one.value}}}});
        offered.emplace(key, std::move(one));
      }
      const std::string body = json{{"model", "thing"}, {"records", std::move(records)}}.dump();
      if (!hand_in(fmt::format("c{}-r{}", number_, request), body, stop)) break;
      for (auto& [key, one] : offered) acknowledged_[key] = std::move(one);
      clock_.wait(std::chrono::milliseconds(5 + next() % 20), stop);
    }
    finished_ = true;
  }

  bool hand_in(const std::string& key, const std::string& body, std::stop_token stop) {
    while (!stop.stop_requested()) {
      http::Request request{.method = "POST", .target = url_ + "/api/v1/inbox/trial", .body = body};
      request.headers.add("Content-Type", "application/json");
      request.headers.add("Authorization", "Bearer " + token_);
      request.headers.add("Idempotency-Key", key);
      try {
        const auto answer = http_->send(request, stop);
        if (answer.status == 202) {
          ++acks_;
          return true;
        }
        if (answer.status >= 400 && answer.status < 500 && answer.status != 409 && answer.status != 429) {
          refused_.push_back(fmt::format("{}: {} {}", key, answer.status, answer.body.substr(0, 300)));
          return false;
        }
      } catch (const Error& error) {
        if (error.kind == Error::Kind::cancelled) return false;
      }
      clock_.wait(std::chrono::milliseconds(20), stop);
    }
    return false;
  }

  const int number_;
  const std::string url_, token_;
  Clock& clock_;
  std::uint64_t state_;
  const std::unique_ptr<http::Client> http_;
  std::map<std::string, Offered> acknowledged_;
  std::vector<std::string> refused_;
  std::int64_t keys_ = 0;
  std::atomic<std::int64_t> acks_ = 0;
  std::atomic<bool> enough_ = false, finished_ = false;
  std::jthread thread_;
};

class Selftest {
 public:
  Selftest(const SelftestSettings& settings, Clock& clock, Random& random, std::stop_token stop)
      : settings_(settings),
        clock_(clock),
        random_(random),
        stop_(std::move(stop)),
        report_(settings.json),
        seed_(settings.seed ? static_cast<std::uint64_t>(settings.seed) : random.next() % 1'000'000'000 + 1),
        place_(settings.folder, settings.postgres_url, random),
        port_(free_port()),
        child_(place_, port_) {}

  int run() {
    prepare();
    child_.start("");
    if (!until(kStartMax, [&] { return started() || child_.ended(); }) || child_.ended()) fail("the hub does not start");
    const auto token = read_file(place_.folder() + "/token");
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < kClients; ++i) clients.push_back(std::make_unique<Client>(i, seed_, url(), token.value_or(""), clock_));
    const auto total = [&] {
      std::int64_t all = 0;
      for (const auto& client : clients) all += client->acks();
      return all;
    };

    std::map<std::string, std::int64_t> killed, missed;
    for (const auto& [step, most] : kSteps) killed[step] = 0;
    killed[kUnderWay] = killed[kAnyMoment] = 0;
    std::vector<double> back;
    std::int64_t done = 0;
    const auto all_ended = [&] {
      return std::all_of(clients.begin(), clients.end(), [](const auto& c) { return c->finished(); });
    };
    while (!all_ended() && done < std::max<std::int64_t>(settings_.kills, static_cast<std::int64_t>(killed.size())) && !stop_.stop_requested()) {
      const std::string step =
          std::min_element(killed.begin(), killed.end(), [&](const auto& a, const auto& b) {
            return a.second + missed[a.first] < b.second + missed[b.first];
          })->first;
      child_.kill();
      child_.wait();
      const auto named = kSteps.find(step);
      const auto acks = total();
      const Micros began = clock_.steady();
      child_.start(named == kSteps.end() ? "" : fmt::format("{}:{}", step, 1 + chance() % static_cast<std::uint64_t>(named->second)));
      if (step == kUnderWay) target_.on_next_delivery([&] { child_.kill(); });
      if (step == kAnyMoment) {
        until(kStartMax, [&] { return total() > acks || child_.ended(); });
        clock_.wait(std::chrono::milliseconds(chance() % 800), stop_);
        child_.kill();
      }
      bool told = false;
      const bool reached = until(kReachMax, [&] {
        if (!told && total() > acks) {
          told = true;
          back.push_back(static_cast<double>((clock_.steady() - began).count()) / 1e6);
        }
        return child_.ended().has_value();
      });
      target_.on_next_delivery({});
      if (!reached) {
        if (++missed[step] >= kMissesMax) break;
        continue;
      }
      const int status = *child_.ended();
      if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail("the hub ended by itself");
      ++killed[step];
      ++done;
    }

    // The last start goes on to the end.
    child_.kill();
    child_.wait();
    const Micros began = clock_.steady();
    child_.start("");
    for (const auto& client : clients) client->finish();
    const bool acknowledged = until(kEndMax, all_ended);
    for (const auto& client : clients) client->end();
    std::map<std::string, Client::Offered> expected;
    for (const auto& client : clients) expected.insert(client->acknowledged().begin(), client->acknowledged().end());
    std::vector<std::string> lost, wrong;
    std::int64_t suspects = 0;
    until(kEndMax, [&] {
      compare(expected, lost, wrong);
      if (lost.empty() && wrong.empty()) return true;
      suspects += retry_suspects(token.value_or(""));
      clock_.wait(std::chrono::milliseconds(500), stop_);
      return false;
    });
    const double seconds = static_cast<double>((clock_.steady() - began).count()) / 1e6;
    child_.kill(SIGTERM);
    child_.wait();
    compare(expected, lost, wrong);
    if (stop_.stop_requested()) throw Error(Error::Kind::cancelled, "Stopped before the end.");

    const auto counts = target_.counts();
    report_.line("");
    for (const auto& [step, number] : killed) report_.figure("killed at " + step, one(number), "times", 1, true);
    report_.figure("requests acknowledged", one(total()), "requests");
    report_.figure("records acknowledged", one(static_cast<std::int64_t>(expected.size())), "records");
    report_.figure("records at the target", one(counts.created), "records");
    report_.figure("calls of the target", one(counts.calls), "calls");
    report_.figure("looked up before a repetition", one(counts.looks), "calls");
    report_.figure("arrived after its sender had died, and was caught by its key", one(counts.late), "records");
    report_.figure("set aside as the suspected cause of the deaths, tried again", one(suspects), "jobs");
    report_.figure("from a start to the next acknowledgement", estimate(back), "s");
    report_.figure("from the last start until all was done", {seconds, seconds, seconds}, "s");
    violations("lost", lost);
    violations("mangled", wrong);
    violations("sent twice without a look", counts.repeated);
    std::vector<std::string> refused;
    for (const auto& client : clients) refused.insert(refused.end(), client->refused().begin(), client->refused().end());
    if (!acknowledged) refused.push_back("a client waited for its acknowledgement in vain");
    violations("refused", refused);
    violations("broken in the audit log", audit());
    const bool well = !report_.missed();
    if (!well) place_.keep();
    report_.line(well ? "Verdict: nothing that was acknowledged was lost, and nothing was done twice."
                      : fmt::format("Verdict: NOT WELL. What it worked on is kept in {}; the seed is {}.", place_.folder(), seed_));
    return well ? 0 : 1;
  }

 private:
  static Estimate one(std::int64_t number) {
    const auto value = static_cast<double>(number);
    return {value, value, value};
  }

  void prepare() {
    const Config config = load_config("", {}, {{"hub.data_dir", place_.folder()}, {"store.url", place_.store_url()}});
    Core core(config, clock_, random_, selftest_connectors());
    const auto info = core.store().info();
    report_.setting("dragoman", version());
    report_.setting("machine", machine());
    report_.setting("store", fmt::format("{} {}, {}", info.engine == store::Engine::sqlite ? "SQLite" : "PostgreSQL",
                                         info.server_version, info.sync_mode));
    report_.setting("file system", fmt::format("{} at {}", file_system(place_.folder()), settings_.folder));
    report_.setting("seed", std::to_string(seed_));
    core.connections().add("trial", "selftest",
                           core.connectors().check_settings("selftest", {{"url", target_.url()}}), Secret("none"));
  }

  std::string url() const { return fmt::format("http://127.0.0.1:{}", port_); }
  /// What a person would do: a job that was there at death after death is set aside as if it were the cause, and here it
  /// was not. How many; other dead letters are left alone.
  std::int64_t retry_suspects(const std::string& token) {
    std::int64_t count = 0;
    try {
      const auto ask = [&](const std::string& method, const std::string& path) {
        http::Request request{.method = method, .target = url() + "/api/v1" + path};
        request.headers.add("Authorization", "Bearer " + token);
        if (method == "POST") {
          request.headers.add("Content-Type", "application/json");
          request.body = "{}";
        }
        return json::parse(http_->send(request, stop_).body);
      };
      const json answer = ask("GET", "/job-groups");
      for (const auto& group : answer.at("groups"))
        if (group.at("code") == "poison")
          count += ask("POST", "/job-groups/" + group.at("group").get<std::string>() + "/retry").at("jobs").get<std::int64_t>();
    } catch (const std::exception&) {
      // It is asked again until the time is up; then what is missing is told.
    }
    return count;
  }
  /// It answers and has written down its token, the first time that it is started.
  bool started() const { return read_file(place_.folder() + "/hub.json").has_value(); }
  std::uint64_t chance() {
    state_ = state_ * 6364136223846793005ull + seed_ + 1442695040888963407ull;
    return state_ >> 33;
  }
  template <typename Condition>
  bool until(Micros most, const Condition& so) {
    const Micros end = clock_.steady() + most;
    while (!so()) {
      if (clock_.steady() > end || stop_.stop_requested()) return false;
      clock_.wait(kLook, stop_);
    }
    return true;
  }
  [[noreturn]] void fail(const std::string& why) {
    place_.keep();
    throw Error(Error::Kind::unavailable,
                fmt::format("The selftest can't go on: {}. Its log is {}.", why, child_.log()));
  }
  void compare(const std::map<std::string, Client::Offered>& expected, std::vector<std::string>& lost,
               std::vector<std::string>& wrong) {
    lost.clear();
    wrong.clear();
    const auto there = target_.records();
    for (const auto& [key, offered] : expected) {
      const auto found = there.find(key);
      if (found == there.end() || found->second.version < offered.version)
        lost.push_back(key);
      else if (found->second.version == offered.version && found->second.value != offered.value)
        wrong.push_back(key);
    }
    for (const auto& [key, record] : there)
      if (record.id != 0 && !expected.contains(key)) wrong.push_back(key + " (never acknowledged)");
  }
  std::vector<std::string> audit() {
    const Config config = load_config("", {}, {{"hub.data_dir", place_.folder()}, {"store.url", place_.store_url()}});
    Core core(config, clock_, random_, selftest_connectors());
    const auto verdict = audit::verify(core.store());
    return verdict.broken ? std::vector{verdict.broken->message} : std::vector<std::string>{};
  }
  void violations(std::string_view what, const std::vector<std::string>& found) {
    report_.figure(what, one(static_cast<std::int64_t>(found.size())), "records", 0);
    for (std::size_t i = 0; i < std::min<std::size_t>(found.size(), 5); ++i) report_.line("  " + found[i]);
  }

  const SelftestSettings& settings_;
  Clock& clock_;
  Random& random_;
  const std::stop_token stop_;
  Report report_;
  const std::uint64_t seed_;
  std::uint64_t state_ = 1;
  SelftestTarget target_;
  TrialPlace place_;
  const std::uint16_t port_;
  const std::unique_ptr<http::Client> http_ = http::make_client({.total_timeout = std::chrono::seconds(30)});
  Child child_;
};

}  // namespace

int selftest_crash(const SelftestSettings& settings, Clock& clock, Random& random, std::stop_token stop) {
  return Selftest(settings, clock, random, std::move(stop)).run();
}

}  // namespace dragoman::app
