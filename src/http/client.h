#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "http/message.h"

namespace dragoman::http {

struct ClientSettings {
  std::chrono::milliseconds connect_timeout{10'000};
  /// No byte for so long after the request was sent, and the call fails. 0: no limit.
  std::chrono::milliseconds idle_timeout{120'000};
  std::chrono::milliseconds total_timeout{300'000};
  std::uint64_t body_bytes_max = 256ull << 20;
  /// File with certificates to trust besides the system's; empty: the system's alone.
  std::string ca_file;
  std::string user_agent = "dragoman";
};

/// Makes HTTP/1.1 calls.
///
/// TLS is always verified. Redirects are not followed: a 3xx is handed back as it is. Only http and https.
/// Compressed answers are asked for and unpacked; the size limit counts unpacked bytes.
///
/// Threads: safe from any thread; a call blocks its caller.
class Client {
 public:
  virtual ~Client() = default;

  /// Any status is a Response.
  ///
  /// Errors  unavailable: no connection was made, nothing was sent (DNS, refused, TLS: code `dns`, `connect`,
  ///         `connect_timeout`, `tls`); in_doubt: the request went out, and no whole answer came (code `reset`,
  ///         `timeout`, `cut`); protocol: not HTTP, or the body is over its limit (code `not_http`, `too_large`);
  ///         invalid: the URL (code `url`); cancelled: `stop` was asked.
  virtual Response send(const Request& request, std::stop_token stop = {}) = 0;
};

/// A Client on libcurl. One instance keeps a pool of handles, one per call under way.
std::unique_ptr<Client> make_client(ClientSettings settings);

}  // namespace dragoman::http
