// sandbox-odoo: a stand-in Odoo as a program of its own.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>

#include "sandbox/odoo/server.h"

namespace {

/// KEY=value lines, as the tools around a real Odoo write them too.
void write_ready_file(const std::string& path, const sandbox::odoo::Server& server) {
  const std::string temporary = path + ".new";
  {
    std::ofstream out(temporary, std::ios::trunc);
    const auto& options = server.options();
    out << "ODOO_URL=" << server.url() << "\nODOO_DB=" << options.db
        << "\nODOO_USERNAME=admin\nODOO_PASSWORD=" << options.admin_password << "\nODOO_API_KEY=" << options.admin_key
        << "\nODOO_VERSION=" << options.series << "\nODOO_WORKERS=" << options.workers
        << "\nODOO_LIMITED_USERNAME=limited\nODOO_LIMITED_PASSWORD=" << options.limited_password
        << "\nODOO_LIMITED_API_KEY=" << options.limited_key << "\nODOO_SANDBOX=1\nODOO_PID=" << ::getpid() << "\n";
    if (!out) throw std::runtime_error("cannot write " + temporary);
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) throw std::runtime_error("cannot write " + path);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"A stand-in Odoo: the transports, records and bad days of a real one, in memory."};
  sandbox::odoo::Options options;
  std::string ready_file;
  std::vector<std::string> fills;
  int timeout_ms = 2000;
  app.add_option("--series", options.series, "Odoo series to be: 14, 17, 18 or 19")->capture_default_str();
  app.add_option("--db", options.db, "name of the database")->capture_default_str();
  app.add_option("--bind", options.bind, "address to listen on")->capture_default_str();
  app.add_option("--port", options.port, "port; 0 takes a free one")->capture_default_str();
  app.add_option("--workers", options.workers, "HTTP workers: requests served at once")->capture_default_str();
  app.add_option("--socket-timeout-ms", timeout_ms, "how long a silent connection keeps its worker")
      ->capture_default_str();
  app.add_option("--seed-data", options.seed_data, "small (a trading company) or none")->capture_default_str();
  app.add_option("--seed", options.seed, "seed of everything generated")->capture_default_str();
  app.add_option("--state", options.state,
                 "a file that its end leaves what it holds in, and the next start goes on from");
  app.add_option("--fill", fills, "MODEL=N generated records, may be repeated");
  app.add_option("--churn", options.churn_per_second, "writes a second by people at work")->capture_default_str();
  app.add_option("--ready-file", ready_file, "written when requests are accepted: KEY=value lines");
  app.add_option("--password", options.admin_password, "password of admin")->capture_default_str();
  app.add_option("--api-key", options.admin_key, "API key of admin")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  options.socket_timeout = std::chrono::milliseconds(timeout_ms);

  // Blocked before any thread starts, so that only sigwait below meets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    for (const auto& text : fills) {
      const auto equals = text.find('=');
      if (equals == std::string::npos) throw std::runtime_error("--fill needs MODEL=N, not '" + text + "'");
      options.fill.emplace_back(text.substr(0, equals), std::stoull(text.substr(equals + 1)));
    }
    sandbox::odoo::Server server(options);
    server.start();
    std::cout << "sandbox-odoo listening on " << server.url() << " db=" << options.db << " series=" << options.series
              << std::endl;
    if (!ready_file.empty()) write_ready_file(ready_file, server);
    int received = 0;
    sigwait(&signals, &received);
    server.stop();
  } catch (const std::exception& error) {
    std::cerr << "sandbox-odoo: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
