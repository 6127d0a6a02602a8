#include "pipeline/mapping.h"

#include <fmt/format.h>

#include "audit/audit.h"
#include "base/error.h"
#include "base/text.h"

namespace dragoman::pipeline {
namespace {

using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kColumns =
    "SELECT m.id, m.connection_id, COALESCE(c.name, ''), m.entity, m.internal_id, m.external_id, m.shared_by, m.cause, "
    "m.created_us FROM integration_mapping m LEFT JOIN connection c ON c.id = m.connection_id ";

Mapped mapped_of(const Row& row) {
  Mapped mapped;
  mapped.id = row.int64(0);
  mapped.connection_id = row.int64(1);
  mapped.connection = row.text(2);
  mapped.entity = row.text(3);
  mapped.internal_id = row.text(4);
  mapped.external_id = row.text(5);
  mapped.shared_by = row.text(6);
  mapped.cause = row.text(7);
  mapped.created = row.time(8);
  return mapped;
}

struct Meaning {
  std::string entity, internal_id;
};

std::optional<Meaning> meaning_of(Session& session, std::int64_t connection_id, const std::string& external_id) {
  std::optional<Meaning> found;
  session.first("SELECT entity, internal_id FROM integration_mapping WHERE connection_id = $1 AND external_id = $2",
                {connection_id, external_id},
                [&](const Row& row) { found = Meaning{std::string(row.text(0)), std::string(row.text(1))}; });
  return found;
}

bool insert(Session& session, const Mapped& mapped, const std::string& shared_by) {
  return session.execute(
             "INSERT INTO integration_mapping (connection_id, entity, internal_id, external_id, shared_by, cause, "
             "created_us) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
             {mapped.connection_id, mapped.entity, mapped.internal_id, mapped.external_id, shared_by, mapped.cause,
              to_us(mapped.created)}) == 1;
}

}  // namespace

Mapping::Put Mapping::put(Session& session, const Mapped& mapped) {
  DRAGOMAN_ASSERT(mapped.shared_by.empty(), "sharing is a person's, see share");
  if (insert(session, mapped, "")) return Put::made;
  if (const auto meaning = meaning_of(session, mapped.connection_id, mapped.external_id))
    return meaning->entity == mapped.entity && meaning->internal_id == mapped.internal_id ? Put::kept : Put::taken;
  // Ours stands for another one of theirs, and what was just delivered says that it is this one now.
  session.execute(
      "UPDATE integration_mapping SET external_id = $4, cause = $5, created_us = $6 "
      "WHERE connection_id = $1 AND entity = $2 AND internal_id = $3 AND shared_by = ''",
      {mapped.connection_id, mapped.entity, mapped.internal_id, mapped.external_id, mapped.cause,
       to_us(mapped.created)});
  return Put::moved;
}

void Mapping::share(Session& session, const Mapped& mapped, const std::string& by) {
  if (by.empty()) throw Error(Error::Kind::invalid, "Sharing takes a person's yes: say whose.");
  const auto refuse = [](std::string code, std::string message) {
    Error error(Error::Kind::conflict, std::move(message));
    error.code = std::move(code);
    throw error;
  };
  bool sharing = false;
  session.first("SELECT sharing FROM mapping_entity WHERE name = $1", {mapped.entity},
                [&](const Row& row) { sharing = row.int64(0) == 1; });
  if (!sharing)
    refuse("not_shared", fmt::format("Of the kind `{}` every record has one of its own at the remote; only customers "
                                     "and products may be shared.",
                                     mapped.entity));
  if (insert(session, mapped, by)) return;
  const auto meaning = meaning_of(session, mapped.connection_id, mapped.external_id);
  if (!meaning || meaning->entity != mapped.entity || meaning->internal_id != mapped.internal_id)
    refuse("taken", fmt::format("`{}` stands for `{}` already: unlink that first, if it is wrong.", mapped.external_id,
                                meaning ? meaning->internal_id : "another record"));
}

Mapped Mapping::share(const Mapped& given, const std::string& why, const std::string& actor) {
  if (why.empty())
    throw Error(Error::Kind::invalid, "Two records are made one for a reason: give it, for those who wonder later.");
  Mapped shared;
  store_.write([&](Session& session) {
    Mapped mapped = given;
    mapped.created = session.now();
    if (!session.first("SELECT id FROM connection WHERE name = $1", {mapped.connection},
                       [&](const Row& row) { mapped.connection_id = row.int64(0); }))
      throw Error(Error::Kind::not_found, fmt::format("There is no connection `{}`; `dragoman connection list` shows "
                                                      "those that there are.",
                                                      mapped.connection));
    std::string first;
    session.first(
        "SELECT external_id FROM integration_mapping WHERE connection_id = $1 AND entity = $2 AND "
        "internal_id = $3 ORDER BY id LIMIT 1",
        {mapped.connection_id, mapped.entity, mapped.internal_id}, [&](const Row& row) { first = row.text(0); });
    const auto known = [&](const std::string& external_id) {
      return session.first(std::string(kColumns) +
                               "WHERE m.connection_id = $1 AND m.external_id = $2 AND m.entity = $3 AND m.internal_id "
                               "= $4",
                           {mapped.connection_id, external_id, mapped.entity, mapped.internal_id},
                           [&](const Row& row) { shared = mapped_of(row); });
    };
    if (known(mapped.external_id)) return;
    if (first.empty())
      throw Error(
          Error::Kind::not_found,
          fmt::format("`{}` of the kind `{}` stands for nothing at `{}` yet: `dragoman mapping find` shows what "
                      "an id stands for.",
                      mapped.internal_id, mapped.entity, mapped.connection));
    // `odoo:res.partner:42`: all but the number is the same.
    const auto model_of = [](const std::string& external_id) {
      return external_id.substr(0, external_id.rfind(':') + 1);
    };
    const std::string number = mapped.external_id.substr(model_of(mapped.external_id).size());
    if (model_of(mapped.external_id) != model_of(first) || number.empty())
      throw Error(Error::Kind::invalid,
                  fmt::format("`{}` is no such record as `{}`, which `{}` stands for already: give one that is written "
                              "in the same way.",
                              mapped.external_id, first, mapped.internal_id));
    share(session, mapped, actor);
    known(mapped.external_id);
    audit::append(session, {.actor = actor,
                            .action = "mapping.share",
                            .subject = mapped.connection + ":" + mapped.external_id,
                            .why = why,
                            .outcome = "ok",
                            .before = "",
                            .after = fmt::format(R"({{"entity":{},"internal_id":{},"external_id":{},"beside":{}}})",
                                                 json_string(mapped.entity), json_string(mapped.internal_id),
                                                 json_string(mapped.external_id), json_string(first))});
  });
  return shared;
}

std::vector<Mapped> Mapping::list(const Filter& filter) {
  std::vector<Mapped> out;
  std::string sql = std::string(kColumns) + "WHERE m.id > $1";
  std::vector<Param> params{filter.after};
  const auto only = [&](const char* column, const std::string& value) {
    if (value.empty()) return;
    params.emplace_back(std::string_view(value));
    sql += fmt::format(" AND {} = ${}", column, params.size());
  };
  only("c.name", filter.connection);
  only("m.entity", filter.entity);
  only("m.internal_id", filter.internal_id);
  only("m.external_id", filter.external_id);
  params.emplace_back(filter.limit);
  sql += fmt::format(" ORDER BY m.id LIMIT ${}", params.size());
  store_.read([&](Session& session) {
    out.clear();
    session.query(sql, params, [&](const Row& row) { out.push_back(mapped_of(row)); });
  });
  return out;
}

Mapped Mapping::show(std::int64_t id) {
  std::optional<Mapped> found;
  store_.read([&](Session& session) {
    found.reset();
    session.query(std::string(kColumns) + "WHERE m.id = $1", {id}, [&](const Row& row) { found = mapped_of(row); });
  });
  if (!found)
    throw Error(Error::Kind::not_found,
                fmt::format("There is no mapping {}. `dragoman mapping list` shows those that there are.", id));
  return *found;
}

Mapped Mapping::unlink(std::int64_t id, const std::string& why, const std::string& actor) {
  if (why.empty())
    throw Error(Error::Kind::invalid, "A mapping is unlinked for a reason: give it, for those who wonder later.");
  const Mapped before = show(id);
  store_.write([&](Session& session) {
    if (session.execute("DELETE FROM integration_mapping WHERE id = $1", {id}) != 1)
      throw Error(Error::Kind::not_found, fmt::format("There is no mapping {} any more.", id));
    audit::append(session, {.actor = actor,
                            .action = "mapping.unlink",
                            .subject = before.connection + ":" + before.external_id,
                            .why = why,
                            .outcome = "ok",
                            .before = fmt::format(R"({{"entity":{},"internal_id":{},"external_id":{}}})",
                                                  json_string(before.entity), json_string(before.internal_id),
                                                  json_string(before.external_id)),
                            .after = ""});
  });
  return before;
}

}  // namespace dragoman::pipeline
