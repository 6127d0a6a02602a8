// The only file that includes CLI11.
#include "cli/command_line.h"

#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/text.h"

namespace dragoman::cli {
namespace {

using nlohmann::json;

constexpr int kUsage = 64;

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string doc_of(const ops::Field& field) {
  std::string doc = field.doc;
  if (!field.choices.empty()) {
    std::string choices;
    for (const auto& choice : field.choices) choices += (choices.empty() ? "" : ", ") + choice;
    doc += doc.empty() ? choices : " (" + choices + ")";
  }
  if (!field.fallback.empty() && field.fallback != R"("")" && field.type != ops::Type::boolean)
    doc += " [" + json::parse(field.fallback).dump() + "]";
  return doc;
}

// Where CLI11 leaves what was typed.
struct Values {
  std::map<std::string, std::string> texts;
  std::map<std::string, std::vector<std::string>> lists;
  std::map<std::string, bool> flags;
  std::string secret_file;
};

void add_field(CLI::App& command, const ops::Field& field, Values& values) {
  if (field.secret) {
    command.add_option("--" + dashed(field.name) + "-file", values.secret_file,
                       field.doc + "; read from this file, `-` for standard input; left out: asked for on a terminal");
    return;
  }
  const std::string name = field.positional ? dashed(field.name) : "--" + dashed(field.name);
  CLI::Option* option = nullptr;
  if (field.type == ops::Type::list && field.positional)
    option = command.add_option(name, values.lists[field.name], doc_of(field));
  else if (field.type == ops::Type::boolean)
    option = command.add_flag(fmt::format("--{0},!--no-{0}", dashed(field.name)), values.flags[field.name],
                              doc_of(field) + (field.fallback == "true" ? " [on]" : ""));
  else
    option = command.add_option(name, values.texts[field.name], doc_of(field));
  if (field.required && field.repeats.empty()) option->required();  // that is asked for
}

const ops::Field* repeating(const ops::Operation& operation) {
  for (const auto& field : operation.inputs)
    if (!field.repeats.empty()) return &field;
  return nullptr;
}

// The first words typed that are no command; empty: they are, or an option comes first.
std::string no_command(int argc, const char* const* argv, const std::vector<std::string>& names) {
  std::string first, typed;
  for (int i = 1; i < argc && typed.empty(); ++i) {
    const std::string word(argv[i]);
    if (word.starts_with('-')) return {};
    const std::string whole = first.empty() ? word : first + " " + word;
    const auto known = [&](const std::string& name) { return name == whole || name.starts_with(whole + " "); };
    if (std::any_of(names.begin(), names.end(), known))
      first = whole;
    else
      typed = whole;
  }
  return typed;
}

std::string read_secret(const std::string& file, const ops::Field& field) {
  std::string text;
  if (file == "-") {
    std::getline(std::cin, text);
  } else if (!file.empty()) {
    std::error_code ignored;
    if (std::filesystem::is_directory(file, ignored))
      throw Error(Error::Kind::invalid, fmt::format("{} is a folder, and is to be a file.", file));
    std::ifstream in(file);
    std::ostringstream all;
    all << in.rdbuf();
    if (!in) throw Error(Error::Kind::invalid, fmt::format("The file {} can't be read.", file));
    text = all.str();
  } else if (isatty(STDIN_FILENO)) {
    std::cerr << (field.name == "code" ? "Code: " : "Password or API key: ") << std::flush;
    termios before{};
    tcgetattr(STDIN_FILENO, &before);
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &silent);
    std::getline(std::cin, text);
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    std::cerr << "\n";
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

std::string read_file(const std::string& file) {
  std::ostringstream all;
  if (file == "-") {
    all << std::cin.rdbuf();
    return all.str();
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) throw Error(Error::Kind::invalid, fmt::format("The file {} can't be read.", file));
  all << in.rdbuf();
  return all.str();
}

}  // namespace

Command parse(int argc, const char* const* argv, const std::vector<ops::Operation>& operations,
              const std::vector<Builtin>& builtins, const std::vector<SettingOption>& options,
              const std::string& version) {
  CLI::App app("Dragoman, the integration hub for Odoo: it loses nothing, does nothing twice, and shows everything.",
               "dragoman");
  Command command;
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", version);
  std::map<std::string, std::string> settings;
  for (const auto& option : options) app.add_option(option.flag, settings[option.key], option.doc)->group("Settings");
  app.add_option("--config", command.config_file, "file with settings (docs/reference/config.md)")
      ->envname("DRAGOMAN_CONFIG")
      ->group("Settings");
  app.add_option("--hub", command.hub, "ask the hub at this address instead of the one on the data folder")
      ->envname("DRAGOMAN_HUB")
      ->group("Settings");
  app.add_option("--token-file", command.token_file, "file with the token for --hub [token in the data folder]")
      ->group("Settings");
  app.add_option("--timeout", command.timeout_seconds,
                 "seconds that a hub may take to begin its answer, 0: any; what takes long by nature may [60]")
      ->check(CLI::Range(0, 86'400))
      ->group("Settings");
  app.add_flag("--json", command.json, "print the answer as JSON")->group("Settings");

  std::map<const CLI::App*, const Builtin*> of_builtin;
  std::map<std::string, CLI::App*> nouns;
  const auto parent_of = [&](const std::string& name) {
    const auto space = name.find(' ');
    if (space == std::string::npos) return &app;
    const std::string noun = name.substr(0, space);
    auto& known = nouns[noun];
    if (!known) {
      known = app.add_subcommand(noun, noun + " commands")->fallthrough();
      known->require_subcommand(1);
    }
    return known;
  };
  const auto verb_of = [](const std::string& name) { return name.substr(name.find(' ') + 1); };
  std::map<const Builtin*, std::map<std::string, std::string>> options_of;
  for (const auto& builtin : builtins) {
    auto* sub = parent_of(builtin.name)->add_subcommand(verb_of(builtin.name), builtin.summary)->fallthrough();
    if (!builtin.shown) sub->group("");
    if (!builtin.arguments.empty())
      sub->add_option(builtin.arguments.front(), command.arguments, "")
          ->expected(static_cast<int>(builtin.arguments.size()))
          ->required();
    for (const auto& option : builtin.options)
      sub->add_option("--" + option.name, options_of[&builtin][option.name], option.doc);
    of_builtin[sub] = &builtin;
  }
  std::map<const CLI::App*, const ops::Operation*> of_operation;
  std::map<const CLI::App*, std::unique_ptr<Values>> values;
  for (const auto& operation : operations) {
    auto* sub = parent_of(operation.name)->add_subcommand(verb_of(operation.name), operation.summary)->fallthrough();
    if (!operation.description.empty()) sub->footer(operation.description);
    auto& of_sub = values[sub] = std::make_unique<Values>();
    // Single arguments come before a list, which takes all that is left.
    for (const auto& field : operation.inputs) add_field(*sub, field, *of_sub);
    if (const auto* field = repeating(operation))
      sub->add_flag("--yes", command.yes,
                    fmt::format("as --{} with the right {}", dashed(field->name), field->repeats));
    if (operation.follow) sub->add_flag("--follow", command.follow, "go on with what is new, until stopped");
    of_operation[sub] = &operation;
  }
  // `connection commands` says little: the verbs say more.
  for (auto& [noun, sub] : nouns) {
    std::string verbs;
    for (const auto* verb : sub->get_subcommands([](CLI::App* one) { return !one->get_group().empty(); }))
      verbs += (verbs.empty() ? "" : ", ") + verb->get_name();
    sub->description(verbs);
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool help = error.get_exit_code() == 0;
    const int code = app.exit(error, std::cout, std::cerr);
    command.exit_code = help ? code : kUsage;
    if (!help) {
      std::vector<std::string> names;
      const auto known = [&](const std::string& name) {
        names.push_back(name);
        // A noun alone is what a misspelt noun is near to.
        if (const auto space = name.find(' '); space != std::string::npos) names.push_back(name.substr(0, space));
      };
      for (const auto& builtin : builtins)
        if (builtin.shown) known(builtin.name);
      for (const auto& operation : operations) known(operation.name);
      if (const std::string typed = no_command(argc, argv, names); !typed.empty()) {
        const std::string near = nearest(typed, names);
        std::cerr << "There is no command `dragoman " << typed << "`.";
        if (!near.empty()) std::cerr << " Did you mean `dragoman " << near << "`?";
        std::cerr << "\n";
      }
    }
    return command;
  }

  for (const auto& [key, text] : settings)
    if (!text.empty()) command.settings[key] = text;
  const CLI::App* chosen = app.get_subcommands().front();
  if (!of_operation.count(chosen) && !of_builtin.count(chosen)) chosen = chosen->get_subcommands().front();
  if (const auto builtin = of_builtin.find(chosen); builtin != of_builtin.end()) {
    command.builtin = builtin->second->name;
    for (const auto& [name, text] : options_of[builtin->second])
      if (!text.empty()) command.inputs[name] = text;
    return command;
  }
  command.operation = of_operation.at(chosen);
  Values& typed = *values.at(chosen);
  command.secret_file = typed.secret_file;
  for (const auto& field : command.operation->inputs) {
    if (field.secret) continue;
    if (field.type == ops::Type::boolean) {
      if (chosen->get_option("--" + dashed(field.name))->count() > 0)
        command.inputs[field.name] = typed.flags[field.name] ? "true" : "false";
    } else if (field.type == ops::Type::list && field.positional) {
      if (!typed.lists[field.name].empty()) command.inputs[field.name] = json(typed.lists[field.name]).dump();
    } else {
      const auto* option = chosen->get_option((field.positional ? "" : "--") + dashed(field.name));
      if (option->count() > 0) command.inputs[field.name] = typed.texts[field.name];
    }
  }
  return command;
}

json input_of(const Command& command) {
  json input = json::object();
  for (const auto& field : command.operation->inputs) {
    if (field.secret) {
      // Changing something else about a connection needs no secret, so nobody is asked for it.
      if (!command.secret_file.empty() || command.operation->method == "POST") {
        std::string text = read_secret(command.secret_file, field);
        if (text.empty() && !command.secret_file.empty())
          throw Error(Error::Kind::invalid,
                      fmt::format("There is nothing in {}, from which the {} was to be read.",
                                  command.secret_file == "-" ? "the standard input" : command.secret_file, field.name));
        if (text.empty() && field.required)
          throw Error(Error::Kind::invalid,
                      fmt::format("`{0}` needs `{1}`: {2}. On a terminal it is asked for, else `--{3}-file FILE` says "
                                  "where it stands (`-`: the standard input).",
                                  command.operation->name, field.name, field.doc, dashed(field.name)));
        if (!text.empty()) input[field.name] = std::move(text);
      }
    } else if (const auto typed = command.inputs.find(field.name); typed != command.inputs.end()) {
      input[field.name] = field.file ? json(read_file(typed->second)) : ops::value_of(field, typed->second);
    }
  }
  if (const auto* field = repeating(*command.operation);
      field && command.yes && !input.contains(field->name) && input.contains(field->repeats))
    input[field->name] = input[field->repeats];
  return ops::check_input(*command.operation, std::move(input));
}

const ops::Field* unconfirmed(const Command& command) {
  const auto* field = repeating(*command.operation);
  if (!field || command.yes || command.inputs.contains(field->name)) return nullptr;
  const auto dry = command.inputs.find("dry_run");
  return dry != command.inputs.end() && dry->second == "true" ? nullptr : field;
}

std::optional<Command> dry_run_of(const Command& command) {
  for (const auto& field : command.operation->inputs) {
    if (field.name != "dry_run") continue;
    Command dry = command;
    dry.inputs["dry_run"] = "true";
    return dry;
  }
  return std::nullopt;
}

std::string reference(const std::vector<ops::Operation>& operations, const std::vector<Builtin>& builtins,
                      const std::vector<SettingOption>& options) {
  std::string out =
      "# Commands\n\n"
      "Written from the operations' own declarations; do not edit. When a hub runs on the data folder (or `--hub URL` "
      "names one), commands go to it over its API; else they work on the store themselves. Where there is no store, "
      "only `run` "
      "and `connection add` make one. `status` tells of a running hub alone. Answers go to standard "
      "output, as a table or, with `--json`, as JSON; messages go to standard error.\n\n"
      "Exit codes: 0 done; 1 done, and what was asked about is not well (a failed test, differences, models that "
      "failed); 64 wrong usage; 65 refused (wrong input, not there, conflict, forbidden); 70 a bug; 75 not now, try "
      "again; 77 credentials refused; 130 stopped.\n\n"
      "## Every command takes\n\n| Option | What it is |\n|---|---|\n";
  for (const auto& option : options) out += fmt::format("| `{}` | {} |\n", option.flag, option.doc);
  out +=
      "| `--config` | file with settings (`DRAGOMAN_CONFIG`) |\n"
      "| `--hub` | ask the hub at this address instead of the one on the data folder (`DRAGOMAN_HUB`) |\n"
      "| `--token-file` | file with the token for `--hub`; default: `token` in the data folder |\n"
      "| `--timeout` | seconds that a hub may take to begin its answer, 0: any; what takes long by nature, such as "
      "`sync run` or `certify`, and `--follow` are not cut off [60] |\n"
      "| `--json` | print the answer as JSON |\n\n";
  for (const auto& builtin : builtins) {
    if (!builtin.shown) continue;
    std::string usage = "dragoman " + builtin.name;
    for (const auto& argument : builtin.arguments) usage += " " + argument;
    out += fmt::format("## `{}`\n\n{}.\n\n", usage, builtin.summary);
    if (builtin.options.empty()) continue;
    out += "| Option | What it is |\n|---|---|\n";
    for (const auto& option : builtin.options) out += fmt::format("| `--{}` | {} |\n", option.name, option.doc);
    out += "\n";
  }
  for (const auto& operation : operations) {
    std::string usage = "dragoman " + operation.name;
    for (const auto& field : operation.inputs) {
      if (!field.positional) continue;
      const std::string shown = dashed(field.name) + (field.type == ops::Type::list ? "..." : "");
      usage += field.required ? " " + shown : " [" + shown + "]";
    }
    out += fmt::format("## `{}`\n\n{}.", usage, operation.summary);
    if (!operation.description.empty()) out += " " + operation.description;
    out += fmt::format(" Role: {}. REST: `{} /api/v1{}`.\n\n", access::name(operation.permission), operation.method,
                       operation.path);
    if (operation.inputs.empty() && !operation.follow) continue;
    out += "| Argument or option | Type | What it is |\n|---|---|---|\n";
    for (const auto& field : operation.inputs) {
      std::string name = field.positional                   ? dashed(field.name)
                         : field.secret                     ? "--" + dashed(field.name) + "-file"
                         : field.type == ops::Type::boolean ? fmt::format("--{0}, --no-{0}", dashed(field.name))
                                                            : "--" + dashed(field.name);
      out += fmt::format("| `{}` | {} | {}{} |\n", name, field.secret || field.file ? "file" : ops::name(field.type),
                         doc_of(field), field.required ? " (needed)" : "");
    }
    if (const auto* field = repeating(operation))
      out += fmt::format("| `--yes` | boolean | as `--{}` with the right {}; without either, a terminal is asked |\n",
                         dashed(field->name), field->repeats);
    if (operation.follow) out += "| `--follow` | boolean | go on with what is new, until stopped |\n";
    out += "\n";
  }
  out.pop_back();
  return out;
}

}  // namespace dragoman::cli
