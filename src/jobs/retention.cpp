#include "jobs/retention.h"

namespace dragoman::jobs {

using store::Row;
using store::Session;

namespace {
constexpr std::int64_t kStep = 1000;
}

bool Retention::step() {
  std::int64_t last = 0, looked = 0, gone = 0, due = 0;
  Time before;
  // Most steps find nothing: they should not take the writer.
  store_.read([&](Session& session) {
    last = after_;
    looked = due = 0;
    before = session.now() - settings_.finished;
    session.query("SELECT id, state, COALESCE(finished_us, 0) FROM job WHERE id > $1 ORDER BY id LIMIT $2",
                  {after_, kStep}, [&](const Row& row) {
                    last = row.int64(0);
                    ++looked;
                    due += (row.int64(1) == 4 || row.int64(1) == 5) && row.time(2) < before;
                  });
  });
  if (due > 0)
    store_.write([&](Session& session) {
      // The newest stays: its number must not be given out again.
      constexpr std::string_view kOld =
          "id > $1 AND id <= $2 AND state IN (4, 5) AND finished_us < $3 AND id < (SELECT max(id) FROM job)";
      session.execute("DELETE FROM job_history WHERE job_id IN (SELECT id FROM job WHERE " + std::string(kOld) + ")",
                      {after_, last, to_us(before)});
      gone = session.execute("DELETE FROM job WHERE " + std::string(kOld), {after_, last, to_us(before)});
    });
  deleted_ += gone;
  if (looked == kStep) {
    after_ = last;
    return true;
  }
  after_ = 0;
  store_.write([&](Session& session) {
    session.execute("DELETE FROM node WHERE state <> 'running' AND beat_us < $1 AND id < (SELECT max(id) FROM node)",
                    {to_us(session.now() - settings_.nodes)});
  });
  return false;
}

}  // namespace dragoman::jobs
