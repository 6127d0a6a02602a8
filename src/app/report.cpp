#include "app/report.h"

#include <fmt/format.h>
#include <sys/statfs.h>

#include <cstdio>
#include <map>

#include "base/text.h"

namespace dragoman::app {

void Report::setting(std::string_view name, std::string_view value) {
  if (json_)
    fmt::print("{{\"setting\":{},\"value\":{}}}\n", json_string(name), json_string(value));
  else
    fmt::print("{:<14}{}\n", std::string(name) + ":", value);
  std::fflush(stdout);
}

void Report::figure(std::string_view name, const Estimate& value, std::string_view unit, std::optional<double> goal,
                    bool higher_is_better) {
  const bool met = !goal || (higher_is_better ? value.median >= *goal : value.median <= *goal);
  missed_ |= !met;
  if (json_) {
    std::string text = fmt::format("{{\"name\":{},\"value\":{:.4g},\"low\":{:.4g},\"high\":{:.4g},\"unit\":{}", json_string(name),
                                   value.median, value.low, value.high, json_string(unit));
    if (goal) text += fmt::format(",\"goal\":{},\"better\":\"{}\"", *goal, higher_is_better ? "higher" : "lower");
    fmt::print("{}}}\n", text);
  } else {
    std::string text = fmt::format("{:<66}{:>10.4g} {:<8}", name, value.median, unit);
    if (value.low != value.high) text += fmt::format(" ({:.4g} to {:.4g})", value.low, value.high);
    if (goal) text += fmt::format("  goal {} {}{}", higher_is_better ? "≥" : "≤", *goal, met ? "" : ", MISSED");
    fmt::print("{}\n", text);
  }
  std::fflush(stdout);
}

void Report::line(std::string_view text) {
  if (json_)
    fmt::print("{{\"line\":{}}}\n", json_string(text));
  else
    fmt::print("{}\n", text);
  std::fflush(stdout);
}

std::string file_system(const std::string& folder) {
  static const std::map<long, std::string> kNames{
      {0xEF53, "ext4"},         {0x58465342, "xfs"},   {0x9123683E, "btrfs"}, {0x01021994, "tmpfs (in memory: nothing is kept)"},
      {0x794C7630, "overlay"},  {0x6969, "nfs"},       {0x2FC12FC1, "zfs"},   {0x65735546, "fuse"},
      {0xFF534D42, "cifs"},     {0x4D44, "fat"},       {0xF2F52010, "f2fs"}};
  struct statfs found{};
  if (::statfs(folder.c_str(), &found) != 0) return "unknown";
  const auto known = kNames.find(static_cast<long>(found.f_type));
  return known == kNames.end() ? fmt::format("of type {:#x}", static_cast<unsigned long>(found.f_type)) : known->second;
}

}  // namespace dragoman::app
