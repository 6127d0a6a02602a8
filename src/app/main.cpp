#include <fmt/format.h>
#include <pthread.h>
#include <pwd.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "api/api.h"
#include "app/bench_queue.h"
#include "app/config.h"
#include "app/core.h"
#include "app/hub.h"
#include "app/reference.h"
#include "app/selftest.h"
#include "app/selftest_target.h"
#include "base/error.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/step.h"
#include "cli/command_line.h"
#include "cli/remote.h"
#include "cli/render.h"
#include "connectors/catalog.h"
#include "store/engine.h"

namespace dragoman::app {
namespace {

using nlohmann::json;

// A command waits so long for the folder, which another command may hold for a moment.
constexpr Micros kFolderPatience = std::chrono::seconds(30);
constexpr std::int64_t kFollowWaitSeconds = 30;
constexpr Micros kFollowRetry = std::chrono::seconds(2);

// Stops on SIGINT and SIGTERM, whatever the command is doing.
class StopOnSignal {
 public:
  explicit StopOnSignal(const sigset_t& signals)
      : thread_([this, signals](std::stop_token ended) {
          const timespec moment{0, 100'000'000};
          while (!ended.stop_requested()) {
            if (sigtimedwait(&signals, nullptr, &moment) < 0) continue;
            if (source_.stop_requested()) _exit(130);
            source_.request_stop();
          }
        }) {}
  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  std::jthread thread_;
};

using Ask = std::function<std::string(const ops::Operation&, const json&)>;

// Row by row, each as it stands in the answer: a body keeps its digits.
void print_rows(const cli::Command& command, const std::string& answer) {
  for (const auto row : cli::rows_of(*command.operation, answer)) {
    if (command.json)
      std::cout << row << "\n";
    else
      std::cout << cli::render_row(*command.operation, row) << "\n";
  }
  std::cout << std::flush;
}

// Asks again and again from where the last answer ended. Once there was an answer, a hub that stops, starts again or is
// out of reach for a while is waited for: nothing is lost by asking again later.
void follow(const cli::Command& command, json input, const Ask& ask, std::stop_token stop, Clock& clock) {
  const auto& operation = *command.operation;
  bool answered = false, waiting = false;
  while (!stop.stop_requested()) {
    // First, and after a failure, what there is comes at once: so it is seen whether somebody answers.
    input["wait"] = answered && !waiting ? kFollowWaitSeconds : 0;
    try {
      const std::string answer = ask(operation, input);
      if (waiting) std::cerr << "dragoman: the hub answers again\n";
      answered = true;
      waiting = false;
      print_rows(command, answer);
      input[operation.resume] = json::parse(cli::value_of(answer, "next"));
    } catch (const Error& error) {
      if (stop.stop_requested()) return;
      if (!policy(error.kind).retry || (!answered && error.kind != Error::Kind::busy)) throw;
      if (!waiting) std::cerr << "dragoman: " << error.message << "\ndragoman: asking again until it answers\n";
      waiting = true;
      clock.wait(kFollowRetry, stop);
    }
  }
}

// All of it, however much: a page at a time, a line of JSON per row.
void print_pages(const cli::Command& command, json input, const Ask& ask, std::stop_token stop) {
  const auto& operation = *command.operation;
  while (!stop.stop_requested()) {
    const std::string answer = ask(operation, input);
    for (const auto row : cli::rows_of(operation, answer)) std::cout << row << "\n";
    std::cout << std::flush;
    // A disk that is full, or a reader that went away, must not look like the end.
    if (!std::cout) throw Error(Error::Kind::unavailable, "What was asked for can't be written any more.");
    const auto next = cli::value_of(answer, "next");
    if (next == "null") return;
    input[operation.pages] = json::parse(next);
  }
  throw Error(Error::Kind::cancelled, "Stopped before the end.");
}

// What there is no way back from is asked for once more, where a person sits. Elsewhere the operation refuses it.
cli::Command confirmed(cli::Command command, const Ask& ask) {
  const auto* field = cli::unconfirmed(command);
  if (!field || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) return command;
  if (const auto dry = cli::dry_run_of(command))
    std::cerr << cli::render(*dry->operation, ask(*dry->operation, cli::input_of(*dry))) << "\n";
  std::cerr << fmt::format("There is no way back. Type the {} once more to go on: ", field->repeats) << std::flush;
  std::getline(std::cin, command.inputs[field->name]);
  return command;
}

int perform(const cli::Command& given, const Ask& ask, std::stop_token stop) {
  const cli::Command command = confirmed(given, ask);
  const auto& operation = *command.operation;
  json input = cli::input_of(command);
  if (command.follow) {
    SystemClock clock;
    follow(command, std::move(input), ask, stop, clock);
    return 0;
  }
  if (!operation.pages.empty()) {
    print_pages(command, std::move(input), ask, stop);
    return 0;
  }
  const std::string answer = ask(operation, input);
  if (command.json)
    std::cout << answer << "\n";
  else if (!operation.output.plain.empty())
    std::cout << nlohmann::json::parse(answer).at(operation.output.plain).get<std::string>();
  else
    std::cout << cli::render(operation, answer);
  std::cout << std::flush;
  return cli::is_well(operation, answer) ? 0 : 1;
}

// `url` says where the hub is each time it is asked: started again, it may be elsewhere.
int ask_hub(const cli::Command& command, const std::function<std::string()>& url, const std::string& token_file,
            std::stop_token stop) {
  const auto token = [&] {
    const char* given = std::getenv("DRAGOMAN_TOKEN");
    auto text = given && *given ? std::optional<std::string>(given) : read_file(token_file);
    if (text) return Secret(std::move(*text));
    Error error(Error::Kind::auth,
                fmt::format("There is no token in {}; name its file with --token-file.", token_file));
    error.code = "no_token";
    throw error;
  };
  cli::Clients clients(std::chrono::seconds(command.timeout_seconds), [&](std::chrono::seconds patience) {
    http::ClientSettings settings;
    settings.idle_timeout = patience;
    // An answer that has begun may take as long as a full export does.
    settings.total_timeout = std::chrono::hours(24);
    if (command.timeout_seconds > 0)
      settings.connect_timeout =
          std::min<std::chrono::milliseconds>(settings.connect_timeout, std::chrono::seconds(command.timeout_seconds));
    settings.body_bytes_max = 4ull << 30;
    return http::make_client(settings);
  });
  return perform(
      command,
      [&](const ops::Operation& operation, const json& input) {
        return cli::RemoteHub(url(), token(), clients).call(operation, input, stop);
      },
      stop);
}

// Who sits at this machine, for the audit log.
std::string user_name() {
  const passwd* entry = getpwuid(getuid());
  return entry ? entry->pw_name : std::to_string(getuid());
}

bool there(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

bool has_store(const Config& config) {
  const auto file = store::sqlite_path(config.store.url);
  return there(config.data_dir) && (!file || there(*file));
}

// Only what begins something makes a folder and a store: elsewhere it is a mistyped name.
void need_store(const Config& config) {
  if (has_store(config)) return;
  refuse_lost_store(config);
  const auto file = store::sqlite_path(config.store.url);
  Error error(Error::Kind::not_found,
              !there(config.data_dir) ? fmt::format("There is no {} {}; `dragoman run` makes one, and --data-dir names "
                                                    "another folder.",
                                                    file ? "store in" : "data folder", config.data_dir)
                                      : fmt::format("There is no store {}; `dragoman run` makes one.", *file));
  error.code = "no_store";
  throw error;
}

int run_command(const cli::Command& command, const Config& config, std::stop_token stop, Clock& clock, Random& random) {
  if (!command.hub.empty())
    return ask_hub(
        command, [&] { return command.hub; },
        command.token_file.empty() ? config.data_dir + "/token" : command.token_file, stop);
  const bool status = command.operation->name == "status";
  const auto no_hub = [&] {
    std::cerr << fmt::format("dragoman: no hub runs on the data folder {}; `dragoman run` starts one\n",
                             config.data_dir);
    return 1;
  };
  const bool begins = command.operation->name == "connection add";
  // A hub that runs may have been given another store than this command: it is asked, and knows.
  const bool maybe_hub = there(config.data_dir + "/hub.json");
  if (status && !maybe_hub && !has_store(config)) return no_hub();
  if (!begins && !maybe_hub) need_store(config);
  DataFolder folder(config.data_dir);
  const Micros until = clock.steady() + kFolderPatience;
  while (!folder.try_lock(clock, std::chrono::milliseconds(200))) {
    if (folder.hub_url())
      return ask_hub(
          command,
          [&] {
            if (auto url = folder.hub_url()) return std::move(*url);
            throw Error(Error::Kind::unavailable,
                        fmt::format("No hub runs on the data folder {} any more.", config.data_dir));
          },
          command.token_file.empty() ? folder.token_file() : command.token_file, stop);
    if (clock.steady() > until || stop.stop_requested())
      throw Error(Error::Kind::busy,
                  fmt::format("Another command, or a hub that is starting, holds the data folder {}. "
                              "Try again in a moment.",
                              config.data_dir));
  }
  if (status) return no_hub();
  if (!begins) need_store(config);
  Core core(config, clock, random);
  ops::Context context{core.services(), "command line", stop, fmt::format("command line ({})", user_name())};
  return perform(
      command,
      [&](const ops::Operation& operation, const json& input) { return ops::perform(operation, context, input); },
      stop);
}

int reference(const std::string& what, const std::vector<ops::Operation>& operations) {
  const auto text = reference_text(what, operations);
  if (!text) {
    std::cerr << "dragoman: there is no reference `" << what << "`; there are api, cli, config and openapi\n";
    return 64;
  }
  std::cout << *text << std::flush;
  return 0;
}

/// A whole number given to a builtin, or its default.
std::int64_t number_of(const cli::Command& command, const std::string& name, std::int64_t otherwise, std::int64_t max) {
  const auto given = command.inputs.find(name);
  if (given == command.inputs.end()) return otherwise;
  std::int64_t number = 0;
  const auto& text = given->second;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size() || number < 1 || number > max)
    throw Error(Error::Kind::invalid, fmt::format("--{} is a whole number from 1 to {}.", name, max));
  return number;
}

/// A folder for what is tried out, on the disk that the hub's data is on or would be on.
std::string trial_folder(const Config& config) {
  std::filesystem::path folder = std::filesystem::absolute(config.data_dir);
  std::error_code ignored;
  while (!std::filesystem::is_directory(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  return folder.string();
}

std::string postgres_url(const Config& config) {
  return store::sqlite_path(config.store.url) ? std::string() : config.store.url;
}

int start(int argc, const char* const* argv) {
  if (sodium_init() < 0) throw Error(Error::Kind::bug, "libsodium does not start");
  const sigset_t signals = block_stop_signals();
  const auto connectors = connectors::catalog();
  const auto operations = ops::catalog(connectors);
  const cli::Command command = cli::parse(argc, argv, operations, builtins(), setting_options(), version());
  if (command.exit_code) return *command.exit_code;
  if (command.builtin == "reference") return reference(command.arguments.front(), operations);

  SystemClock clock;
  SystemRandom random;
  const auto environment = process_environment();
  const Config config = load_config(command.config_file, environment, command.settings);
  // The hub of a selftest ends with it, however that ends.
  if (command.builtin == "selftest hub") ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (command.builtin == "run" || command.builtin == "selftest hub") {
    run_hub(config, environment, signals, clock, random, command.builtin == "run" ? connectors : selftest_connectors());
    return 0;
  }
  log::configure(log::Level::warning, config.log_file);
  StopOnSignal stopper(signals);
  if (command.builtin == "bench queue")
    return bench_queue({.postgres_url = postgres_url(config),
                        .folder = trial_folder(config),
                        .pairs = number_of(command, "pairs", 9, 1000),
                        .jobs = number_of(command, "jobs", 20'000, 10'000'000),
                        .seconds = number_of(command, "seconds", 20, 3600),
                        .json = command.json},
                       clock, random, stopper.token());
  if (command.builtin == "selftest crash")
    return selftest_crash({.postgres_url = postgres_url(config),
                           .folder = trial_folder(config),
                           .kills = number_of(command, "kills", 50, 1'000'000),
                           .seed = number_of(command, "seed", 0, INT64_MAX),
                           .json = command.json},
                          clock, random, stopper.token());
  return run_command(command, config, stopper.token(), clock, random);
}

}  // namespace
}  // namespace dragoman::app

int main(int argc, char** argv) {
  dragoman::keep_heap_small();
  using dragoman::Error;
  try {
    dragoman::kill_at_step_from_environment();
    return dragoman::app::start(argc, argv);
  } catch (const Error& error) {
    std::cerr << "dragoman: " << error.message << "\n";
    if (error.kind == Error::Kind::bug)
      std::cerr << "dragoman: this is a fault of ours (" << error.where.file_name() << ":" << error.where.line()
                << "): " << error.detail << "\n";
    // Our own refusal of a token is told apart from a remote's by its exit code alone, which is the same.
    return dragoman::policy(error.kind).exit_code;
  } catch (const std::exception& error) {
    std::cerr << "dragoman: something went wrong that was not foreseen: " << error.what() << "\n";
    return 70;
  }
}
