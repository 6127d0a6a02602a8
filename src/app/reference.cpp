#include "app/reference.h"

#include <fmt/format.h>

#include "api/api.h"
#include "app/config.h"
#include "app/core.h"

namespace dragoman::app {
namespace {

constexpr std::string_view kApi = R"(# The HTTP API

Written from the operations' own declarations; do not edit. The exact shapes are in `contract/openapi.json`, which a
running hub also serves at `/api/v1/openapi.json`.

**Token.** Every operation needs `Authorization: Bearer TOKEN`. The first start makes an admin token, shows it once on a terminal and
keeps it for the commands of its own machine in the file `token` of the data folder. `dragoman token create` makes more.
Roles: viewer < user < manager < admin; each may do all that those below it may.

**Input.** Names in braces are part of the path. Of GET and DELETE the rest goes into the query, of POST and PATCH into a
JSON object (`Content-Type: application/json`). Unknown names, and a name given twice, are refused.

**Answers.** JSON objects. The bodies of captured records are in them byte for byte: read numbers as text where digits
matter.

**Errors.** `{"error":{"kind","code","message","hint"?,"request_id"}}`. `message` is for a person, `code` is a stable
word, `request_id` is also in the header `X-Request-Id` and in the hub's log.

| Status | Kind | When |
|---|---|---|
| 400, 413, 415, 431 | invalid | no well-formed HTTP, or too large |
| 401 | auth | no token, or one that is unknown or has ended |
| 403 | forbidden | the role may not do this, or the remote account may not |
| 404 | not_found | what was named does not exist |
| 405 | invalid | the address is known, but not with this method; `Allow` says which it takes |
| 409 | conflict | the state of the thing does not allow it |
| 422 | invalid | the input is wrong; the message names what |
| 429 | busy | too many requests; `Retry-After` says when to come back |
| 500 | bug | a fault of the hub |
| 502 | auth, protocol | the remote refused our credentials, or answered something unexpected |
| 503 | unavailable, busy, cancelled | not reached, or the hub is full or stopping; try again |
| 504 | in_doubt | sent to the remote, and no answer came: it may have been done |

**Changes as they happen.** `GET /api/v1/changes` with `Accept: text/event-stream` answers with server-sent events: the
event's id is the change's number, its name the kind, its data the change. A reader that comes back with `Last-Event-ID`
gets what it missed. A quiet stream sends a comment every 15 seconds. A reader that stays 256 KB behind for
`http.write_seconds` is dropped, and goes on with `Last-Event-ID` when it comes back.

A reader that remembers a number above the newest is refused (409, `feed_behind`), as events and as a list: the database
was restored from a backup, or is another. The message says from which number to start again.

**For machines.** `/healthz`: the process lives (no token). `/readyz`: the database takes writes and has room for them (no
token). `/metrics`:
Prometheus' text form (this machine without a token, others with one; setting `http.metrics`).

| Request | What it does | Role |
|---|---|---|
)";

}  // namespace

const std::vector<cli::Builtin>& builtins() {
  static const std::vector<cli::Builtin> all{
      {"run", "Starts the hub and works until it is stopped (Ctrl-C, SIGTERM)", {}},
      {"reference",
       "Prints what is written of the program from its declarations: api, cli, config or openapi",
       {"what"}},
      {"bench queue",
       "Measures the queue on this machine and the configured store, beside bare floors in the same run; exit code 1 "
       "if a "
       "goal was missed (docs/reference/selftest.md)",
       {},
       {{"pairs", "interleaved pairs of runs [9]"},
        {"jobs", "jobs of each run [20000]"},
        {"seconds", "how long jobs are picked up at 300 a second [20]"}}},
      {"selftest crash",
       "Kills hubs of its own at every named step, on this machine and the configured store, and shows that nothing "
       "acknowledged is lost or done twice; exit code 1 if it is (docs/reference/selftest.md)",
       {},
       {{"kills", "how many, and at least one at each step [50]"}, {"seed", "of the load and the moments; any [random]"}}},
      {.name = "selftest hub", .summary = "The hub of a selftest", .shown = false},
  };
  return all;
}

const std::vector<cli::SettingOption>& setting_options() {
  static const std::vector<cli::SettingOption> all = [] {
    std::vector<cli::SettingOption> made;
    for (const auto& flag : setting_flags()) made.push_back({flag.flag, flag.key, flag.doc});
    return made;
  }();
  return all;
}

std::optional<std::string> reference_text(const std::string& what, const std::vector<ops::Operation>& operations) {
  if (what == "openapi") return api::openapi(operations, version());
  if (what == "config") return config_reference();
  if (what == "cli") return cli::reference(operations, builtins(), setting_options());
  if (what != "api") return std::nullopt;
  std::string out(kApi);
  for (const auto& operation : operations)
    out += fmt::format("| `{} /api/v1{}` | {} | {} |\n", operation.method, operation.path, operation.summary,
                       access::name(operation.permission));
  return out;
}

}  // namespace dragoman::app
