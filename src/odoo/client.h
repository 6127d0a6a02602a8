#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/secret.h"
#include "http/client.h"
#include "odoo/domain.h"
#include "odoo/gate.h"

namespace dragoman::odoo {

enum class Transport { json2, json_rpc, xml_rpc };

/// `json2`, `json_rpc`, `xml_rpc`.
std::string_view name(Transport transport);

struct Settings {
  std::string url;       ///< `https://erp.example.com`, no path needed
  std::string database;  ///< empty: asked of the server, if it serves just one
  std::string login;     ///< not needed with an API key on JSON-2
  Secret password;       ///< or API key: Odoo takes either
  /// Default: by the server's version: 19 and later JSON-2 if the secret looks like an API key (40 hexadecimal
  /// digits), else JSON-RPC.
  std::optional<Transport> transport;
  http::ClientSettings http;
  /// How many calls at once; 0: learnt. Bulk work takes max(1, workers − 1) unless bulk_share_all.
  int workers = 0;
  /// What an earlier run learnt (Stats::learnt_workers); 0: nothing. Only where workers is 0.
  int learnt_workers = 0;
  bool bulk_share_all = false;
  Micros trial_spacing = std::chrono::minutes(1);  ///< as GateSettings has it
};

struct Version {
  int major = 0;  ///< 19; of `saas~18.2` 18
  int minor = 0;
  bool saas = false;
  std::string text;  ///< as the server says it
};

/// Reads `server_version_info`, `[19,0,0,"final",0,""]` or `["saas~18",2,…]`. nullopt if it is neither.
std::optional<Version> parse_version(std::string_view info_json, std::string_view text);

/// The answer to one call.
struct Answer {
  /// The result's own bytes as JSON, with spare capacity behind the end for simdjson. `null` where Odoo gave no result.
  /// By XML-RPC: its JSON equivalent, in the bytes that Odoo's JSON-RPC would give.
  ///
  /// Whole JSON in UTF-8, not nested deeper than 512; but of `search_read` and `read` only the envelope is checked:
  /// json::PageReader checks every byte when it cuts the page.
  std::string json;
  std::size_t begin = 0, end = 0;  ///< the result within `json`
  Micros sent{}, received{};       ///< by our steady clock; of two calls the first's and the last's
  /// The `Date` of the answer: the server's own time in whole seconds, somewhere between sent and received.
  std::optional<Time> server_date;
  std::string_view result() const { return std::string_view(json).substr(begin, end - begin); }
};

struct CallOptions {
  Lane lane = Lane::interactive;
  /// Companies that the call may see; the first is the current one. Empty: the user's own.
  std::vector<std::int64_t> companies;
  /// Added to the context, a JSON object's text; `{"active_test":false}`.
  std::string context;
  /// The call changes nothing: a lost answer is `unavailable` and safe to repeat, not `in_doubt`. Reading methods of
  /// Client set it by themselves.
  bool read_only = false;
  std::stop_token stop;
};

/// How many2one values come: as `[id, "name"]`, or as the id alone (cheaper; Odoo 14 included).
enum class Names { ids, names };

struct ReadOptions {
  std::vector<std::string> fields;
  std::string order = "id";
  std::int64_t limit = 0;  ///< 0: no limit
  std::int64_t offset = 0;
  Names names = Names::ids;
};

/// One Odoo database seen through one account.
///
/// Errors (every call)  unavailable (network, 502–504, Odoo's own database down (code `odoo_database_down`), worker
///   killed before an answer when read_only), in_doubt (a write was sent and no answer came, a stop while it was out
///   included), auth (AccessDenied, 401: code `odoo_auth`), forbidden (AccessError: code `odoo_access`; its message
///   names the model and field if Odoo did), not_found (MissingError, unknown model or method or database: code
///   `odoo_missing`, `odoo_model`, `odoo_method`, `odoo_database`), invalid (UserError, ValidationError, ValueError,
///   TypeError: code `odoo_user`, `odoo_validation`, `odoo_argument`, `odoo_error` for any other exception inside
///   Odoo), conflict (serialization failure: code `odoo_serialization`; it was rolled back, retry is right), busy (429,
///   503 with Retry-After), protocol (not an Odoo (code `not_odoo`), a web page (`html`), redirect (`redirect`), broken
///   or over-deep JSON), cancelled.
///   Tracebacks are only in `detail`, and without secrets.
/// Threads: safe from any thread; a call blocks its caller, first for a place (see Lane), then for the answer.
class Client {
 public:
  Client(Settings settings, Clock& clock);
  Client(Settings settings, Clock& clock, std::unique_ptr<http::Client> http);
  ~Client();

  /// Asks once, remembers. Works without a database or login.
  Version version(std::stop_token stop = {});
  Transport transport(std::stop_token stop = {});
  /// The databases that the server lists; throws forbidden where listing is turned off.
  std::vector<std::string> databases(std::stop_token stop = {});
  /// The one in use: the settings', or the only one that the server lists. Empty only on JSON-2, where the server
  /// chooses it.
  std::string database(std::stop_token stop = {});
  /// Logs in (asks once, remembers): the user's id.
  std::int64_t user_id(std::stop_token stop = {});

  /// Any public method. `args` is a JSON array's text, `kwargs` a JSON object's; empty: none. On JSON-2, which has
  /// named arguments only, `args` is mapped by a table of the known methods, and refused as invalid for others unless
  /// it is empty or holds the ids alone.
  ///
  /// By XML-RPC a method that returns None cannot be answered by Odoo, although it was done: that is a `null` answer
  /// here, and for a read_only call (where the None may be inside of a result) protocol, code `xml_rpc_none`. Actions
  /// are better called by another transport.
  Answer call(std::string_view model, std::string_view method, std::string_view args, std::string_view kwargs,
              const CallOptions& options);

  /// Both by search_read where the server can do it in one call (ids mode before 17: search, then read).
  Answer search_read(std::string_view model, const Domain& domain, const ReadOptions& read, const CallOptions& options);
  /// Records that are gone are left out. `read.order`, limit and offset are not used. Beware: with `id` as the only
  /// field, Odoo 17 and later answer for records that are gone, too.
  Answer read(std::string_view model, const std::vector<std::int64_t>& ids, const ReadOptions& read,
              const CallOptions& options);
  std::vector<std::int64_t> search(std::string_view model, const Domain& domain, const ReadOptions& page,
                                   const CallOptions& options);
  std::int64_t search_count(std::string_view model, const Domain& domain, const CallOptions& options);
  /// `attributes` empty: all.
  Answer fields_get(std::string_view model, const std::vector<std::string>& attributes, const CallOptions& options);
  /// The new ids, in the order of `vals_list` (an array; a single object counts as one).
  std::vector<std::int64_t> create(std::string_view model, const nlohmann::json& vals_list, const CallOptions& options);
  void write(std::string_view model, const std::vector<std::int64_t>& ids, const nlohmann::json& vals,
             const CallOptions& options);
  void unlink(std::string_view model, const std::vector<std::int64_t>& ids, const CallOptions& options);
  /// `{"ids":[…]|false,"messages":[…]}` as Odoo says it; rows that it refuses are in the messages, and then nothing was
  /// saved. Only its "could not serialize access" becomes an Error (conflict): that may be repeated.
  Answer load(std::string_view model, const std::vector<std::string>& fields, const nlohmann::json& rows,
              const CallOptions& options);

  struct Stats {
    std::int64_t calls = 0, failures = 0, bytes_received = 0;
    int places = 0;  ///< calls at once that it takes to be right now
    int bulk_places = 0;
    int learnt_workers = 0;  ///< keep it, and give it as Settings::learnt_workers the next time; 0: nothing yet
    double latency_ms = 0;   ///< moving average
  };
  Stats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dragoman::odoo
