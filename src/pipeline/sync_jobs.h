#pragma once

#include <vector>

#include "jobs/job.h"
#include "jobs/schedule.h"
#include "pipeline/connections.h"
#include "pipeline/sync.h"

namespace dragoman::pipeline {

/// What SyncService does by hand, as jobs, so that schedules can ask for it:
///
///     sync.run      brings a connection up to date; payload {"models": [], "full": false}
///     sync.certify  compares it with the remote; payload {"models": [], "bodies": "sample", "heal": true}
///
/// A job without connection makes one for each active connection. One whose connection is paused, in error or gone is
/// cancelled: a person decided that, or has to be asked.
///
/// Threads: safe from any thread.
class SyncJobs {
 public:
  SyncJobs(SyncService& sync, Connections& connections)
      : run_(*this, false), certify_(*this, true), sync_(sync), connections_(connections) {}

  /// They refer to this object, which outlives them.
  std::vector<jobs::Kind> kinds();

 private:
  class OneKind final : public jobs::Handler {
   public:
    OneKind(SyncJobs& owner, bool certifies) : owner_(owner), certifies_(certifies) {}
    std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;

   private:
    SyncJobs& owner_;
    const bool certifies_;
  };

  jobs::Outcome attempt(const jobs::Job& job, bool certifies, std::stop_token stop);
  jobs::Outcome for_each_connection(const jobs::Job& job);
  jobs::Outcome run(const std::string& connection, const std::string& payload, std::stop_token stop);
  jobs::Outcome certify(const std::string& connection, const std::string& payload, std::stop_token stop);

  OneKind run_, certify_;
  SyncService& sync_;
  Connections& connections_;
};

/// The program's own schedules of these: a certificate of every connection each night.
std::vector<jobs::ScheduleSpec> sync_schedules();

}  // namespace dragoman::pipeline
