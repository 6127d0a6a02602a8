#pragma once

#include <map>
#include <string>
#include <vector>

#include "pipeline/sync.h"

namespace dragoman::app {

/// Tells in plain words what the capture does, from one look at its status to the next.
///
/// Threads: one thread at a time.
class Progress {
 public:
  struct Report {
    std::vector<std::string> lines;  ///< what happened since the last look, each worth keeping
    std::string now;                 ///< what is going on, in one line
  };
  Report look(const std::vector<pipeline::ConnectionStatus>& connections);

 private:
  struct Seen {
    std::string state, error;
    bool complete = false;
    std::map<std::string, std::string> phases;
    std::map<std::string, std::int64_t> changes;
  };
  std::map<std::string, Seen> seen_;
};

/// `12,345`
std::string with_commas(std::int64_t number);
/// `8 s`, `3 min`, `2 h 5 min`
std::string in_words(Micros duration);

}  // namespace dragoman::app
