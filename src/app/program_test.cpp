// The real program from outside: started, asked, stopped, killed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "base/clock.h"
#include "fakes/raw_http.h"
#include "store/test_store.h"

extern char** environ;

namespace dragoman::app {
namespace {

using nlohmann::json;

std::string text_of(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// A child whose output goes to two files.
class Child {
 public:
  Child(std::vector<std::string> arguments, const std::string& output, std::vector<std::string> more_environment = {})
      : out_(output + ".out"), err_(output + ".err") {
    std::vector<char*> argv{const_cast<char*>(DRAGOMAN_PROGRAM)};
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::vector<char*> variables;
    for (char** one = environ; *one; ++one) {
      const std::string_view text(*one);
      if (!text.starts_with("DRAGOMAN_") && !text.starts_with("ODOO_")) variables.push_back(*one);
    }
    for (auto& one : more_environment) variables.push_back(one.data());
    variables.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      const int out = open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int err = open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int in = open("/dev/null", O_RDONLY);
      dup2(in, 0);
      dup2(out, 1);
      dup2(err, 2);
      execve(argv[0], argv.data(), variables.data());
      _exit(127);
    }
  }
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      wait();
    }
  }
  void signal(int number) const { kill(pid_, number); }
  // The exit code, or minus the signal that ended it.
  int wait() {
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  bool runs() const { return pid_ > 0 && waitpid(pid_, nullptr, WNOHANG) == 0; }
  std::string out() const { return text_of(out_); }
  std::string err() const { return text_of(err_); }

 private:
  std::string out_, err_;
  pid_t pid_ = -1;
};

class ProgramTest : public testing::Test {
 protected:
  struct Done {
    int code;
    std::string out, err;
  };
  Done run(std::vector<std::string> arguments, std::vector<std::string> environment = {}) {
    arguments.insert(arguments.end(), {"--data-dir", data_});
    Child child(std::move(arguments), folder_ / ("command" + std::to_string(++count_)), std::move(environment));
    const int code = child.wait();
    return {code, child.out(), child.err()};
  }
  Child start(std::vector<std::string> environment = {}) {
    return Child({"run", "--data-dir", data_, "--listen", "127.0.0.1:0"}, folder_ / ("hub" + std::to_string(++count_)),
                 std::move(environment));
  }
  // The port of the hub, once it answers. A process outside can only be asked again and again.
  std::uint16_t await(const Child& hub) {
    for (int i = 0; i < 3000 && hub.runs(); ++i) {
      const json told = json::parse(text_of(data_ + "/hub.json"), nullptr, false);
      if (told.is_object()) {
        const std::string url = told["url"];
        return static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
      }
      SystemClock().wait(std::chrono::milliseconds(10), {});
    }
    ADD_FAILURE() << "the hub did not start: " << hub.out() << hub.err();
    return 0;
  }

  // A hub that was there makes the folder and the store.
  void make_store() {
    Child hub = start();
    await(hub);
    hub.signal(SIGTERM);
    EXPECT_EQ(hub.wait(), 0);
  }
  // Until the text appears among a child's messages.
  static bool says(const Child& child, const std::string& text) {
    for (int i = 0; i < 3000 && child.runs(); ++i) {
      if (child.err().find(text) != std::string::npos) return true;
      SystemClock().wait(std::chrono::milliseconds(10), {});
    }
    return false;
  }

  store::TemporaryFolder folder_;
  std::string data_ = folder_ / "data";
  int count_ = 0;
};

TEST_F(ProgramTest, StartsShowsItsTokenAnswersStopsAndGoesOn) {
  std::string token;
  {
    Child hub = start();
    const auto port = await(hub);
    token = text_of(data_ + "/token");
    token.pop_back();
    struct stat file{};
    stat((data_ + "/token").c_str(), &file);
    EXPECT_EQ(file.st_mode & 0777, 0600u);
    EXPECT_EQ(hub.out().find(token), std::string::npos) << "standard output is a file, which others may read";
    EXPECT_NE(hub.out().find(data_ + "/token"), std::string::npos) << "where it is, is said";
    EXPECT_EQ(hub.err().find(token), std::string::npos) << "and never in the log";

    tests::RawHttp client(port);
    EXPECT_EQ(client.ask("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    EXPECT_EQ(client.ask("GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    EXPECT_EQ(client.ask("GET /api/v1/status HTTP/1.1\r\nHost: h\r\n\r\n").status, 401);
    EXPECT_EQ(
        client.ask("GET /api/v1/status HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token + "\r\n\r\n").status,
        200);

    const Done made = run({"token", "create", "screen", "--json"});
    EXPECT_EQ(made.code, 0) << made.err;
    EXPECT_EQ(json::parse(made.out)["role"], "viewer");
    EXPECT_NE(run({"token", "list"}).out.find("screen"), std::string::npos);
    const Done unknown = run({"connection", "show", "nobody"});
    EXPECT_EQ(unknown.code, 65);
    EXPECT_EQ(unknown.out, "");
    EXPECT_NE(unknown.err.find("There is no connection `nobody`"), std::string::npos);

    const Done second = run({"run", "--listen", "127.0.0.1:0"});
    EXPECT_EQ(second.code, 75);
    EXPECT_NE(second.err.find("Another hub at http://127.0.0.1:" + std::to_string(port)), std::string::npos)
        << second.err;

    hub.signal(SIGTERM);
    EXPECT_EQ(hub.wait(), 0);
    EXPECT_NE(hub.err().find("Stopped."), std::string::npos);
    EXPECT_THROW(tests::RawHttp gone(port), std::runtime_error);
  }
  {
    Child hub = start();
    const auto port = await(hub);
    EXPECT_EQ(hub.out(), "") << "it is not said again";
    tests::RawHttp client(port);
    EXPECT_EQ(
        client.ask("GET /api/v1/tokens HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + token + "\r\n\r\n").status,
        200);
    hub.signal(SIGINT);
    EXPECT_EQ(hub.wait(), 0);
  }
}

TEST_F(ProgramTest, StartsAgainAfterItWasKilled) {
  {
    Child hub = start();
    await(hub);
    hub.signal(SIGKILL);
    EXPECT_EQ(hub.wait(), -SIGKILL);
  }
  EXPECT_EQ(run({"store", "info"}).code, 0) << "a stale hub.json doesn't matter";
  ASSERT_EQ(unlink((data_ + "/hub.json").c_str()), 0);
  Child hub = start();
  await(hub);
  hub.signal(SIGTERM);
  EXPECT_EQ(hub.wait(), 0);
}

TEST_F(ProgramTest, WorksWithoutARunningHub) {
  make_store();
  const Done info = run({"store", "info", "--json"});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_EQ(info.err, "");
  EXPECT_EQ(json::parse(info.out)["engine"], "sqlite");
  EXPECT_EQ(run({"connection", "list"}).out, "(none)\n");
  EXPECT_EQ(run({"store", "rotate-key"}).code, 0);
  const std::string copy = folder_ / "copy.db";
  EXPECT_EQ(run({"store", "backup", copy}).code, 0);
  EXPECT_EQ(run({"store", "backup", copy}).code, 65) << "it exists";
}

TEST_F(ProgramTest, ExitCodesTellWhatKindOfThingWentWrong) {
  EXPECT_EQ(run({"no-such-command"}).code, 64);
  EXPECT_EQ(run({"token", "create"}).code, 64);
  make_store();
  EXPECT_EQ(run({"change", "list", "--since", "x"}).code, 65);
  EXPECT_EQ(run({"status"}, {"DRAGOMAN_HTTP_LITSEN=1"}).code, 65);
  EXPECT_EQ(run({"status", "--hub", "http://127.0.0.1:1", "--token-file", "/dev/null"}).code, 75);
  EXPECT_EQ(run({"status", "--hub", "http://127.0.0.1:1", "--token-file", "/nowhere"}).code, 77);
  EXPECT_EQ(run({"--help"}).code, 0);
  EXPECT_EQ(run({"--version"}).code, 0);
}

TEST_F(ProgramTest, AFolderOrFileThatCannotBeUsedIsSaidSo) {
  std::ofstream(folder_ / "plain") << "x";
  data_ = folder_ / "plain";
  const Done folder = run({"run"});
  EXPECT_EQ(folder.code, 65);
  EXPECT_NE(folder.err.find("can't be"), std::string::npos) << folder.err;
  EXPECT_NE(folder.err.find("--data-dir"), std::string::npos);

  data_ = folder_ / "data";
  mkdir(data_.c_str(), 0700);
  std::ofstream(data_ + "/dragoman.db") << "this is no database, and long enough to be looked at as one";
  const Done database = run({"store", "info"});
  EXPECT_EQ(database.code, 65);
  EXPECT_EQ(text_of(data_ + "/dragoman.db").substr(0, 7), "this is") << "it was left alone";
}

TEST_F(ProgramTest, OnlyWhatBeginsSomethingMakesAFolder) {
  const Done lost = run({"connection", "list"});
  EXPECT_EQ(lost.code, 65);
  EXPECT_NE(lost.err.find("There is no store in " + data_), std::string::npos) << lost.err;
  EXPECT_EQ(run({"status"}).code, 1);
  EXPECT_NE(access(data_.c_str(), F_OK), 0);

  mkdir(data_.c_str(), 0755);
  EXPECT_EQ(run({"connection", "list"}).code, 65);
  EXPECT_NE(access((data_ + "/lock").c_str(), F_OK), 0) << "a folder that is none of ours is left alone";

  make_store();
  const Done status = run({"status"});
  EXPECT_EQ(status.code, 1);
  EXPECT_NE(status.err.find("no hub runs on the data folder"), std::string::npos) << status.err;
  EXPECT_EQ(run({"connection", "list"}).code, 0);
}

TEST_F(ProgramTest, AHubWithItsStoreElsewhereIsAsked) {
  const std::string store = folder_ / "elsewhere.db";
  Child hub({"run", "--data-dir", data_, "--listen", "127.0.0.1:0", "--store", store}, folder_ / "hub_elsewhere");
  await(hub);
  const Done info = run({"store", "info", "--json"});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_EQ(run({"status"}).code, 0);
  hub.signal(SIGKILL);
  hub.wait();
  EXPECT_EQ(run({"store", "info"}).code, 65) << "what it left behind is no hub";
  EXPECT_NE(access((data_ + "/dragoman.db").c_str(), F_OK), 0);
}

TEST_F(ProgramTest, FollowingGoesOnWhenTheHubWasStartedAgain) {
  std::string address;
  std::optional<Child> follower;
  {
    Child hub = start();
    await(hub);
    address = text_of(data_ + "/hub.json");
    const std::string token = json::parse(run({"token", "create", "follower", "--json"}).out)["token"];
    follower.emplace(std::vector<std::string>{"change", "list", "--follow", "--data-dir", data_}, folder_ / "follower",
                     std::vector<std::string>{"DRAGOMAN_TOKEN=" + token});
    // Its first question, which is answered at once, shows by its token.
    for (int i = 0; i < 1000; ++i) {
      const json tokens = json::parse(run({"token", "list", "--json"}).out)["tokens"];
      if (!tokens.back()["used"].is_null()) break;
    }
    hub.signal(SIGTERM);
    EXPECT_EQ(hub.wait(), 0);
  }
  EXPECT_TRUE(says(*follower, "asking again until it answers")) << follower->err();
  Child hub = start();
  await(hub);
  EXPECT_NE(text_of(data_ + "/hub.json"), address);
  EXPECT_TRUE(says(*follower, "the hub answers again")) << follower->err();
  follower->signal(SIGTERM);
  EXPECT_EQ(follower->wait(), 0);
  hub.signal(SIGTERM);
  EXPECT_EQ(hub.wait(), 0);
}

TEST_F(ProgramTest, ALostKeyOfSecretsIsSaidAndNeverReplaced) {
  std::ofstream(folder_ / "password") << "s3cret-password\n";
  ASSERT_EQ(
      run({"connection", "add", "main", "--url", "http://127.0.0.1:1", "--secret-file", folder_ / "password"}).code, 0);
  const std::string key = data_ + "/secret.key";
  ASSERT_EQ(rename(key.c_str(), (folder_ / "kept.key").c_str()), 0);
  for (const auto& arguments : {std::vector<std::string>{"run", "--listen", "127.0.0.1:0"}, {"connection", "list"}}) {
    const Done lost = run(arguments);
    EXPECT_EQ(lost.code, 65);
    EXPECT_NE(lost.err.find("The key file " + key + " is not there"), std::string::npos) << lost.err;
    EXPECT_NE(lost.err.find("(main)"), std::string::npos) << lost.err;
    EXPECT_NE(access(key.c_str(), F_OK), 0);
  }
  // What the message says for a key that is lost for good.
  const int made = open(key.c_str(), O_WRONLY | O_CREAT, 0600);
  const std::string fresh = std::string(64, 'a') + "\n";
  ASSERT_EQ(write(made, fresh.data(), fresh.size()), static_cast<ssize_t>(fresh.size()));
  close(made);
  EXPECT_EQ(run({"connection", "list"}).code, 0);
  EXPECT_EQ(run({"connection", "update", "main", "--secret-file", folder_ / "password"}).code, 0);
  EXPECT_EQ(run({"store", "rotate-key"}).code, 0) << "all secrets open again";
}

TEST_F(ProgramTest, AnotherKeyOfSecretsStopsTheConnectionAndTheRightOneLetsItGoOn) {
  std::ofstream(folder_ / "password") << "s3cret-password\n";
  ASSERT_EQ(run({"connection", "add", "main", "--url", "http://127.0.0.1:1", "--database", "shop", "--login", "ann",
                 "--secret-file", folder_ / "password"})
                .code,
            0);
  const std::string key = data_ + "/secret.key", kept = folder_ / "kept.key";
  ASSERT_EQ(rename(key.c_str(), kept.c_str()), 0);
  const int made = open(key.c_str(), O_WRONLY | O_CREAT, 0600);
  const std::string other = std::string(64, 'a') + "\n";
  ASSERT_EQ(write(made, other.data(), other.size()), static_cast<ssize_t>(other.size()));
  close(made);
  const auto ask = [&](std::vector<std::string> words) {
    words.push_back("--json");
    const Done done = run(words);
    EXPECT_EQ(done.code, 0) << done.err;
    return json::parse(done.out, nullptr, false);
  };
  // The lane of the deliveries, once why it is closed holds this text.
  const auto closed = [&](const char* text) {
    json found = json::object();
    for (int i = 0; i < 200; ++i) {
      const json all = ask({"flow", "list"});
      for (const json& lane : all["lanes"])
        if (lane["kind"] == "odoo.import") found = lane;
      if (found.value("closed", "").find(text) != std::string::npos) break;
    }
    return found;
  };
  Child hub = start();
  await(hub);
  EXPECT_EQ(ask({"inbox", "put", "main", "--idempotency-key", "1", "--model", "res.partner", "--key", "A", "--values",
                 R"({"name":"A"})"})["records"],
            1);
  json connection;
  for (int i = 0; i < 200 && connection["state"] != "error"; ++i) connection = ask({"connection", "show", "main"});
  EXPECT_EQ(connection["state"], "error");
  const std::string reason = connection.value("reason", "");
  EXPECT_NE(reason.find("sealed with a key that is not in"), std::string::npos) << reason;
  EXPECT_NE(reason.find("dragoman connection resume main"), std::string::npos) << reason;
  const json held = closed("until a person acts");
  EXPECT_NE(held.value("closed", "").find("until a person acts"), std::string::npos) << held;
  EXPECT_EQ(held.value("dead", -1), 0);
  EXPECT_EQ(held.value("cancelled", -1), 0);

  ASSERT_EQ(rename(kept.c_str(), key.c_str()), 0);
  EXPECT_EQ(ask({"connection", "show", "main"})["state"], "error") << "a person says when";
  EXPECT_EQ(ask({"connection", "resume", "main"})["state"], "active");
  // Nobody is there, which is found out with the secret in hand.
  const json tried = closed("no connection to http://127.0.0.1:1");
  EXPECT_NE(tried.value("closed", "").find("tried again at"), std::string::npos) << tried;
  EXPECT_EQ(tried.value("dead", -1), 0);
  EXPECT_EQ(ask({"connection", "show", "main"})["state"], "active");
  hub.signal(SIGTERM);
  EXPECT_EQ(hub.wait(), 0);
}

TEST_F(ProgramTest, ALostOrEmptyDatabaseIsNotTakenForANewOne) {
  make_store();
  const std::string database = data_ + "/dragoman.db", kept = folder_ / "kept.db";
  ASSERT_EQ(rename(database.c_str(), kept.c_str()), 0);
  const std::vector<std::vector<std::string>> all{
      {"run", "--listen", "127.0.0.1:0"},
      {"connection", "list"},
      {"connection", "add", "main", "--url", "http://127.0.0.1:1", "--database", "d", "--login", "l"}};
  for (const auto& arguments : all) {
    const Done gone = run(arguments);
    EXPECT_EQ(gone.code, 65) << arguments[0];
    EXPECT_NE(gone.err.find("was used before (it has secret.key, token, node)"), std::string::npos) << gone.err;
    EXPECT_NE(gone.err.find(database), std::string::npos) << gone.err;
    EXPECT_NE(gone.err.find("backup"), std::string::npos) << gone.err;
    EXPECT_NE(access(database.c_str(), F_OK), 0) << "and none was made";
  }
  std::ofstream(database).close();
  for (const auto& arguments : all) {
    const Done empty = run(arguments);
    EXPECT_EQ(empty.code, 65) << arguments[0];
    EXPECT_NE(empty.err.find("is empty (0 bytes)"), std::string::npos) << empty.err;
  }
  ASSERT_EQ(rename(kept.c_str(), database.c_str()), 0);
  EXPECT_EQ(run({"connection", "list"}).code, 0);
}

TEST_F(ProgramTest, AnEmptyDatabaseAloneInItsFolderIsRefusedUnlessAFirstStartLeftIt) {
  mkdir(data_.c_str(), 0700);
  std::ofstream(data_ + "/dragoman.db").close();
  const Done alone = run({"run", "--listen", "127.0.0.1:0"});
  EXPECT_EQ(alone.code, 65);
  EXPECT_NE(alone.err.find("To begin anew, move it away."), std::string::npos) << alone.err;
  std::ofstream(data_ + "/first-start").close();
  make_store();
  EXPECT_NE(access((data_ + "/first-start").c_str(), F_OK), 0);
  EXPECT_EQ(run({"connection", "list"}).code, 0);
}

TEST_F(ProgramTest, AHubThatHangsIsNotWaitedForForEver) {
  const int hangs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(hangs, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(hangs, 16), 0);
  ASSERT_EQ(getsockname(hangs, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  for (const auto& words : {std::vector<std::string>{"connection", "list"}, {"sync", "run", "main"}}) {
    auto arguments = words;
    arguments.insert(arguments.end(), {"--hub", url, "--token-file", "/dev/null", "--timeout", "1"});
    const Done done = run(arguments);
    EXPECT_EQ(done.code, 75) << done.err;
    EXPECT_NE(done.err.find("The hub at " + url + " does not answer: nothing came for 1 s"), std::string::npos)
        << done.err;
  }
  close(hangs);
}

TEST_F(ProgramTest, SecretsOfConnectionsComeFromAFileAndAreNeverShown) {
  std::ofstream(folder_ / "password") << "s3cret-password\n";
  const Done added = run(
      {"connection", "add", "main", "--url", "http://127.0.0.1:1", "--secret-file", folder_ / "password", "--json"});
  EXPECT_EQ(added.code, 0) << added.err;
  for (const auto& arguments :
       {std::vector<std::string>{"connection", "list", "--json"}, {"connection", "show", "main"}, {"config", "show"}}) {
    const Done shown = run(arguments);
    EXPECT_EQ((shown.out + shown.err).find("s3cret"), std::string::npos);
  }
  EXPECT_EQ(text_of(data_ + "/dragoman.db").find("s3cret"), std::string::npos);
  // A code of a shop's, kept as text by an earlier version.
  const auto code = [&](const std::function<void(store::Session&)>& what) {
    SystemClock clock;
    store::open({.url = data_ + "/dragoman.db"}, clock)->write(what);
  };
  code([](store::Session& session) {
    session.execute(
        "INSERT INTO market_order (connection_id, external_id, seen_us, changed_us, state, ack, otp) VALUES (1, 'A', "
        "0, "
        "0, 'new', 'no', '314159')");
  });
  const std::string key = text_of(data_ + "/secret.key");
  const Done rotated = run({"store", "rotate-key", "--json"});
  EXPECT_EQ(rotated.code, 0) << rotated.err;
  EXPECT_EQ(json::parse(rotated.out)["secrets"], 2);
  code([](store::Session& session) {
    EXPECT_TRUE(session.first("SELECT 1 FROM market_order WHERE otp = '' AND otp_sealed IS NOT NULL", {},
                              [](const store::Row&) {}));
  });
  EXPECT_EQ(text_of(data_ + "/dragoman.db").find("314159"), std::string::npos);
  EXPECT_NE(text_of(data_ + "/secret.key"), key);
  const Done tested = run({"connection", "test", "main"});
  EXPECT_NE(tested.code, 0) << "nobody is there";
  EXPECT_EQ(tested.err.find("key"), std::string::npos) << "but the secret was opened: " << tested.err;
  EXPECT_EQ((tested.out + tested.err).find("s3cret"), std::string::npos);
}

TEST_F(ProgramTest, TheEnvironmentMakesAConnectionAndChangesIt) {
  const std::vector<std::string> first{"ODOO_URL=http://127.0.0.1:1", "ODOO_DB=a", "ODOO_USERNAME=admin",
                                       "ODOO_API_KEY=k1-secret"};
  auto second = first;
  second[1] = "ODOO_DB=b";
  for (const auto& [environment, database] : {std::pair{first, "a"}, {first, "a"}, {second, "b"}}) {
    Child hub = start(environment);
    await(hub);
    const Done shown = run({"connection", "show", "main", "--json"});
    EXPECT_EQ(json::parse(shown.out)["settings"]["database"], database);
    hub.signal(SIGTERM);
    EXPECT_EQ(hub.wait(), 0);
    EXPECT_EQ((hub.out() + hub.err()).find("k1-secret"), std::string::npos);
  }
  const Done lacking = run({"run", "--listen", "127.0.0.1:0"}, {"ODOO_URL=http://127.0.0.1:1"});
  EXPECT_EQ(lacking.code, 65);
  EXPECT_NE(lacking.err.find("ODOO_API_KEY"), std::string::npos);
}

TEST_F(ProgramTest, APortInUseIsSaidWithItsOwner) {
  Child hub = start();
  const auto port = await(hub);
  const std::string other = folder_ / "other";
  Child second({"run", "--data-dir", other, "--listen", "127.0.0.1:" + std::to_string(port)}, folder_ / "second");
  EXPECT_EQ(second.wait(), 65);
  EXPECT_NE(second.err().find("port " + std::to_string(port) + " is in use by dragoman (pid "), std::string::npos)
      << second.err();
}

}  // namespace
}  // namespace dragoman::app
