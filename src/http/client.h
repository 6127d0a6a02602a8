#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "http/message.h"

namespace dragoman::http {

struct ClientSettings {
  /// Name lookup, TCP, proxy and TLS together.
  std::chrono::milliseconds connect_timeout{10'000};
  /// No byte either way for so long after the connection was made, and the call fails. 0: no limit.
  std::chrono::milliseconds idle_timeout{120'000};
  /// The whole call. 0: no limit.
  std::chrono::milliseconds total_timeout{300'000};
  /// Of the unpacked body; memory for more is never taken.
  std::uint64_t body_bytes_max = 256ull << 20;
  /// File with certificates to trust besides the system's; empty: the system's alone.
  std::string ca_file;
  std::string user_agent = "dragoman";
};

/// Makes HTTP/1.1 calls.
///
/// TLS is always verified. Redirects are not followed: a 3xx is handed back as it is. Only http and https.
/// Compressed answers are asked for and unpacked; the size limit counts unpacked bytes. Proxies are taken from the
/// environment (`http_proxy`, `https_proxy`, `no_proxy`).
///
/// Threads: safe from any thread; a call blocks its caller. No call may be under way when it is destroyed.
class Client {
 public:
  virtual ~Client() = default;

  /// Any status is a Response.
  ///
  /// Errors  unavailable: the server cannot have had the whole request (code `dns`, `connect`, `connect_timeout`,
  ///         `tls`, or `reset` and `timeout` while it was still going out); in_doubt: the request went out, and no
  ///         whole answer came (code `reset`: nothing came, `cut`: a part came, `timeout`); protocol: not HTTP, or the
  ///         body is over its limit (code `not_http`, `too_large`); invalid: the URL, a header, the certificate file
  ///         (code `url`, `header`, `ca_file`); cancelled: `stop` was asked; its code is `sent` if the request was out.
  ///
  /// A request is never sent twice by itself, also when a kept connection turns out to be dead.
  virtual Response send(const Request& request, std::stop_token stop = {}) = 0;
};

/// A Client on libcurl. One instance keeps a pool of handles, one per call under way, and with each its kept
/// connections; no connection is opened but for a call.
std::unique_ptr<Client> make_client(ClientSettings settings);

}  // namespace dragoman::http
