#include "api/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <mutex>

namespace dragoman::api {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

// From a cached status to a long certificate.
const Histogram::BucketBoundaries kSeconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                           0.1,    0.25,  0.5,    1,     2.5,  10,    60};

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  file >> all >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE));
}

Family<Gauge>& gauges(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}

}  // namespace

class Metrics::Impl {
 public:
  explicit Impl(const std::string& version)
      : requests(prometheus::BuildCounter()
                     .Name("dragoman_http_requests_total")
                     .Help("Requests answered, by route and hundreds of the status.")
                     .Register(registry)),
        durations(prometheus::BuildHistogram()
                      .Name("dragoman_http_request_seconds")
                      .Help("Time to an answer, or to the head of a stream.")
                      .Register(registry)),
        open(gauges(registry, "dragoman_http_open", "Connections and streams that are open.")),
        turned_away(
            gauges(registry, "dragoman_http_turned_away",
                   "Requests refused because the hub was full, and peers dropped for being slow, since start.")),
        models(gauges(registry, "dragoman_models", "Captured models by what happens to them.")),
        connections(gauges(registry, "dragoman_connections", "Connections by state.")),
        jobs(gauges(registry, "dragoman_jobs", "Jobs by what became of them; all together are those ever accepted.")),
        messages(gauges(registry, "dragoman_messages",
                        "Messages to people that wait for their channel, and those given up within the last day.")),
        market_orders(gauges(registry, "dragoman_market_orders",
                             "Orders of marketplaces with something left to do: on their way to Odoo, held, not "
                             "acknowledged, flagged for a person, or whose status the marketplace did not take.")),
        market_products(gauges(registry, "dragoman_market_products",
                               "Products whose figures marketplaces have not been told yet, or did not take.")),
        market_oldest(gauges(registry, "dragoman_market_oldest_seconds",
                             "Age of the oldest order on its way to Odoo, and of the oldest figure not told.")),
        audit_entries(gauges(registry, "dragoman_audit_entries", "Entries of the audit log.").Add({})),
        stuck(gauges(registry, "dragoman_handlers_stuck", "Handlers of jobs that did not come back.").Add({})),
        records(gauges(registry, "dragoman_records", "Records held.").Add({})),
        changes(gauges(registry, "dragoman_change_number", "The newest number of the change feed.").Add({})),
        store_bytes(gauges(registry, "dragoman_store_bytes", "Size of the database.").Add({})),
        memory(gauges(registry, "dragoman_resident_bytes", "Memory of the process.").Add({})) {
    gauges(registry, "dragoman_info", "1, with the version.").Add({{"version", version}}).Set(1);
  }

  prometheus::Registry registry;
  Family<Counter>& requests;
  Family<Histogram>& durations;
  Family<Gauge>&open, &turned_away, &models, &connections, &jobs, &messages, &market_orders, &market_products,
      &market_oldest;
  Gauge &audit_entries, &stuck, &records, &changes, &store_bytes, &memory;

  // Looking a label set up costs more than the request it counts: each is looked up once.
  struct OfRoute {
    Histogram* seconds = nullptr;
    std::map<int, Counter*> by_hundreds;
  };
  std::mutex mutex;
  std::map<std::string, OfRoute> routes;
  std::function<Snapshot()> collect;
};

Metrics::Metrics(const std::string& version) : impl_(std::make_unique<Impl>(version)) {}
Metrics::~Metrics() = default;

void Metrics::served(const http::Served& served) {
  // A method or path of a client's invention must not become a label.
  std::string_view method = served.method;
  if (method == "HEAD") method = "GET";
  const bool known =
      !served.route.empty() && (method == "GET" || method == "POST" || method == "PATCH" || method == "DELETE");
  std::string key = "none";
  if (known) key = std::string(method) + " " + std::string(served.route);
  const int hundreds = served.status / 100;
  std::lock_guard lock(impl_->mutex);
  auto& of_route = impl_->routes[key];
  if (!of_route.seconds) of_route.seconds = &impl_->durations.Add({{"route", key}}, kSeconds);
  auto& counter = of_route.by_hundreds[hundreds];
  if (!counter) counter = &impl_->requests.Add({{"route", key}, {"status", std::to_string(hundreds) + "xx"}});
  counter->Increment();
  of_route.seconds->Observe(std::chrono::duration<double>(served.took).count());
}

void Metrics::on_scrape(std::function<Snapshot()> collect) {
  std::lock_guard lock(impl_->mutex);
  impl_->collect = std::move(collect);
}

std::string Metrics::text() {
  std::function<Snapshot()> collect;
  {
    std::lock_guard lock(impl_->mutex);
    collect = impl_->collect;
  }
  if (collect) {
    const Snapshot now = collect();
    const auto set = [](Family<Gauge>& family, const char* label, const std::string& value, std::int64_t number) {
      family.Add({{label, value}}).Set(static_cast<double>(number));
    };
    set(impl_->open, "what", "connection", now.server.connections);
    set(impl_->open, "what", "stream", now.server.streams);
    set(impl_->turned_away, "why", "full", now.server.refused_busy);
    set(impl_->turned_away, "why", "slow", now.server.dropped_slow);
    for (const auto& phase : now.phases) set(impl_->models, "phase", phase.phase, phase.models);
    set(impl_->connections, "state", "active", now.connections_active);
    set(impl_->connections, "state", "paused", now.connections_paused);
    set(impl_->connections, "state", "error", now.connections_error);
    set(impl_->jobs, "state", "waiting", now.jobs_waiting);
    set(impl_->jobs, "state", "running", now.jobs_running);
    set(impl_->jobs, "state", "done", now.jobs_done);
    set(impl_->jobs, "state", "cancelled", now.jobs_cancelled);
    set(impl_->jobs, "state", "dead", now.jobs_dead);
    set(impl_->messages, "state", "waiting", now.messages_waiting);
    set(impl_->messages, "state", "failed", now.messages_failed);
    set(impl_->market_orders, "state", "waiting", now.market.waiting);
    set(impl_->market_orders, "state", "held", now.market.held);
    set(impl_->market_orders, "state", "unacknowledged", now.market.unacknowledged);
    set(impl_->market_orders, "state", "flagged", now.market.flagged);
    set(impl_->market_orders, "state", "not_told", now.market.not_told);
    set(impl_->market_products, "state", "unsent", now.market.unsent);
    set(impl_->market_products, "state", "refused", now.market.refused);
    impl_->market_oldest.Add({{"what", "order"}}).Set(now.market.oldest_waiting_seconds);
    impl_->market_oldest.Add({{"what", "figure"}}).Set(now.market.oldest_unsent_seconds);
    impl_->audit_entries.Set(static_cast<double>(now.audit_entries));
    impl_->stuck.Set(static_cast<double>(now.handlers_stuck));
    impl_->records.Set(static_cast<double>(now.records));
    impl_->changes.Set(static_cast<double>(now.changes));
    impl_->store_bytes.Set(static_cast<double>(now.store_bytes));
  }
  impl_->memory.Set(resident_bytes());
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace dragoman::api
