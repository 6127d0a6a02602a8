#include "jobs/job.h"

namespace dragoman::jobs {
namespace {

bool is_outage(Error::Kind kind) {
  return kind == Error::Kind::unavailable || kind == Error::Kind::busy || kind == Error::Kind::auth ||
         kind == Error::Kind::cancelled;
}

}  // namespace

std::string_view name(State state) {
  switch (state) {
    case State::available:
      return "available";
    case State::scheduled:
      return "scheduled";
    case State::running:
      return "running";
    case State::retryable:
      return "retryable";
    case State::completed:
      return "completed";
    case State::cancelled:
      return "cancelled";
    case State::discarded:
      return "discarded";
  }
  return "unknown";
}

Outcome done(std::function<void(store::Session&)> commit, std::string result) {
  Outcome outcome;
  outcome.what = Outcome::What::done;
  outcome.commit = std::move(commit);
  outcome.result = std::move(result);
  return outcome;
}

Outcome snooze(Micros delay) {
  Outcome outcome;
  outcome.what = Outcome::What::snooze;
  outcome.delay = delay;
  return outcome;
}

Outcome cancel(std::string why) {
  Outcome outcome;
  outcome.what = Outcome::What::cancel;
  outcome.kind = Error::Kind::cancelled;
  outcome.message = std::move(why);
  return outcome;
}

Outcome failed(const Error& error) {
  Outcome outcome;
  outcome.what = is_outage(error.kind)      ? Outcome::What::outage
                 : policy(error.kind).retry ? Outcome::What::retry
                                            : Outcome::What::dead;
  outcome.kind = error.kind;
  outcome.code = error.code;
  outcome.message = error.message;
  outcome.detail = error.detail;
  if (error.retry_after) outcome.delay = *error.retry_after;
  return outcome;
}

}  // namespace dragoman::jobs
