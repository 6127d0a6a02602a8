#include "app/hub.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "api/api.h"
#include "api/metrics.h"
#include "app/core.h"
#include "app/following.h"
#include "app/marketing.h"
#include "app/progress.h"
#include "app/scheduling.h"
#include "app/upkeep.h"
#include "base/error.h"
#include "base/log.h"
#include "http/router.h"
#include "http/server.h"
#include "ops/provision_operations.h"
#include "pipeline/own_writes.h"
#include "store/engine.h"
#include "store/file_lock.h"

namespace dragoman::app {
namespace {

using nlohmann::json;

// So long a write of ours may take to come back as a change: as long as a remote may be out of reach.
constexpr Micros kOwnWritesKept = std::chrono::hours(24 * 7);

// On a terminal: lines for people, and one below them that changes. Elsewhere: lines of the log.
class Console {
 public:
  Console() : terminal_(isatty(STDOUT_FILENO)) {}
  bool terminal() const { return terminal_; }

  void say(const std::string& line) {
    if (terminal_)
      std::printf("\r\033[K%s\n", line.c_str());
    else
      log::info(line);
    std::fflush(stdout);
  }
  void now(std::string line) {
    if (!terminal_) return;
    winsize size{};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    // A line that wraps could not be overwritten. Names are ASCII, so bytes are columns, or a few too many.
    const std::size_t columns = size.ws_col > 10 ? size.ws_col - 1u : 79u;
    if (line.size() > columns) line.resize(columns);
    std::printf("\r\033[K%s", line.c_str());
    std::fflush(stdout);
  }

 private:
  const bool terminal_;
};

// The first token, or one for the commands of this machine where there is none that works.
std::optional<Secret> ensure_local_token(Core& core, const DataFolder& folder) {
  const auto kept = read_file(folder.token_file());
  if (kept && core.tokens().check(*kept)) return std::nullopt;
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  const std::string name = core.tokens().any() ? fmt::format("command line on {}", host) : "first admin";
  // One of that name may be in use in another data folder, or its file be lost.
  const auto make = [&] {
    for (int number = 2;; ++number) {
      try {
        return core.tokens().create(number == 2 ? name : fmt::format("{} ({})", name, number - 1), access::Role::admin,
                                    {});
      } catch (const Error& error) {
        if (error.code != "name_taken") throw;
      }
    }
  };
  auto issued = make();
  write_private_file(folder.token_file(), issued.secret.reveal() + "\n");
  return std::move(issued.secret);
}

void start_log(log::Level level, const std::string& file) {
  try {
    log::configure(level, file);
  } catch (const std::exception& error) {
    throw Error(Error::Kind::invalid, fmt::format("The log file {} can't be written (`hub.log_file`).", file),
                error.what());
  }
}

std::string value_of(const std::map<std::string, std::string>& environment, const char* name) {
  const auto found = environment.find(name);
  return found == environment.end() ? std::string() : found->second;
}

// ODOO_URL and its kin make a connection `main`, or change it.
void connect_from_environment(Core& core, const std::map<std::string, std::string>& environment, Console& console) {
  const std::string url = value_of(environment, "ODOO_URL");
  if (url.empty()) return;
  std::string password = value_of(environment, "ODOO_API_KEY");
  if (password.empty()) password = value_of(environment, "ODOO_PASSWORD");
  if (password.empty())
    throw Error(Error::Kind::invalid, "ODOO_URL is set, but neither ODOO_API_KEY nor ODOO_PASSWORD is.");
  const Secret secret(std::move(password));
  json given = {{"url", url}};
  if (const auto database = value_of(environment, "ODOO_DB"); !database.empty()) given["database"] = database;
  if (const auto login = value_of(environment, "ODOO_USERNAME"); !login.empty()) given["login"] = login;

  const auto known = core.connections().find("main");
  if (!known) {
    core.connections().add("main", "odoo", core.connectors().check_settings("odoo", given), secret);
    console.say(fmt::format("Made the connection `main` to {} of the ODOO_ variables.", url));
    return;
  }
  json settings = known->settings;
  settings.update(given);
  const auto same_secret = [&] {
    try {
      return core.connections().secret(*known).equals(secret.reveal());
    } catch (const Error& error) {
      if (error.code != "sealed") throw;
      return false;  // its key was lost; this is the secret given again
    }
  };
  if (settings == known->settings && same_secret()) return;
  core.connections().update("main", core.connectors().check_settings("odoo", settings), secret);
  console.say("Changed the connection `main` as the ODOO_ variables have it now.");
}

api::Metrics::Snapshot measure(Core& core, const http::Server& server) {
  api::Metrics::Snapshot snapshot;
  snapshot.server = server.stats();
  std::map<std::string, std::int64_t> phases;
  for (const char* phase : {"pulling", "following", "sweeping", "waiting", "unavailable"}) phases[phase] = 0;
  for (const auto& connection : core.sync().status("")) {
    if (connection.state == "active") ++snapshot.connections_active;
    if (connection.state == "paused") ++snapshot.connections_paused;
    if (connection.state == "error") ++snapshot.connections_error;
    for (const auto& model : connection.models) {
      if (phases.count(model.phase)) ++phases[model.phase];
      snapshot.records += model.done;
    }
  }
  for (const auto& [phase, models] : phases) snapshot.phases.push_back({phase, models});
  core.store().read([&](store::Session& session) {
    session.query("SELECT last FROM feed WHERE id = 1", std::initializer_list<store::Param>{},
                  [&](const store::Row& row) { snapshot.changes = row.int64(0); });
    session.query("SELECT entries FROM audit_head WHERE id = 1", std::initializer_list<store::Param>{},
                  [&](const store::Row& row) { snapshot.audit_entries = row.int64(0); });
    const auto messages = notify::message_counts(session);
    snapshot.messages_waiting = messages.waiting;
    snapshot.messages_failed = messages.failed;
  });
  const auto jobs = core.jobs().counts();
  snapshot.jobs_waiting = jobs.waiting;
  snapshot.jobs_running = jobs.running;
  snapshot.jobs_done = jobs.done;
  snapshot.jobs_cancelled = jobs.cancelled;
  snapshot.jobs_dead = jobs.dead;
  snapshot.handlers_stuck = core.runner().status().stuck;
  std::map<std::int64_t, pipeline::MarketStock::Standing> products;
  Time now{};
  core.store().read([&](store::Session& session) {
    now = session.now();
    products = pipeline::MarketStock::standings(session);
  });
  const auto age = [&](double& oldest, const std::optional<Time>& since) {
    if (since) oldest = std::max(oldest, std::max(0.0, std::chrono::duration<double>(now - *since).count()));
  };
  auto& market = snapshot.market;
  for (const auto& one : core.market().standings()) {
    market.waiting += one.waiting;
    market.held += one.held;
    market.unacknowledged += one.due_acks;
    market.flagged += one.flagged;
    market.not_told += one.not_told;
    age(market.oldest_waiting_seconds, one.oldest_waiting);
  }
  for (const auto& [connection, one] : products) {
    market.unsent += one.unsent;
    market.refused += one.refused;
    age(market.oldest_unsent_seconds, one.oldest_unsent);
  }
  snapshot.store_bytes = core.store().info().bytes;
  return snapshot;
}

void log_served(const http::Served& served) {
  // Reading is the bulk of it, and machines ask for health all day.
  const bool quiet =
      served.status < 400 && served.method != "POST" && served.method != "PATCH" && served.method != "DELETE";
  log::write(quiet                  ? log::Level::debug
             : served.status >= 500 ? log::Level::warning
                                    : log::Level::info,
             "request",
             {{"method", served.method},
              {"route", served.route},
              {"status", served.status},
              {"microseconds", served.took.count()},
              {"peer", served.peer},
              {"request", served.request_id}});
}

// A thousand connections need more files than the usual soft limit has.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65'536);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

sigset_t block_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

void run_hub(const Config& config, const std::map<std::string, std::string>& environment, const sigset_t& signals,
             Clock& clock, Random& random, const pipeline::ConnectorList& connectors) {
  Console console;
  DataFolder folder(config.data_dir);
  if (!folder.try_lock(clock, std::chrono::seconds(1))) {
    const auto url = folder.hub_url();
    Error error(Error::Kind::busy,
                fmt::format("Another hub{} works on the data folder {}. Stop it first, or name another folder with "
                            "--data-dir.",
                            url ? " at " + *url : "", config.data_dir));
    error.code = "data_dir_locked";
    throw error;
  }
  folder.remove_hub();  // of one that was killed
  raise_file_limit();
  start_log(config.log_level, config.log_file.empty() && console.terminal() ? folder.path("hub.log") : config.log_file);

  Core core(config, clock, random, connectors);
  // Each of two hubs would take the other's jobs for those of a hub that has died.
  std::optional<store::FileLock> only_hub;
  if (const auto file = store::sqlite_path(config.store.url); file && *file != ":memory:") {
    only_hub.emplace(*file + ".hub");
    if (!only_hub->lock(clock, std::chrono::seconds(1))) {
      Error error(
          Error::Kind::busy,
          fmt::format("Another hub works on the database file {}. A file serves one hub: stop that one first, or "
                      "let several share a PostgreSQL.",
                      *file));
      error.code = "store_in_use";
      throw error;
    }
  }
  Upkeep upkeep(core.store(), clock, config.upkeep);
  upkeep.begin();
  upkeep.add([&](std::stop_token stop) {
    // In pieces, so that those who write are not held up.
    constexpr std::int64_t kPiece = 500;
    while (!stop.stop_requested() && core.inbox().clean(kPiece).more) {
    }
    while (!stop.stop_requested() && core.traces().forget(kPiece)) {
    }
    for (bool more = true; more && !stop.stop_requested();)
      core.store().write([&](store::Session& session) {
        more = pipeline::forget_own_writes(session, session.now() - kOwnWritesKept, kPiece);
      });
  });
  const auto operations = ops::catalog(core.connectors());
  api::Metrics metrics(version());
  api::Api api(config.api, operations, core.services(), metrics);
  http::Router router(clock, random);
  api.add_routes(router);
  router.observe([&](const http::Served& served) {
    metrics.served(served);
    log_served(served);
  });
  http::Server server(config.http, {[&](http::Exchange exchange) { return router.answer(std::move(exchange)); },
                                    [&](http::Exchange& exchange) { return router.at_once(exchange); }});
  metrics.on_scrape([&] { return measure(core, server); });

  const auto token = ensure_local_token(core, folder);
  const auto info = core.store().info();
  console.say(fmt::format("Dragoman {}", version()));
  console.say(fmt::format("The data is in {} ({} {}).", info.location,
                          info.engine == store::Engine::sqlite ? "SQLite" : "PostgreSQL", info.server_version));
  console.say(fmt::format("The API is at {0}/api/v1, described in {0}/api/v1/openapi.json.", server.url()));
  if (token) {
    // Only to a person's eyes: where it is not a terminal, what is written is kept and shipped.
    if (console.terminal()) console.say(fmt::format("The admin token, shown this once: {}", token->reveal()));
    const std::string where = fmt::format(
        "{} {}, which only this user may read.",
        console.terminal() ? "The commands of this machine read it from" : "An admin token was made: it is in",
        folder.token_file());
    console.say(where);
    if (!console.terminal()) std::printf("%s\n", where.c_str()), std::fflush(stdout);
  }
  console.say(console.terminal() ? "Ctrl-C stops it." : fmt::format("`kill {}` stops it.", getpid()));
  // The database was there a moment ago. Where it is cut off meanwhile (a failover, a machine that stood still), a hub
  // that ended would not go on by itself: it waits, and asks once more what may have been done already.
  bool stopped = false;
  const auto patiently = [&](const auto& begin) {
    while (!stopped) {
      try {
        return begin();
      } catch (const Error& error) {
        if (!policy(error.kind).retry) throw;
        log::warning("the start has to wait", {{"error", error.message}, {"detail", error.detail}});
      }
      const timespec second{1, 0};
      stopped = sigtimedwait(&signals, nullptr, &second) > 0;
    }
  };
  patiently([&] {
    connect_from_environment(core, environment, console);
    if (core.connections().list().empty())
      console.say(
          "There is no connection yet. Make one with: dragoman connection add main --url https://erp.example.com "
          "--database DATABASE --login LOGIN");
  });
  folder.write_hub(server.url());
  std::jthread sender([&](std::stop_token stop) { core.sender().run(stop); });
  std::jthread keeper([&](std::stop_token stop) { upkeep.run(stop); });
  core.runner().start();
  std::jthread provision_check([&core](std::stop_token stop) {
    pthread_setname_np(pthread_self(), "provision");
    try {
      ops::check_provisioned_at_start(core.services(), stop);
    } catch (const std::exception& error) {
      log::error("the check of what was provisioned ended", {{"error", error.what()}});
    }
  });
  Scheduling scheduling(core.store(), core.schedules(), core.scheduler(), core.runner().node(), clock);
  patiently([&] { scheduling.begin(pipeline::sync_schedules()); });
  std::jthread scheduler([&](std::stop_token stop) { scheduling.run(stop); });
  Marketing marketing(core.store(), core.market(), core.marketplaces(), core.market_status(), core.market_stock(),
                      core.order_books(), core.runner().node(), clock);
  std::jthread market([&](std::stop_token stop) { marketing.run(stop); });
  Following following(core.store(), core.runner().node(), core.connections(), core.sync(), clock);
  patiently([&] { following.step(); });  // a hub that is alone follows from here
  std::jthread follower([&](std::stop_token stop) { following.run(stop); });

  Progress progress;
  std::string last;
  Micros told = clock.steady();
  while (!stopped) {
    const timespec second{1, 0};
    if (sigtimedwait(&signals, nullptr, &second) > 0) break;
    Progress::Report report;
    try {
      auto status = core.sync().status("");
      std::erase_if(status, [](const auto& connection) { return !connection.captures; });
      report = progress.look(status);
    } catch (const Error& error) {
      report.now = error.message;
    }
    for (const auto& line : report.lines) console.say(line);
    console.now(report.now);
    // Where there is no terminal, how a long pull stands is told every ten seconds.
    if (!console.terminal() && report.now != last && clock.steady() - told >= std::chrono::seconds(10)) {
      console.say(report.now);
      last = report.now;
      told = clock.steady();
    }
  }

  console.say(fmt::format("Stopping: what is under way gets {} s to finish.{}", config.stop_grace.count(),
                          console.terminal() ? " Ctrl-C once more stops at once." : ""));
  std::jthread impatient([&](std::stop_token stop) {
    const timespec moment{0, 100'000'000};
    while (!stop.stop_requested())
      if (sigtimedwait(&signals, nullptr, &moment) == SIGINT) _exit(130);
  });
  folder.remove_hub();
  sender.request_stop();
  keeper.request_stop();
  provision_check.request_stop();
  server.stop(config.stop_grace);
  scheduler.request_stop();
  market.request_stop();
  scheduler.join();
  market.join();
  follower.request_stop();
  follower.join();
  const int stuck = core.runner().stop();
  core.sync().stop();
  console.say("Stopped. Started again it goes on where it was.");
  if (stuck > 0) {
    log::warning("handlers of jobs did not come back in time; what they did is looked up at the next start",
                 {{"handlers", stuck}});
    // Their threads still use what would be torn down now.
    std::fflush(nullptr);
    std::_Exit(0);
  }
}

}  // namespace dragoman::app
