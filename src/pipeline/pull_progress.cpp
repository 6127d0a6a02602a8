#include "pipeline/pull_progress.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace dragoman::pipeline {
namespace {

// A record may have twenty fields or two hundred: a thousand of the latter would keep a worker for many seconds.
constexpr std::int64_t kFirstPage = 100;

}  // namespace

PullProgress::PullProgress(std::int64_t last_id, std::int64_t count, std::int64_t page_records, Time started)
    : last_id_(last_id),
      page_(std::min(page_records, kFirstPage)),
      page_max_(page_records),
      total_(count),
      started_(started) {
  // Ids have gaps: as many ids as hold a page on average.
  width_ = count > 0 ? std::max<std::int64_t>(
                           1, static_cast<std::int64_t>(static_cast<double>(last_id) / static_cast<double>(count) *
                                                        static_cast<double>(page_)))
                     : page_;
}

std::optional<PullProgress> PullProgress::parse(std::string_view text) {
  const auto read = nlohmann::json::parse(text, nullptr, false);
  if (!read.is_object() || !read.contains("frontier")) return std::nullopt;
  PullProgress progress;
  progress.last_id_ = read.value("last_id", std::int64_t(0));
  progress.frontier_ = read.value("frontier", std::int64_t(0));
  progress.width_ = std::max<std::int64_t>(1, read.value("width", std::int64_t(1000)));
  progress.page_ = std::max<std::int64_t>(1, read.value("page", std::int64_t(1000)));
  progress.page_max_ = std::max<std::int64_t>(1, read.value("page_max", progress.page_));
  progress.done_ = read.value("done", std::int64_t(0));
  progress.total_ = read.value("total", std::int64_t(0));
  progress.tail_given_ = read.value("tail", false);
  progress.started_ = from_us(read.value("started_us", std::int64_t(0)));
  for (const auto& range : read.value("open", nlohmann::json::array())) {
    Range open{range.at(0).get<std::int64_t>(), std::nullopt};
    if (!range.at(1).is_null()) open.upto = range.at(1).get<std::int64_t>();
    progress.open_.push_back({open, false});
  }
  return progress;
}

std::string PullProgress::json() const {
  nlohmann::json open = nlohmann::json::array();
  for (const Open& o : open_)
    open.push_back({o.range.after, o.range.upto ? nlohmann::json(*o.range.upto) : nlohmann::json()});
  return nlohmann::json{{"last_id", last_id_}, {"frontier", frontier_}, {"width", width_},
                        {"page", page_},       {"page_max", page_max_}, {"done", done_},
                        {"total", total_},     {"tail", tail_given_},   {"started_us", to_us(started_)},
                        {"open", open}}
      .dump();
}

std::optional<Range> PullProgress::claim() {
  for (Open& open : open_)
    if (!open.claimed) {
      open.claimed = true;
      return open.range;
    }
  if (tail_given_) return std::nullopt;
  Range range{frontier_, std::nullopt};
  if (frontier_ < last_id_) {
    // The last stretches get smaller, so that no fetcher is left alone with a whole one while the others have ended.
    const std::int64_t left = last_id_ - frontier_;
    const std::int64_t taken = std::min(width_, std::max({std::int64_t(1), width_ / 4, left / 4}));
    range.upto = taken < left ? frontier_ + taken : last_id_;
    frontier_ = *range.upto;
  } else {
    tail_given_ = true;
  }
  open_.push_back({range, true});
  return range;
}

void PullProgress::advance(std::int64_t after, std::int64_t upto) {
  for (Open& open : open_)
    if (open.range.after == after) open.range.after = upto;
}

void PullProgress::finish(std::int64_t after) {
  std::erase_if(open_, [&](const Open& open) { return open.range.after == after && open.claimed; });
}

void PullProgress::release_all() {
  for (Open& open : open_) open.claimed = false;
}

void PullProgress::adapt(std::int64_t width, std::int64_t records, std::int64_t bytes, Micros took) {
  // A page is small enough to be answered in a third of a second and to fit in 4 MB, so that nobody else waits long
  // behind it; larger pages would save next to nothing.
  constexpr std::int64_t kBytes = 4 << 20;
  constexpr Micros kTime = std::chrono::milliseconds(300);
  if (records >= 20) {
    const double share = std::max({static_cast<double>(bytes) / kBytes,
                                   static_cast<double>(took.count()) / static_cast<double>(kTime.count()), 0.01});
    const auto right = static_cast<std::int64_t>(static_cast<double>(records) / share);
    if (share > 1.0)
      page_ = std::max<std::int64_t>(20, right);
    else  // what a part of it took says something about four times as many, not about ten times
      page_ = std::min(page_max_, std::max(page_, std::min(right, records * 4)));
  }
  const double density =
      static_cast<double>(std::max<std::int64_t>(records, 1)) / static_cast<double>(std::max<std::int64_t>(width, 1));
  const double wanted = static_cast<double>(page_) / density;
  width_ = static_cast<std::int64_t>(
      std::clamp(wanted, static_cast<double>(width_) / 4 + 1, static_cast<double>(width_) * 4));
}

}  // namespace dragoman::pipeline
