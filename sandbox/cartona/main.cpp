// sandbox-cartona: a stand-in Cartona as a program of its own.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>

#include "sandbox/cartona/server.h"

namespace {

using sandbox::cartona::Json;

/// KEY=value lines, as sandbox-odoo writes them.
void write_ready_file(const std::string& path, const sandbox::cartona::Server& server,
                      const sandbox::cartona::Start& start) {
  const std::string temporary = path + ".new";
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << "CARTONA_URL=" << server.base_url() << "\nCARTONA_CONTROL=" << server.control_url()
        << "\nCARTONA_ACCOUNTS=" << start.accounts << "\n";
    for (std::size_t i = 1; i <= start.accounts; ++i) out << "CARTONA_TOKEN_" << i << "=cartona-token-" << i << "\n";
    if (start.accounts > 0) out << "CARTONA_TOKEN=cartona-token-1\n";
    out << "CARTONA_SANDBOX=1\nCARTONA_PID=" << ::getpid() << "\n";
    if (!out) throw std::runtime_error("cannot write " + temporary);
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) throw std::runtime_error("cannot write " + path);
}

Json products_from(const std::string& what) {
  if (what == "demo") return nullptr;
  if (what == "none") return Json::array();
  std::ifstream in(what);
  if (!in) throw std::runtime_error("cannot read " + what);
  Json rows = Json::parse(in, nullptr, false);
  if (rows.is_object() && rows.contains("products")) rows = Json(rows["products"]);
  if (!rows.is_array()) throw std::runtime_error(what + " must hold a JSON list of products");
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"A stand-in Cartona: the supplier's API, shops, drivers and bad days, in memory."};
  app.footer(sandbox::cartona::switches_help());
  sandbox::cartona::Options options;
  std::string ready_file, products = "demo", scenario;
  std::vector<std::string> switches;
  double speed = 60, approvals = 0;
  std::size_t orders = 400;
  bool markdown = false;
  app.add_option("--bind", options.bind, "address to listen on")->capture_default_str();
  app.add_option("--port", options.port, "port; 0 takes a free one")->capture_default_str();
  app.add_option("--prefix", options.start.prefix, "what every path of the API begins with")->capture_default_str();
  app.add_option("--accounts", options.start.accounts,
                 "accounts cartona-1, cartona-2, … with tokens cartona-token-1, …")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  app.add_option("--supplier-codes", options.start.codes, "supplier_codes under each token: 1, 2, …")
      ->capture_default_str()
      ->check(CLI::Range(1, 9));
  app.add_option("--products", products, "demo (60 invented ones), none, or a JSON file with a list of them")
      ->capture_default_str();
  app.add_option("--seed", options.start.seed, "seed of everything generated")->capture_default_str();
  app.add_option("--switch", switches, "NAME=VALUE, may be repeated; they are listed below");
  app.add_option("--scenario", scenario, "day: a trading day plays from the beginning")->check(CLI::IsMember({"day"}));
  app.add_option("--speed", speed, "seconds of the scenario in a second; 0: steps by hand")->capture_default_str();
  app.add_option("--orders", orders, "orders of the scenario for each supplier_code")->capture_default_str();
  app.add_option("--approvals", approvals, "share of them that people approve within minutes in Cartona's own pages")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--state", options.state,
                 "a file that its end leaves accounts, products and orders in, and the next start goes on from");
  app.add_option("--ready-file", ready_file, "written when requests are accepted: KEY=value lines");
  app.add_flag("--markdown-switches", markdown, "prints the table of the switches for the reference page, and ends");
  CLI11_PARSE(app, argc, argv);
  if (markdown) {
    std::cout << sandbox::cartona::switches_markdown();
    return 0;
  }

  // Blocked before any thread starts, so that only sigwait below meets them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    for (const auto& text : switches) {
      const auto equals = text.find('=');
      if (equals == std::string::npos) throw std::runtime_error("--switch needs NAME=VALUE, not '" + text + "'");
      options.start.switches.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
    options.start.products = products_from(products);
    if (!scenario.empty()) {
      options.scenario = {{"scenario", scenario},
                          {"seed", options.start.seed},
                          {"speed", speed},
                          {"orders", orders},
                          {"approvals", approvals}};
    }
    sandbox::cartona::Server server(options);
    server.start();
    std::cout << "sandbox-cartona listening on " << server.base_url() << " control=" << server.control_url()
              << std::endl;
    if (!ready_file.empty()) write_ready_file(ready_file, server, options.start);
    int received = 0;
    sigwait(&signals, &received);
    server.stop();
  } catch (const std::exception& error) {
    std::cerr << "sandbox-cartona: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
