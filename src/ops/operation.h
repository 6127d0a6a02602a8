#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "access/tokens.h"
#include "base/clock.h"

namespace dragoman::access {
class KeyRing;
}
namespace dragoman::notify {
class Sender;
}
namespace dragoman::store {
class Store;
}
namespace dragoman::jobs {
class Board;
class Scheduler;
class Schedules;
}  // namespace dragoman::jobs
namespace dragoman::pipeline {
class Connections;
class ConnectorList;
class Inbox;
class Mapping;
class MarketOrders;
class MarketProducts;
class Marketplaces;
class Traces;
class Records;
class SyncService;
}  // namespace dragoman::pipeline

namespace dragoman::ops {

enum class Type { text, integer, boolean, time, list, object };
std::string_view name(Type type);

/// One value of an operation's input or output.
struct Field {
  std::string name;
  Type type = Type::text;
  std::string doc;
  bool required = false;
  std::string fallback;              ///< JSON text of the default; empty: left out
  std::vector<std::string> choices;  ///< of a text
  std::optional<std::int64_t> min, max;
  bool file = false;        ///< of a text: the command line reads it from a file; the audit log has its size alone
  bool secret = false;      ///< never shown; the command line reads it from a file or the terminal
  bool positional = false;  ///< an argument of the command rather than an option
  bool hidden = false;      ///< of an output: not in tables
  bool objects = false;     ///< of a list: its items are JSON objects
  std::string header{};     ///< over HTTP it comes in this header, and from nowhere else
  /// The input whose value this one says once more, because there is no way back: the command line asks for it on a
  /// terminal, after a dry run if there is one, and has `--yes` for those who need not be asked.
  std::string repeats{};
};

/// What an operation answers: an object. With `rows` set, one of its values is an array of objects, which the command
/// line shows as a table.
struct Output {
  std::vector<Field> fields;
  std::string rows;
  std::vector<Field> columns;
  std::string details{};  ///< a hidden column of lists of objects, which are shown below the table
  std::string plain{};    ///< the text that the command line prints as it stands, in place of a table
  std::string verdict{};  ///< the value that is true, 0 or an empty list when all is well; else the command ends with 1
};

/// A setting as `config show` prints it; the text of a secret one never gets here.
struct ConfigLine {
  std::string key, value, origin, doc;
};

/// What operations work on. Everything lives longer than they do.
struct Services {
  store::Store& store;
  access::Tokens& tokens;
  access::KeyRing& keys;
  pipeline::Connections& connections;
  const pipeline::ConnectorList& connectors;
  pipeline::Records& records;
  pipeline::SyncService& sync;
  notify::Sender& sender;
  jobs::Board& jobs;
  const jobs::Schedules& schedules;
  jobs::Scheduler& scheduler;
  pipeline::Inbox& inbox;
  pipeline::Mapping& mapping;
  pipeline::MarketOrders& market;
  pipeline::MarketProducts& market_products;
  pipeline::Marketplaces& marketplaces;
  pipeline::Traces& traces;
  Clock& clock;
  std::function<std::vector<ConfigLine>()> config;
  /// Seals all secrets anew under a fresh key; how many.
  std::function<std::int64_t()> rotate_key;
  std::string version;
  Time started{};
  /// Why this hub should not be given work, besides its database; empty: all is well. May be missing.
  std::function<std::string()> trouble{};
};

/// What an operation has to say for the audit log beyond its input. Texts are JSON, without secrets.
struct AuditNote {
  std::optional<std::string> subject;  ///< in place of its arguments
  std::string before;                  ///< what was there
  std::string after;                   ///< what is there now, in place of its input
};

struct Context {
  Services& services;
  std::string caller;  ///< the token's name, or `command line`
  std::stop_token stop;
  std::string actor{};  ///< for the audit log: `token …`; empty: as `caller`
  AuditNote note{};     ///< the operation may fill it in
};

/// Takes one entry of a stream; false when nobody listens any more. `id` may be empty.
using Emit = std::function<bool(std::string_view id, std::string_view event, std::string_view json)>;

/// One thing that the hub can be asked to do. REST route, OpenAPI path and command follow from it (and so will the
/// tool for agents).
struct Operation {
  std::string name;         ///< `connection add`: the command's words
  std::string summary;      ///< one line
  std::string description;  ///< what else there is to know, in Markdown
  std::string method;       ///< of REST: GET if it changes nothing
  std::string path;         ///< below /api/v1; `{name}` is the input of that name
  access::Role permission = access::Role::viewer;
  std::vector<Field> inputs;
  Output output;
  /// Gets checked input, returns the text of a JSON object: captured bodies go into it byte for byte.
  /// Threads: safe from any thread.
  std::function<std::string(Context&, const nlohmann::json&)> run;
  /// Of one that takes no input: what `run` answers, if that is in memory, without ever waiting. May be empty.
  std::function<std::optional<std::string>(Context&)> at_once{};
  /// Of one that `audits_itself`: `run` in two parts, neither of which waits, so that it takes no thread while others
  /// share its commit. `begin` checks the input, and returns what does the rest: that is called once, and tells what it
  /// is given soon after, from any thread, by a function that returns the answer or throws. May be empty.
  using Result = std::function<std::string()>;
  std::function<std::function<void(std::function<void(Result)>)>(Context&, const nlohmann::json&)> begin{};
  /// Where it can be followed: emits until nobody listens. May be empty.
  std::function<void(Context&, const nlohmann::json&, const Emit&)> follow;
  /// Throws what `follow` would refuse, while an error can still be answered as one. May be empty.
  std::function<void(Context&, const nlohmann::json&)> check_follow{};
  /// Of `follow`: the input that says from where on, set from a reader's last event id.
  std::string resume;
  /// May take long, or waits on purpose (an input `wait` that is not 0): the API lets only some run at once.
  bool slow = false;
  int status = 200;  ///< of the answer when it went well
  /// The input that says after what the next page begins. The command line asks for page after page, with `next` of the
  /// answer, until that is null, and prints every row as a line of JSON. May be empty.
  std::string pages{};
  /// `run` appends the audit entry itself, in the transaction of its effect: for what is done many times a second.
  bool audits_itself = false;
  bool changes() const { return method != "GET"; }
};

/// Every operation there is, in the order in which they are shown.
std::vector<Operation> catalog(const pipeline::ConnectorList& connectors);
const Operation* find(const std::vector<Operation>& operations, std::string_view name);

/// Runs an operation; the one place where this is done. One that changes something leaves an entry in the audit log
/// whatever becomes of it, even if the hub dies meanwhile: who, what with which input (fields marked secret left out),
/// why (the input `reason`), and the outcome. What can't be noted there does not begin. A dry run (the input `dry_run`)
/// changes nothing, and leaves none.
///
/// Errors  what `run` throws; as Store::write.
std::string perform(const Operation& operation, Context& context, const nlohmann::json& input);

/// Input checked against the operation's fields: nothing unknown, nothing missing, every value of its type, defaults
/// filled in. Throws invalid, code `input`, naming the field and what it takes.
nlohmann::json check_input(const Operation& operation, nlohmann::json input);

/// The value that a text from a query or the command line stands for: a list may be given by commas or as JSON.
/// Throws as check_input.
nlohmann::json value_of(const Field& field, const std::string& text);

/// A request's body. Throws invalid: code `json` (not JSON, not UTF-8), `json_depth` (deeper than 32), `duplicate` (a
/// name twice in one object).
nlohmann::json parse_body(std::string_view text);

/// JSON text; what is not UTF-8 inside becomes U+FFFD.
std::string dump(const nlohmann::json& value);

/// JSON Schema (2020-12) of an operation's input or output.
nlohmann::ordered_json input_schema(const Operation& operation);
nlohmann::ordered_json output_schema(const Operation& operation);

}  // namespace dragoman::ops
