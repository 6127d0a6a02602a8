#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/text.h"
#include "http/server.h"

namespace dragoman::http {

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Status";
  }
}

Response problem_response(const Problem& problem) {
  Response response;
  response.status = problem.status;
  response.headers.add("Content-Type", "application/json");
  std::string& out = response.body;
  const auto field = [&](std::string_view name, std::string_view value) {
    if (out.back() != '{') out += ',';
    append_json_string(out, name);
    out += ':';
    append_json_string(out, value);
  };
  out = "{\"error\":{";
  field("kind", problem.kind);
  field("code", problem.code);
  field("message", problem.message);
  if (!problem.hint.empty()) field("hint", problem.hint);
  if (!problem.request_id.empty()) field("request_id", problem.request_id);
  out += "}}\n";
  return response;
}

std::string port_owner(std::uint16_t port) {
  std::string inode;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      std::istringstream words(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, node;
      words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> node;
      const auto colon = local.rfind(':');
      if (state == "0A" && colon != std::string::npos && std::strtoul(local.c_str() + colon + 1, nullptr, 16) == port &&
          node != "0")
        inode = node;
    }
  }
  if (inode.empty()) return {};
  const std::string wanted = "socket:[" + inode + "]";
  DIR* processes = opendir("/proc");
  if (!processes) return {};
  std::string owner;
  while (const dirent* process = readdir(processes)) {
    if (!owner.empty() || process->d_name[0] < '0' || process->d_name[0] > '9') continue;
    const std::string base = std::string("/proc/") + process->d_name;
    DIR* files = opendir((base + "/fd").c_str());  // fails for the processes of other users
    if (!files) continue;
    while (const dirent* file = readdir(files)) {
      char link[64];
      const ssize_t length = readlink((base + "/fd/" + file->d_name).c_str(), link, sizeof link);
      if (length <= 0 || std::string_view(link, static_cast<std::size_t>(length)) != wanted) continue;
      std::string name;
      std::ifstream comm(base + "/comm");
      std::getline(comm, name);
      owner = name + " (pid " + process->d_name + ")";
      break;
    }
    closedir(files);
  }
  closedir(processes);
  return owner;
}

}  // namespace dragoman::http
