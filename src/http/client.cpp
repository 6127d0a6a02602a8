#include "http/client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/error.h"

namespace dragoman::http {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kPadding = 64;                 // simdjson reads so far behind the end
constexpr std::uint64_t kReserveMax = 8ull << 20;    // a Content-Length is believed up to here
constexpr std::size_t kHeaderBytesMax = 256u << 10;  // all header lines of an answer together
constexpr long kKeptConnections = 2;
// Servers drop idle connections after 2 s (gunicorn) to 75 s (nginx). A dead one is mostly noticed before it is
// used again, but each use of an old one is a small risk of an answer that stays in doubt.
constexpr long kKeptSeconds = 15;
constexpr std::size_t kPoolMax = 32;

struct CurlFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
struct MultiFree {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};

// One call at a time. The multi interface is used for a single transfer because it can be woken up by another
// thread: the easy one looks at its progress callback once a second, too slow to stop on Ctrl-C.
struct Handle {
  std::unique_ptr<CURLM, MultiFree> multi{curl_multi_init()};
  std::unique_ptr<CURL, CurlFree> easy{curl_easy_init()};
};

struct Call {
  const Request* request = nullptr;
  std::uint64_t body_bytes_max = 0;
  std::size_t body_sent = 0;  // handed to libcurl
  Response response;
  std::size_t header_bytes = 0;
  SteadyClock::time_point last_activity;
  bool head_whole = false;  // of the final answer
  bool too_large = false;
  bool headers_too_large = false;
  bool out_of_memory = false;
};

std::size_t on_read(char* out, std::size_t size, std::size_t count, void* user) {
  auto& call = *static_cast<Call*>(user);
  const std::size_t n = std::min(size * count, call.request->body.size() - call.body_sent);
  std::memcpy(out, call.request->body.data() + call.body_sent, n);
  call.body_sent += n;
  call.last_activity = SteadyClock::now();
  return n;
}

// libcurl sends a request again by itself when a kept connection gives no answer. That is how an order is made
// twice; refusing to rewind the body forbids it.
int on_seek(void*, curl_off_t, int) {
  return CURL_SEEKFUNC_FAIL;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& call = *static_cast<Call*>(user);
  const std::string_view line(data, size * count);
  call.last_activity = SteadyClock::now();
  call.header_bytes += line.size();
  if (call.header_bytes > kHeaderBytesMax) {
    call.headers_too_large = true;
    return 0;
  }
  if (line.substr(0, 5) == "HTTP/") {  // a new answer: what came before was a 1xx
    call.response.headers.clear();
    call.head_whole = false;
    return line.size();
  }
  if (line == "\r\n" || line == "\n") call.head_whole = true;
  if (const auto field = parse_header_line(line))
    call.response.headers.add(std::string(field->first), std::string(field->second));
  return line.size();
}

std::size_t on_write(char* data, std::size_t size, std::size_t count, void* user) {
  auto& call = *static_cast<Call*>(user);
  const std::size_t n = size * count;
  auto& body = call.response.body;
  call.last_activity = SteadyClock::now();
  if (body.size() + n > call.body_bytes_max) {
    call.too_large = true;
    return n == 0 ? 1 : 0;  // anything but n stops the transfer
  }
  if (body.empty()) {
    std::uint64_t expected = 0;
    if (const auto length = call.response.headers.find("Content-Length"))
      for (char c : *length) {
        if (c < '0' || c > '9' || expected > kReserveMax) break;
        expected = expected * 10 + std::uint64_t(c - '0');
      }
    body.reserve(std::max<std::size_t>(n, std::min({expected, kReserveMax, call.body_bytes_max})) + kPadding);
  }
  try {
    body.append(data, n);
  } catch (const std::bad_alloc&) {  // must not fly through C
    call.out_of_memory = true;
    return 0;
  }
  return n;
}

std::string part(CURLU* url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, 0) != CURLUE_OK || !text) return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

class CurlClient final : public Client {
 public:
  explicit CurlClient(ClientSettings settings) : settings_(std::move(settings)) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  }

  Response send(const Request& request, std::stop_token stop) override;

 private:
  std::unique_ptr<Handle> take() {
    std::lock_guard lock(mutex_);
    if (pool_.empty()) return nullptr;
    auto handle = std::move(pool_.back());  // the last one back has the freshest connections
    pool_.pop_back();
    return handle;
  }
  void give_back(std::unique_ptr<Handle> handle) {
    curl_easy_reset(handle->easy.get());  // keeps connections and sessions
    std::lock_guard lock(mutex_);
    if (pool_.size() < kPoolMax) pool_.push_back(std::move(handle));
  }

  const ClientSettings settings_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Handle>> pool_;
};

// `https://host:port`: what of a URL may stand in a message. User names and queries hold secrets.
std::string origin_of(const std::string& target) {
  const std::unique_ptr<CURLU, CurlFree> url(curl_url());
  const auto bad = [&](std::string_view why) {
    Error error(Error::Kind::invalid,
                fmt::format("the URL is not usable: {}; it has to look like https://host or http://host:port", why));
    error.code = "url";
    return error;
  };
  if (target.find_first_of(std::string_view("\r\n\0 ", 4)) != std::string::npos)
    throw bad("it holds a space or a control character");
  const CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, target.c_str(), 0);
  if (code != CURLUE_OK) throw bad(curl_url_strerror(code));
  const std::string scheme = part(url.get(), CURLUPART_SCHEME), host = part(url.get(), CURLUPART_HOST),
                    port = part(url.get(), CURLUPART_PORT);
  if (scheme != "http" && scheme != "https") throw bad("only http and https are spoken");
  if (host.empty()) throw bad("it has no host");
  return scheme + "://" + host + (port.empty() ? "" : ":" + port);
}

Error failure(Error::Kind kind, const char* code, std::string message, std::string detail) {
  Error error(kind, std::move(message), std::move(detail));
  error.code = code;
  return error;
}

struct Outcome {
  CURLcode code;
  bool connected;  // TCP, proxy and TLS are done
  bool sent;       // the server may have the whole request
  bool answered;   // at least one byte of an answer came
  std::string text;
};

Error translate(const Outcome& out, const Call& call, const std::string& origin, const ClientSettings& settings) {
  using Kind = Error::Kind;
  const std::string detail = fmt::format("libcurl {}: {}", int(out.code), out.text);
  if (call.too_large)
    return failure(
        Kind::protocol, "too_large",
        fmt::format("the answer of {} is larger than the limit of {} bytes: ask for fewer records or fields at once",
                    origin, settings.body_bytes_max),
        detail);
  if (call.headers_too_large)
    return failure(Kind::protocol, "too_large", fmt::format("the answer of {} has too many headers", origin), detail);
  const auto lost = [&](const char* code, std::string_view what) {
    if (out.sent)
      return failure(Kind::in_doubt, code,
                     fmt::format("{} {} after the request was sent: whether it was done is not known", origin, what),
                     detail);
    return failure(Kind::unavailable, code, fmt::format("{} {} before the request was sent", origin, what), detail);
  };
  switch (out.code) {
    case CURLE_URL_MALFORMAT:
      return failure(Kind::invalid, "url", fmt::format("the URL of {} is not usable", origin), detail);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return failure(Kind::unavailable, "dns",
                     fmt::format("the name of {} {} cannot be resolved: check the spelling and the name server",
                                 out.code == CURLE_COULDNT_RESOLVE_HOST ? "the server" : "the proxy for", origin),
                     detail);
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY:
    case CURLE_INTERFACE_FAILED:
      return failure(
          Kind::unavailable, "connect",
          fmt::format("no connection to {}: check that the server runs and that host and port are right", origin),
          detail);
    case CURLE_SSL_CACERT_BADFILE:
      return failure(Kind::invalid, "ca_file",
                     fmt::format("the certificate file {} cannot be read or holds no certificate", settings.ca_file),
                     detail);
    case CURLE_PEER_FAILED_VERIFICATION:
      return failure(Kind::unavailable, "tls",
                     fmt::format("the certificate of {} is not trusted ({}): if it is your own, give its issuer's "
                                 "certificate as the CA file",
                                 origin, out.text),
                     detail);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED:
      return failure(Kind::unavailable, "tls",
                     fmt::format("no TLS connection to {} ({}): check that this port speaks https", origin, out.text),
                     detail);
    case CURLE_UNSUPPORTED_PROTOCOL:  // HTTP/0.9, which is: no status line
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
      return failure(Kind::protocol, "not_http",
                     fmt::format("{} does not speak HTTP: check the port, and http against https", origin), detail);
    case CURLE_OPERATION_TIMEDOUT:
      if (!out.connected)
        return failure(Kind::unavailable, "connect_timeout",
                       fmt::format("no connection to {} within {} ms", origin, settings.connect_timeout.count()),
                       detail);
      return lost("timeout", "did not answer in time");
    case CURLE_PARTIAL_FILE:
    case CURLE_BAD_CONTENT_ENCODING:
      return lost("cut", "broke off its answer");
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    default:
      if (!out.connected)
        return failure(Kind::unavailable, "connect", fmt::format("no connection to {} ({})", origin, out.text), detail);
      return out.answered ? lost("cut", "broke off its answer") : lost("reset", "closed the connection");
  }
}

Response CurlClient::send(const Request& request, std::stop_token stop) {
  const std::string origin = origin_of(request.target);
  const auto cancelled = [&](bool sent) {
    return failure(Error::Kind::cancelled, sent ? "sent" : "", "the call was stopped", {});
  };
  if (stop.stop_requested()) throw cancelled(false);

  auto handle = take();
  if (!handle) {
    handle = std::make_unique<Handle>();
    if (!handle->multi || !handle->easy) throw Error(Error::Kind::unavailable, "out of memory for another HTTP call");
    curl_multi_setopt(handle->multi.get(), CURLMOPT_MAXCONNECTS, kKeptConnections);
    curl_multi_setopt(handle->multi.get(), CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
  }
  CURL* easy = handle->easy.get();
  CURLM* multi = handle->multi.get();

  Call call;
  call.request = &request;
  call.body_bytes_max = settings_.body_bytes_max;
  call.last_activity = SteadyClock::now();
  char error_text[CURL_ERROR_SIZE] = {};

  curl_slist* raw_list = nullptr;
  const auto add_header = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(raw_list, line.c_str());
    if (longer) raw_list = longer;
  };
  for (const auto& [name, value] : request.headers) {
    if (!parse_header_line(name + ":" + value) || name.find(':') != std::string::npos) {
      curl_slist_free_all(raw_list);
      give_back(std::move(handle));
      throw failure(Error::Kind::invalid, "header", "a header of the request holds a character it must not", {});
    }
    add_header(value.empty() ? name + ";" : name + ": " + value);
  }
  add_header("Expect:");  // else a body of over 1 MB waits a second for a 100 that Odoo never sends
  if (!request.headers.find("Content-Type")) add_header("Content-Type:");
  const std::unique_ptr<curl_slist, CurlFree> list(raw_list);

  curl_easy_setopt(easy, CURLOPT_URL, request.target.c_str());
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, kKeptSeconds);
  // Else stopping a call during a name lookup waits for the resolver to give up.
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, settings_.user_agent.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list.get());
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, long(settings_.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &call);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &call);
  if (!settings_.ca_file.empty()) {
    // The file takes the place of the default bundle; the default folder of single certificates stays.
    curl_easy_setopt(easy, CURLOPT_CAINFO, settings_.ca_file.c_str());
    const auto* info = curl_version_info(CURLVERSION_NOW);
    curl_easy_setopt(easy, CURLOPT_CAPATH,
                     info->age >= CURLVERSION_EIGHTH && info->capath ? info->capath : "/etc/ssl/certs");
  }
  const bool tls = origin.starts_with("https");
  const bool has_body = !request.body.empty() || request.method == "POST";
  if (has_body) {
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, &call);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
  } else if (request.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else {
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
  }
  // Without a body there is nothing to rewind, so a kept connection could make it send such a call twice.
  if (request.body.empty() && request.method != "GET" && request.method != "HEAD")
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
  if (request.method != "POST" && request.method != "GET" && request.method != "HEAD")
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());

  const auto connected = [&] {
    // When libcurl takes the time of what differs by its version: any sign is enough that TCP, proxy and TLS are done.
    curl_off_t pretransfer = 0, connect = 0, handshake = 0;
    curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &pretransfer);
    curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connect);
    curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &handshake);
    return pretransfer > 0 || call.body_sent > 0 || call.header_bytes > 0 || (tls ? handshake : connect) > 0;
  };

  const auto started = SteadyClock::now();
  CURLcode result = CURLE_OK;
  bool stopped = false, idle = false, done = false;
  const auto request_sent = [&] {
    // After a refused repetition libcurl's own count has begun anew.
    if (result == CURLE_SEND_FAIL_REWIND) return call.body_sent >= request.body.size();
    curl_off_t uploaded = 0;
    long header_bytes = 0;
    curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &header_bytes);
    return request.body.empty() ? header_bytes > 0 : std::size_t(uploaded) >= request.body.size();
  };
  curl_multi_add_handle(multi, easy);
  {
    const std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });
    while (!done) {
      int running = 0;
      const CURLMcode code = curl_multi_perform(multi, &running);
      if (code != CURLM_OK) {
        result = CURLE_FAILED_INIT;
        break;
      }
      if (running == 0) {
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi, &left))
          if (message->msg == CURLMSG_DONE) result = message->data.result;
        // libcurl takes a head that just ends for a whole one.
        if (result == CURLE_OK && !call.head_whole) result = CURLE_RECV_ERROR;
        done = true;
        break;
      }
      if (stop.stop_requested()) {
        stopped = true;
        break;
      }
      const auto now = SteadyClock::now();
      auto wait = std::chrono::milliseconds(1000);
      if (settings_.total_timeout.count() > 0) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(started + settings_.total_timeout - now);
        if (left.count() <= 0) idle = true;
        wait = std::min(wait, left);
      }
      if (settings_.idle_timeout.count() > 0 && connected()) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(call.last_activity + settings_.idle_timeout - now);
        if (left.count() <= 0) idle = true;
        wait = std::min(wait, left);
      }
      if (idle) {
        result = CURLE_OPERATION_TIMEDOUT;
        break;
      }
      curl_multi_poll(multi, nullptr, 0, int(wait.count()), nullptr);
    }
  }
  const bool was_connected = connected();
  // Before the request is out an empty body tells nothing; then the connection does.
  const bool sent = was_connected && request_sent();
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  curl_multi_remove_handle(multi, easy);  // closes the connection if the answer is not whole
  const Outcome outcome{result, was_connected, sent, call.header_bytes > 0,
                        error_text[0] ? error_text : curl_easy_strerror(result)};
  // After a failure it is not used again: from 8.10 on libcurl begins the next request with the rewind that was refused.
  if (result == CURLE_OK) give_back(std::move(handle));

  if (stopped) throw cancelled(sent);
  if (result != CURLE_OK) throw translate(outcome, call, origin, settings_);
  call.response.status = int(status);
  auto& body = call.response.body;
  if (body.capacity() - body.size() < kPadding) body.reserve(body.size() + kPadding);
  return std::move(call.response);
}

}  // namespace

std::unique_ptr<Client> make_client(ClientSettings settings) {
  return std::make_unique<CurlClient>(std::move(settings));
}

}  // namespace dragoman::http
