#include "pipeline/model_capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/log.h"

namespace dragoman::pipeline {
namespace {

using namespace std::chrono_literals;

// A poll between two wide ones goes back so far: longer than nearly every transaction of a person at a screen.
constexpr Micros kNearOverlap = 15s;
// A wide poll goes back by so much more than the overlap, so that every record is seen by one after the overlap has
// passed over it; wide polls come at least that often.
constexpr Micros kSettleMargin = 90s;
constexpr Micros kOverlapMax = 6h;
constexpr std::int64_t kStampsPerCall = 5000;
// Of a sweep that somebody waits for: fewer calls, and several at once where the remote has places for it.
constexpr std::int64_t kStretch = 10'000;
constexpr int kSweepers = 4;
constexpr std::size_t kReadPerCall = 500;
constexpr std::size_t kSampleMax = 300;  // bodies of a model, by default
constexpr int kCertifyRounds = 6;

template <typename T>
std::vector<T> slice(const std::vector<T>& all, std::size_t at, std::size_t count) {
  return {all.begin() + static_cast<std::ptrdiff_t>(at),
          all.begin() + static_cast<std::ptrdiff_t>(std::min(at + count, all.size()))};
}

// A third of a model, and more than a few, gone at once: another database behind the same address, or lost rights, are
// likelier than so many deletions, and whoever follows the feed would act on every one.
bool too_many(std::size_t missing, std::int64_t held) {
  return missing > 100 && static_cast<std::int64_t>(missing) * 10 > held * 3;
}
constexpr std::string_view kWithheld = "Deletions withheld:";

// The remote's answer holds something that is no JSON (a NaN, a nesting without end): about a record, not the line.
bool unreadable(const Error& error) {
  return error.kind == Error::Kind::protocol && (error.code.starts_with("json") || error.code == "record_id");
}

}  // namespace

ModelCapture::ModelCapture(Source& source, CaptureStore& store, Clock& clock, const SyncSettings& settings,
                           ModelRow row)
    : source_(source),
      store_(store),
      clock_(clock),
      settings_(settings),
      name_(row.name),
      id_(row.id),
      row_(std::move(row)) {
  plan_ = row_.plan;
  unavailable_ = row_.state == "unavailable";
  status_.model = name_;
  if (to_us(row_.swept) > 0) status_.swept = row_.swept;
  if (row_.state == "following") status_.done = store_.count(id_);
}

bool ModelCapture::prepare(bool full, std::stop_token stop) {
  std::lock_guard step(step_);
  std::optional<Description> description;
  std::string reason;
  try {
    description = source_.describe(name_, std::nullopt, stop);
    if (!description) reason = "this server has no such model (its module is not installed, or its version lacks it)";
  } catch (const Error& error) {
    // A proxy that lets nothing through says nothing of the model.
    if (error.kind != Error::Kind::forbidden || error.code == "http_forbidden") throw;
    reason = error.message;
  }
  if (!description) {
    store_.set_state(id_, "unavailable", reason);
    std::lock_guard lock(mutex_);
    row_.state = "unavailable";
    row_.reason = reason;
    unavailable_ = true;
    return false;
  }
  ModelRow row;
  {
    std::lock_guard lock(mutex_);
    row = row_;
  }
  const auto described = store_.describe(row, *description);
  bool begin = false;
  {
    std::lock_guard lock(mutex_);
    row_.schema_number = described.schema_number;
    row_.plan = plan_ = description->plan;
    unavailable_ = false;
    if (described.schema_changed)
      log::info("the schema of a model changed", {{"model", name_}, {"schema", described.schema_number}});
    const bool interrupted = !pull_ && PullProgress::parse(row_.pull);
    if (full || described.repull) {
      begin = true;
    } else if (interrupted) {
      pull_ = PullProgress::parse(row_.pull);
      pull_began_ = clock_.steady();
      pull_began_with_ = pull_->records_done();
    } else if (row_.state != "following" && !pull_) {
      begin = true;
    }
  }
  if (begin) begin_pull(stop);
  return true;
}

void ModelCapture::begin_pull(std::stop_token stop) {
  Plan plan;
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
  }
  // The start of the deltas comes first: what is created from now on is theirs.
  const Source::Stamps now = source_.stamps(name_, plan, std::nullopt, {0, 0}, 1, stop);
  const std::int64_t last = source_.last_id(name_, plan, stop);
  const std::int64_t count = last == 0 ? 0 : source_.count(name_, plan, stop);
  PullProgress progress(last, count, settings_.page_records_max, now.read_at);
  // What has been followed is followed on while it is read again.
  const std::string state = following() ? "following" : "pulling";
  store_.set_pull(id_, progress.json(), state);
  std::lock_guard lock(mutex_);
  pull_ = std::move(progress);
  row_.pull = pull_->json();
  row_.state = state;
  row_.reason.clear();
  pull_began_ = clock_.steady();
  pull_began_with_ = 0;
}

bool ModelCapture::pulling() const {
  std::lock_guard lock(mutex_);
  return pull_.has_value();
}

bool ModelCapture::following() const {
  std::lock_guard lock(mutex_);
  return row_.state == "following" && !unavailable_;
}

bool ModelCapture::refused() const {
  std::lock_guard lock(mutex_);
  return unavailable_;
}

std::optional<Range> ModelCapture::claim() {
  std::lock_guard lock(mutex_);
  return pull_ && !unavailable_ ? pull_->claim() : std::nullopt;
}

void ModelCapture::release_all() {
  std::lock_guard lock(mutex_);
  if (pull_) pull_->release_all();
}

ModelCapture::Piece ModelCapture::fetch(Range stretch, std::int64_t after, std::stop_token stop) {
  Plan plan;
  std::int64_t limit = 1;
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
    // Room for a stretch that is denser than the average, so that most take one call.
    if (pull_) limit = std::min(settings_.page_records_max * 2, pull_->page_records() * 3 / 2 + 1);
  }
  const Range range{after, stretch.upto};
  Piece piece{stretch, after, false, nullptr, after};
  try {
    piece.page = source_.page(name_, plan, range, limit, stop);
  } catch (const Error& error) {
    if (unreadable(error)) return fetch_around(stretch, after, limit, plan, stop);
    if (error.kind != Error::Kind::forbidden && error.kind != Error::Kind::invalid) throw;
    // A field that could be read for the records tried so far is refused for these: find it among these.
    const auto description = source_.describe(name_, range, stop);
    if (!description || description->plan.fields == plan.fields) throw;
    ModelRow row;
    {
      std::lock_guard lock(mutex_);
      row = row_;
      plan_ = row_.plan = plan = description->plan;
    }
    store_.describe(row, *description);
    piece.page = source_.page(name_, plan, range, limit, stop);
  }
  const auto records = piece.page->records();
  piece.upto = records.empty() ? after : records.back().id;
  piece.last = static_cast<std::int64_t>(records.size()) < limit || (stretch.upto && piece.upto >= *stretch.upto);
  return piece;
}

// Half the page, and half of it again, until what can be read is read or a single record is left that can't.
ModelCapture::Piece ModelCapture::fetch_around(Range stretch, std::int64_t after, std::int64_t limit, const Plan& plan,
                                               std::stop_token stop) {
  const Range range{after, stretch.upto};
  for (;;) {
    limit = std::max<std::int64_t>(1, limit / 2);
    Piece piece{stretch, after, false, nullptr, after};
    try {
      piece.page = source_.page(name_, plan, range, limit, stop);
      if (piece.page->records().empty())
        piece.last = true;
      else
        piece.upto = piece.page->records().back().id;
    } catch (const Error& error) {
      if (!unreadable(error)) throw;
      if (limit > 1) continue;
      const Source::Stamps first = source_.stamps(name_, plan, std::nullopt, range, 1, stop);
      if (first.stamps.empty()) {
        piece.last = true;
      } else {
        piece.upto = first.stamps.front().id;
        note_unreadable(piece.upto, error);
      }
    }
    if (stretch.upto && piece.upto >= *stretch.upto) piece.last = true;
    return piece;
  }
}

void ModelCapture::note_unreadable(std::int64_t id, const Error& error) {
  log::warning("a record cannot be read",
               {{"model", name_}, {"id", id}, {"error", error.message}, {"detail", error.detail}});
  std::lock_guard lock(mutex_);
  unreadable_[id] = error.message;
}

Applied ModelCapture::store(const Piece& piece) {
  std::lock_guard step(step_);
  const std::span<const json::Record> records = piece.page ? piece.page->records() : std::span<const json::Record>();
  std::string progress;
  std::int64_t schema = 0;
  bool done = false, binaries = false, companies = false;
  Time started{};
  {
    std::lock_guard lock(mutex_);
    if (!pull_) return {};  // the pull was begun anew, or the model is gone
    PullProgress next = *pull_;
    if (piece.last)
      next.finish(piece.key);
    else
      next.advance(piece.key, piece.upto);
    next.count(static_cast<std::int64_t>(records.size()));
    if (piece.stretch.upto && piece.page) {
      const std::int64_t upto = piece.last ? *piece.stretch.upto : piece.upto;
      next.adapt(upto - piece.key, static_cast<std::int64_t>(records.size()), piece.page->bytes, piece.page->took);
    }
    done = next.done();
    started = next.started();
    schema = row_.schema_number;
    binaries = !plan_.binaries.empty();
    companies = plan_.types.contains("company_id");
    progress = next.json();
    *pull_ = std::move(next);
  }
  Applied applied;
  try {
    applied = store_.apply(
        id_, schema, records, piece.page ? piece.page->read_at : Time{}, {.binaries = binaries, .companies = companies},
        [&](store::Session& session) {
          if (done)
            session.execute(
                "UPDATE model SET pull = '{}', state = 'following', reason = '', cursor_us = $2 WHERE id = $1",
                {{id_}, {to_us(started)}});
          else
            session.execute("UPDATE model SET pull = $2 WHERE id = $1", {{id_}, {progress}});
        });
  } catch (...) {
    // What is in memory is ahead of what is durable now: begin again from what is durable.
    const auto row = store_.find_model(row_.connection_id, name_);
    std::lock_guard lock(mutex_);
    pull_ = row ? PullProgress::parse(row->pull) : std::nullopt;
    throw;
  }
  {
    std::lock_guard lock(mutex_);
    status_.changes += applied.created + applied.changed;
    status_.done += applied.created;
    if (done) {
      pull_.reset();
      row_.pull = "{}";
      row_.state = "following";
      row_.cursor = started;
      polled_.reset();
    }
  }
  return applied;
}

bool ModelCapture::due(const Stamp& stamp, const Held* held, bool wide, Time now) const {
  if (!held || held->state == 2) return true;
  if (!stamp.write_date) return false;
  if (held->write_date != stamp.write_date) return true;
  if (held->read_at < *stamp.write_date + 2s) return true;
  if (!wide) return false;
  const auto passed = [&](Micros overlap) {
    const Time settled = *stamp.write_date + 1s + overlap;
    return now >= settled && held->read_at < settled;
  };
  // One long transaction makes the overlap long for good. What an ordinary one committed in the same second shall not
  // wait for that: until then it may have been written over, and its version be lost.
  return passed(row_.overlap) || (settings_.overlap < row_.overlap && passed(settings_.overlap));
}

ModelCapture::Outcome ModelCapture::poll(bool wide, std::stop_token stop) {
  std::lock_guard step(step_);
  return poll_locked(wide, std::move(stop));
}

ModelCapture::Outcome ModelCapture::poll_locked(bool wide, std::stop_token stop) {
  Plan plan;
  Time cursor{};
  std::optional<Time> polled;
  Micros overlap{};
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
    cursor = secured_.value_or(row_.cursor);
    polled = polled_;
    overlap = row_.overlap;
  }
  Outcome outcome;
  if (!plan.has_write_date) return outcome;  // nothing to poll by: the sweep compares bodies
  wide = wide || !polled;
  const Time since = wide ? cursor - overlap - kSettleMargin : *polled - kNearOverlap;
  std::optional<Time> began;
  std::int64_t after = 0;
  for (;;) {
    const Source::Stamps stamps = source_.stamps(name_, plan, since, {after, std::nullopt}, kStampsPerCall, stop);
    if (!began) began = stamps.read_at;
    outcome.seen += static_cast<std::int64_t>(stamps.stamps.size());
    std::vector<std::int64_t> ids, read;
    ids.reserve(stamps.stamps.size());
    for (const Stamp& stamp : stamps.stamps) ids.push_back(stamp.id);
    const std::vector<Held> held = store_.held(id_, ids);
    auto known = held.begin();
    for (const Stamp& stamp : stamps.stamps) {
      while (known != held.end() && known->id < stamp.id) ++known;
      const Held* mine = known != held.end() && known->id == stamp.id ? &*known : nullptr;
      if (due(stamp, mine, wide, stamps.read_at)) read.push_back(stamp.id);
    }
    outcome.applied += read_and_apply(read, stop);
    if (static_cast<std::int64_t>(stamps.stamps.size()) < kStampsPerCall) break;
    after = stamps.stamps.back().id;
  }
  std::lock_guard lock(mutex_);
  // A server whose clock was set back: what it writes now is older than what we asked for. Begin behind it.
  if (polled_ && *began < *polled_ - 2s) {
    polled_.reset();
    secured_ = *began - overlap;
    log::warning("the server's clock went back", {{"model", name_}, {"to", format_iso(*began)}});
  } else {
    polled_ = began;
    if (wide) secured_ = began;
  }
  status_.polled = clock_.now();
  status_.changes += outcome.applied.created + outcome.applied.changed + outcome.applied.deleted;
  status_.done += outcome.applied.created - outcome.applied.deleted;
  return outcome;
}

std::optional<Time> ModelCapture::take_cursor() {
  std::lock_guard lock(mutex_);
  if (!secured_) return std::nullopt;
  row_.cursor = *secured_;
  return std::exchange(secured_, std::nullopt);
}

Applied ModelCapture::read_and_apply(const std::vector<std::int64_t>& ids, std::stop_token stop) {
  Applied applied;
  Plan plan;
  std::int64_t schema = 0;
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
    schema = row_.schema_number;
  }
  read_pages(ids, plan, stop, [&](const Page& page) {
    applied += store_.apply(
        id_, schema, page.records(), page.read_at,
        {.touch = true, .binaries = !plan.binaries.empty(), .companies = plan.types.contains("company_id")});
  });
  return applied;
}

void ModelCapture::read_pages(const std::vector<std::int64_t>& ids, const Plan& plan, std::stop_token stop,
                              const std::function<void(const Page&)>& each) {
  std::vector<std::vector<std::int64_t>> batches;  // the last is next
  for (std::size_t at = 0; at < ids.size(); at += kReadPerCall)
    batches.insert(batches.begin(), slice(ids, at, kReadPerCall));
  while (!batches.empty()) {
    const auto batch = std::move(batches.back());
    batches.pop_back();
    std::unique_ptr<Page> page;
    try {
      page = source_.read(name_, plan, batch, stop);
    } catch (const Error& error) {
      if (!unreadable(error)) throw;
      if (batch.size() == 1) {
        note_unreadable(batch.front(), error);
      } else {
        batches.push_back(slice(batch, batch.size() / 2, batch.size()));
        batches.push_back(slice(batch, 0, batch.size() / 2));
      }
      continue;
    }
    {
      std::lock_guard lock(mutex_);
      if (!unreadable_.empty())
        for (const auto& record : page->records()) unreadable_.erase(record.id);
    }
    each(*page);
  }
}

Applied ModelCapture::remove_if_gone(const std::vector<std::int64_t>& ids, Time read_at, std::stop_token stop) {
  Applied applied;
  for (std::size_t at = 0; at < ids.size(); at += kReadPerCall) {
    const auto some = slice(ids, at, kReadPerCall);
    const auto there = source_.existing(name_, some, stop);
    std::vector<std::int64_t> gone;
    std::set_difference(some.begin(), some.end(), there.begin(), there.end(), std::back_inserter(gone));
    std::int64_t schema = 0;
    {
      std::lock_guard lock(mutex_);
      schema = row_.schema_number;
    }
    applied += store_.remove(id_, schema, gone, read_at);
  }
  return applied;
}

bool ModelCapture::fetch_binaries(std::int64_t limit, std::stop_token stop) {
  std::vector<std::string> fields;
  {
    std::lock_guard lock(mutex_);
    fields = plan_.binaries;
  }
  const auto pending = store_.pending_binaries(id_, limit);
  for (const auto& version : pending) {
    std::map<std::string, std::string> contents;
    for (const std::string& field : fields)
      if (auto content = source_.binary(name_, version.external_id, field, stop))
        contents.emplace(field, std::move(*content));
    store_.keep_binaries(version.change_number, contents);
  }
  return static_cast<std::int64_t>(pending.size()) == limit;
}

void ModelCapture::raise_overlap(Time write_date, Time now, std::int64_t id) {
  Micros overlap{};
  {
    std::lock_guard lock(mutex_);
    overlap = row_.overlap;
  }
  const Micros late = now - write_date;
  const Micros raised = std::clamp<Micros>(late + late / 4, overlap, kOverlapMax);
  const std::string alarm = fmt::format(
      "{} {} was committed behind the back of the polls: written {} s before a sweep found it, with an overlap of {} "
      "s. The overlap is {} s now.",
      name_, id, late / 1s, overlap / 1s, raised / 1s);
  log::warning("a late commit exceeded the overlap",
               {{"model", name_}, {"id", id}, {"late_seconds", late / 1s}, {"overlap_seconds", raised / 1s}});
  store_.set_alarm(id_, CaptureStore::Alarm::overlap, alarm, raised);
  std::lock_guard lock(mutex_);
  row_.overlap = raised;
  row_.alarm = alarm;
}

void ModelCapture::compare(const Source::Stamps& stamps, Range range, SweepState& state, std::stop_token stop) {
  Time behind{};  // everything written before it should have been found by a poll
  {
    std::lock_guard lock(mutex_);
    behind = secured_.value_or(row_.cursor) - row_.overlap;
  }
  const std::vector<Held> held = store_.held_range(id_, range, INT64_MAX);
  std::vector<std::int64_t> there, differing;
  auto known = held.begin();
  for (const Stamp& stamp : stamps.stamps) {
    there.push_back(stamp.id);
    while (known != held.end() && known->id < stamp.id) ++known;
    const Held* mine = known != held.end() && known->id == stamp.id ? &*known : nullptr;
    if (mine && mine->write_date == stamp.write_date) continue;
    differing.push_back(stamp.id);
    if (stamp.write_date && *stamp.write_date < behind &&
        (!mine || !mine->write_date || *mine->write_date < *stamp.write_date)) {
      ++state.outcome.late;
      raise_overlap(*stamp.write_date, stamps.read_at, stamp.id);
      std::lock_guard lock(mutex_);
      behind = secured_.value_or(row_.cursor) - row_.overlap;
    }
  }
  state.read_at = std::max(state.read_at, stamps.read_at);
  count_missing(there, held, state);
  state.outcome.applied += read_and_apply(differing, stop);
}

void ModelCapture::count_missing(const std::vector<std::int64_t>& there, const std::vector<Held>& held,
                                 SweepState& state) {
  state.outcome.seen += static_cast<std::int64_t>(there.size());
  state.there += static_cast<std::int64_t>(there.size());
  state.here += static_cast<std::int64_t>(held.size());
  auto next = there.begin();
  for (const Held& record : held) {
    while (next != there.end() && *next < record.id) ++next;
    if (next == there.end() || *next != record.id) state.missing.push_back(record.id);
  }
}

bool ModelCapture::sweep_step(SweepState& state, std::stop_token stop) {
  std::lock_guard step(step_);
  Plan plan;
  std::int64_t schema = 0;
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
    schema = row_.schema_number;
  }
  if (to_us(state.began) == 0) state.began = clock_.now();

  Range range{state.after, std::nullopt};
  bool more = false;
  if (plan.has_write_date) {
    const Source::Stamps stamps = source_.stamps(name_, plan, std::nullopt, range, kStampsPerCall, stop);
    more = static_cast<std::int64_t>(stamps.stamps.size()) == kStampsPerCall;
    if (more) range.upto = stamps.stamps.back().id;
    compare(stamps, range, state, stop);
  } else {
    const auto page = source_.page(name_, plan, range, settings_.page_records_max, stop);
    state.read_at = std::max(state.read_at, page->read_at);
    more = static_cast<std::int64_t>(page->records().size()) == settings_.page_records_max;
    if (more) range.upto = page->records().back().id;
    std::vector<std::int64_t> there;
    for (const auto& record : page->records()) there.push_back(record.id);
    count_missing(there, store_.held_range(id_, range, INT64_MAX), state);
    state.outcome.applied +=
        store_.apply(id_, schema, page->records(), page->read_at,
                     {.binaries = !plan.binaries.empty(), .companies = plan.types.contains("company_id")});
  }
  if (more) {
    state.after = *range.upto;
    return true;
  }
  end_sweep(state, plan, stop);
  return false;
}

void ModelCapture::end_sweep(SweepState& state, const Plan& plan, std::stop_token stop) {
  std::string withheld;
  if (!state.missing.empty()) {
    std::sort(state.missing.begin(), state.missing.end());
    if (too_many(state.missing.size(), state.here) && !state.accept_deletions) {
      withheld = fmt::format(
          "{} {} of {} records of {} are not there any more, and are not taken for deleted unasked: is it the same "
          "database, "
          "with the same rights? If they are gone, `dragoman sync run CONNECTION {} --accept-deletions` records it.",
          kWithheld, state.missing.size(), state.here, name_, name_);
      state.outcome.withheld = static_cast<std::int64_t>(state.missing.size());
      log::warning("deletions are withheld",
                   {{"model", name_}, {"missing", state.missing.size()}, {"held", state.here}});
    } else {
      // Asked anew, later than the stamps: what a poll stored in between is not taken for gone.
      const Source::Stamps now = source_.stamps(name_, plan, std::nullopt, {0, 0}, 1, stop);
      state.outcome.applied += remove_if_gone(state.missing, std::max(now.read_at, state.read_at), stop);
    }
  }
  std::string alarm;
  Micros overlap{};
  {
    std::lock_guard lock(mutex_);
    alarm = row_.alarm;
    overlap = row_.overlap;
  }
  if (!withheld.empty() ? alarm != withheld : alarm.starts_with(kWithheld)) {
    store_.set_alarm(id_, CaptureStore::Alarm::deletions, withheld, overlap);
    std::lock_guard lock(mutex_);
    row_.alarm = withheld;
  }
  const Time swept = clock_.now();
  store_.set_swept(id_, swept);
  std::lock_guard lock(mutex_);
  row_.swept = swept;
  status_.swept = swept;
  status_.done += state.outcome.applied.created - state.outcome.applied.deleted;
  status_.changes += state.outcome.applied.created + state.outcome.applied.changed + state.outcome.applied.deleted;
}

ModelCapture::Outcome ModelCapture::sweep(bool accept_deletions, std::stop_token stop) {
  SweepState state;
  state.accept_deletions = accept_deletions;
  Plan plan;
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
  }
  const int callers = std::min(kSweepers, source_.places());
  // Where the stretches end is known beforehand from what is held; the last is open.
  std::vector<std::int64_t> ends;
  if (callers > 1 && plan.has_write_date) ends = store_.held_every(id_, kStretch);
  if (ends.empty()) {
    while (sweep_step(state, stop)) {
    }
    return state.outcome;
  }
  state.began = clock_.now();
  std::atomic<std::size_t> next{0};
  std::mutex result;
  std::optional<Error> failure;
  const auto call = [&] {
    try {
      for (std::size_t i = next++; i <= ends.size(); i = next++) {
        const std::optional<std::int64_t> upto = i < ends.size() ? std::optional(ends[i]) : std::nullopt;
        std::int64_t after = i == 0 ? 0 : ends[i - 1];
        for (bool more = true; more;) {
          const Source::Stamps stamps = source_.stamps(name_, plan, std::nullopt, {after, upto}, 2 * kStretch, stop);
          more = static_cast<std::int64_t>(stamps.stamps.size()) == 2 * kStretch;
          const Range range{after, more ? std::optional(stamps.stamps.back().id) : upto};
          // Polls go on in between. What they store after this read was made makes a record look different here at
          // most, which is looked at again.
          std::lock_guard step(step_);
          compare(stamps, range, state, stop);
          if (more) after = *range.upto;
        }
      }
    } catch (const Error& error) {
      next = ends.size() + 1;
      std::lock_guard lock(result);
      if (!failure) failure = error;
    } catch (const std::exception& error) {
      next = ends.size() + 1;
      std::lock_guard lock(result);
      failure = Error(Error::Kind::bug, "Something went wrong inside the hub; its log says more.", error.what());
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < callers; ++i) others.emplace_back(call);
    call();
  }
  if (failure) throw *failure;
  std::lock_guard step(step_);
  end_sweep(state, plan, stop);
  return state.outcome;
}

Certificate ModelCapture::certify(const CertifyOptions& options, Random& random, std::stop_token stop) {
  std::lock_guard step(step_);
  Plan plan;
  std::int64_t schema = 0;
  {
    std::lock_guard lock(mutex_);
    plan = plan_;
    schema = row_.schema_number;
  }
  const bool all_bodies = options.bodies == CertifyOptions::Bodies::all || !plan.has_write_date;
  Certificate certificate;
  certificate.model = name_;

  struct Suspect {
    std::int64_t change_number = 0;  ///< of what was held then; 0: nothing was
    bool there = true;
    bool body = false;  ///< the content differs
    std::string what;
  };
  // Not only a change that was missed has the later time there: a clock was set back, or a backup brought in.
  const auto unlike = [](std::optional<Time> mine, std::optional<Time> now) {
    return mine && (!now || *mine > *now) ? "later here" : "older here";
  };
  std::map<std::int64_t, Suspect> suspects;
  std::vector<std::int64_t> sample;
  std::uint64_t seen = 0;
  Time at{};

  // First all stamps (or bodies) against what is held.
  std::int64_t after = 0;
  for (bool more = true; more;) {
    Range range{after, std::nullopt};
    std::vector<Stamp> stamps;
    std::vector<std::pair<std::int64_t, json::Digest>> digests;
    std::unique_ptr<Page> page;
    if (all_bodies) {
      page = source_.page(name_, plan, range, settings_.page_records_max, stop);
      at = page->read_at;
      for (const auto& record : page->records()) stamps.push_back({record.id, record.write_date});
      more = static_cast<std::int64_t>(stamps.size()) == settings_.page_records_max;
      certificate.bodies_compared += static_cast<std::int64_t>(stamps.size());
    } else {
      auto answer = source_.stamps(name_, plan, std::nullopt, range, kStampsPerCall, stop);
      at = answer.read_at;
      stamps = std::move(answer.stamps);
      more = static_cast<std::int64_t>(stamps.size()) == kStampsPerCall;
    }
    if (more) range.upto = after = stamps.back().id;
    const std::vector<Held> held = store_.held_range(id_, range, INT64_MAX);
    certificate.there += static_cast<std::int64_t>(stamps.size());
    auto known = held.begin();
    for (std::size_t i = 0; i < stamps.size(); ++i) {
      const Stamp& stamp = stamps[i];
      for (; known != held.end() && known->id < stamp.id; ++known)
        suspects[known->id] = {known->change_number, false, false, "missing there"};
      const bool mine = known != held.end() && known->id == stamp.id;
      if (!mine)
        suspects[stamp.id] = {0, true, false, "missing here"};
      else if (known->write_date != stamp.write_date)
        suspects[stamp.id] = {known->change_number, true, false, unlike(known->write_date, stamp.write_date)};
      else if (page && known->digest != page->records()[i].digest)
        suspects[stamp.id] = {known->change_number, true, true, "other content"};
      // Each record with the same chance, whatever their number: of a small model all.
      if (!all_bodies && options.bodies == CertifyOptions::Bodies::sample) {
        if (++seen; sample.size() < kSampleMax)
          sample.push_back(stamp.id);
        else if (const auto at = random.next() % seen; at < kSampleMax)
          sample[at] = stamp.id;
      }
      if (mine) ++known;
    }
    for (; known != held.end(); ++known) suspects[known->id] = {known->change_number, false, false, "missing there"};
  }
  std::sort(sample.begin(), sample.end());
  read_pages(sample, plan, stop, [&](const Page& page) {
    std::vector<std::int64_t> ids;
    for (const auto& record : page.records()) ids.push_back(record.id);
    const std::vector<Held> held = store_.held(id_, ids);
    for (const auto& record : page.records()) {
      const auto mine = std::lower_bound(held.begin(), held.end(), record.id,
                                         [](const Held& one, std::int64_t id) { return one.id < id; });
      ++certificate.bodies_compared;
      if (mine != held.end() && mine->id == record.id && mine->write_date == record.write_date &&
          mine->digest != record.digest)
        suspects.try_emplace(record.id, Suspect{mine->change_number, true, true, "other content"});
    }
  });

  const auto absent_there =
      std::count_if(suspects.begin(), suspects.end(), [](const auto& one) { return !one.second.there; });
  const bool remove_absent = !too_many(static_cast<std::size_t>(absent_there), certificate.there + absent_there);

  // Then only what survives catching up counts: while others write, the two are never read at the same moment.
  for (int round = 0; round < kCertifyRounds && !suspects.empty(); ++round) {
    certificate.survived_rounds = round + 1;
    poll_locked(true, stop);
    std::vector<std::int64_t> ids, gone_there, bodies;
    for (const auto& [id, suspect] : suspects) {
      ids.push_back(id);
      if (suspect.body) bodies.push_back(id);
    }
    // Another transaction of the same second may have committed since our read. The polls read such a record once more
    // when none can be running any more; a certificate does not wait for that.
    std::vector<std::int64_t> unsettled;
    const Micros overlap = [&] {
      std::lock_guard lock(mutex_);
      return row_.overlap;
    }();
    for (std::size_t i = 0; i < bodies.size(); i += kReadPerCall)
      for (const Held& one : store_.held(id_, slice(bodies, i, kReadPerCall)))
        if (one.write_date && one.read_at < *one.write_date + 1s + overlap) unsettled.push_back(one.id);
    if (!unsettled.empty()) read_and_apply(unsettled, stop);
    std::map<std::int64_t, Suspect> still;
    for (std::size_t i = 0; i < ids.size(); i += kReadPerCall) {
      const auto some = slice(ids, i, kReadPerCall);
      // A deletion is noticed by comparing sets, which is what this does: it is caught up here, not a difference.
      std::vector<std::int64_t> absent;
      for (const std::int64_t id : some)
        if (!suspects[id].there) absent.push_back(id);
      if (remove_absent) remove_if_gone(absent, at, stop);
      const std::vector<Held> held = store_.held(id_, some);
      std::map<std::int64_t, std::pair<std::optional<Time>, json::Digest>> there;
      read_pages(some, plan, stop, [&](const Page& page) {
        at = std::max(at, page.read_at);
        for (const auto& record : page.records()) there[record.id] = {record.write_date, record.digest};
      });
      std::size_t h = 0;
      for (const std::int64_t id : some) {
        while (h < held.size() && held[h].id < id) ++h;
        const auto now = there.find(id);
        const Held* mine = h < held.size() && held[h].id == id && held[h].state != 2 ? &held[h] : nullptr;
        const Suspect& before = suspects[id];
        const std::int64_t number = mine ? mine->change_number : 0;
        if (now == there.end() && !mine) {
          std::lock_guard lock(mutex_);
          if (unreadable_.contains(id)) still[id] = {0, true, false, "missing here"};
        } else if (now == there.end()) {
          still[id] = {number, false, false, "missing there"};
        } else if (!mine) {
          still[id] = {0, true, false, "missing here"};
        } else if (number != before.change_number) {
          continue;  // what made it suspect has come in; if it differs again, it was changed again just now
        } else if (mine->write_date != now->second.first) {
          still[id] = {number, true, false, unlike(mine->write_date, now->second.first)};
        } else if (mine->digest != now->second.second) {
          still[id] = {number, true, true, "other content"};
        }
      }
    }
    const bool settled = round > 0 && still.size() == suspects.size();
    suspects = std::move(still);
    if (settled && round + 1 >= 3) break;
  }

  certificate.at = at;
  std::vector<std::int64_t> heal;
  std::unique_lock lock(mutex_);  // for unreadable_
  std::int64_t missing_here = 0, missing_there = 0;
  for (const auto& [id, suspect] : suspects) {
    std::string what = suspect.what;
    if (const auto found = unreadable_.find(id); found != unreadable_.end())
      what += "; cannot be read: " + found->second;
    certificate.differences.push_back({id, what, false});
    if (suspect.what == "missing here") ++missing_here;
    if (suspect.what == "missing there") ++missing_there;
    heal.push_back(id);
  }
  lock.unlock();
  certificate.here = certificate.there - missing_here + missing_there;
  if (options.heal && !heal.empty()) {
    read_pages(heal, plan, stop, [&](const Page& page) {
      store_.apply(id_, schema, page.records(), page.read_at,
                   {.touch = true, .binaries = !plan.binaries.empty(), .companies = plan.types.contains("company_id")});
    });
    remove_if_gone(heal, at, stop);
    std::lock_guard healed(mutex_);
    for (auto& difference : certificate.differences) difference.healed = !unreadable_.contains(difference.id);
  }
  return certificate;
}

ModelStatus ModelCapture::status(const std::string& connection) const {
  std::lock_guard lock(mutex_);
  ModelStatus status = status_;
  status.connection = connection;
  status.state = row_.state;
  status.reason = row_.reason;
  status.alarm = row_.alarm;
  if (!unreadable_.empty())
    status.alarm += fmt::format("{}{} records cannot be read, the first is {}: {}", status.alarm.empty() ? "" : " ",
                                unreadable_.size(), unreadable_.begin()->first, unreadable_.begin()->second);
  status.phase = unavailable_ ? "unavailable" : pull_ ? "pulling" : row_.state == "following" ? "following" : "waiting";
  if (pull_) {
    status.done = pull_->records_done();
    status.total = pull_->records_total();
    const double seconds = static_cast<double>((clock_.steady() - pull_began_).count()) / 1e6;
    if (seconds > 0.2 && status.done > pull_began_with_) {
      status.rate = static_cast<double>(status.done - pull_began_with_) / seconds;
      status.left = Micros(static_cast<std::int64_t>(
          1e6 * static_cast<double>(std::max<std::int64_t>(0, status.total - status.done)) / status.rate));
    }
  }
  return status;
}

void ModelCapture::set_error(const std::string& error) {
  std::lock_guard lock(mutex_);
  status_.error = error;
}

}  // namespace dragoman::pipeline
