#include "app/progress.h"

#include <fmt/format.h>

#include <algorithm>

namespace dragoman::app {

std::string with_commas(std::int64_t number) {
  std::string text = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t at = text.size(); at > first + 3;) {
    at -= 3;
    text.insert(at, ",");
  }
  return text;
}

std::string in_words(Micros duration) {
  const auto seconds = std::chrono::round<std::chrono::seconds>(duration).count();
  if (seconds < 120) return fmt::format("{} s", std::max<std::int64_t>(0, seconds));
  const auto minutes = (seconds + 30) / 60;
  if (minutes < 120) return fmt::format("{} min", minutes);
  return fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

Progress::Report Progress::look(const std::vector<pipeline::ConnectionStatus>& connections) {
  Report report;
  std::vector<std::string> now;
  for (const auto& connection : connections) {
    Seen& seen = seen_[connection.connection];
    const std::string& name = connection.connection;
    if (connection.state != seen.state) {
      if (connection.state != "active")
        report.lines.push_back(
            fmt::format("{}: {}{}", name, connection.state, connection.reason.empty() ? "" : ": " + connection.reason));
      else if (!seen.state.empty())
        report.lines.push_back(name + ": active again");
      seen.state = connection.state;
    }
    if (connection.error != seen.error) {
      if (!connection.error.empty())
        report.lines.push_back(name + ": " + connection.error);
      else
        report.lines.push_back(name + ": reached again");
      seen.error = connection.error;
    }

    std::int64_t records = 0, changes = 0, done = 0;
    std::vector<const pipeline::ModelStatus*> pulling;
    for (const auto& model : connection.models) {
      auto& phase = seen.phases[model.model];
      const bool pulls = model.phase == "pulling";
      const bool waits = model.phase == "waiting";
      if (phase != model.phase) {
        if (model.phase == "unavailable")
          report.lines.push_back(fmt::format("{}: {} is not captured: {}", name, model.model, model.reason));
        else if (!pulls && !waits && phase == "pulling")
          report.lines.push_back(
              fmt::format("{}: {}: {} records are here", name, model.model, with_commas(model.done)));
        phase = model.phase;
      }
      if (model.phase == "unavailable") continue;
      if (pulls) pulling.push_back(&model);
      if (!pulls && !waits) ++done;
      records += model.done;
      changes += model.changes;
      auto& before = seen.changes[model.model];
      if (seen.complete && model.changes > before)
        report.lines.push_back(fmt::format("{}: {}: {} {}", name, model.model, with_commas(model.changes - before),
                                           model.changes - before == 1 ? "change" : "changes"));
      before = model.changes;
    }
    const auto wanted = std::count_if(connection.models.begin(), connection.models.end(),
                                      [](const auto& model) { return model.phase != "unavailable"; });
    const bool complete = wanted > 0 && done == wanted;
    const bool told = complete && connection.state == "active" && connection.error.empty();
    if (told && !seen.complete)
      report.lines.push_back(fmt::format("{}: everything is here: {} models, {} records; following changes from now on",
                                         name, wanted, with_commas(records)));
    seen.complete = complete && (told || seen.complete);

    if (connection.state != "active") {
      now.push_back(fmt::format("{} is {}", name, connection.state));
    } else if (!connection.error.empty()) {
      now.push_back(fmt::format("{} can't be reached", name));
    } else if (!pulling.empty()) {
      // A narrow terminal cuts the end off: what decides how long it takes comes first, and names last.
      std::stable_sort(pulling.begin(), pulling.end(),
                       [](const auto* a, const auto* b) { return a->total - a->done > b->total - b->done; });
      if (pulling.size() > 2) pulling.resize(2);
      std::vector<std::string> shown;
      for (const auto* model : pulling)
        shown.push_back(fmt::format(
            "{}{}{} {} of {}", model->rate > 0 ? fmt::format("{}/s, ", with_commas(std::llround(model->rate))) : "",
            model->left ? fmt::format("{} left, ", in_words(*model->left)) : "", model->model, with_commas(model->done),
            with_commas(model->total)));
      now.push_back(fmt::format("pulling from {} ({} of {} models): {}", name, done, wanted, fmt::join(shown, "; ")));
    } else if (complete) {
      now.push_back(fmt::format("following {}: {} models, {} records, {} changes since the start", name, wanted,
                                with_commas(records), with_commas(changes)));
    } else {
      now.push_back(fmt::format("looking at what {} has", name));
    }
  }
  report.now = fmt::format("{}", fmt::join(now, " | "));
  return report;
}

}  // namespace dragoman::app
