#!/usr/bin/env bash
# A throw-away PostgreSQL for the store's tests, with its default durability.
#   tools/pg.sh start [DIR]    starts a cluster in DIR (default: a new temporary folder), prints DRAGOMAN_TEST_PG=URI and
#                              DRAGOMAN_TEST_PG_DIR=DIR; says where it is when it runs there already
#   tools/pg.sh stop DIR       stops it and deletes the folder
# And a pair of them, a primary that confirms nothing before its standby has it on disk:
#   tools/pg.sh pair [DIR]     starts both, prints DRAGOMAN_TEST_PG_PAIR=URI (both hosts, whichever takes writes), the URI of
#                              each as DRAGOMAN_TEST_PG_PRIMARY and DRAGOMAN_TEST_PG_STANDBY, and DRAGOMAN_TEST_PG_PAIR_DIR=DIR
#   tools/pg.sh kill DIR       ends the server in DIR (DIR/primary, DIR/standby of a pair) as a power cut would
#   tools/pg.sh again DIR      starts the server in DIR again, on its port
#   tools/pg.sh promote DIR    makes the standby in DIR the primary
#   tools/pg.sh stop-pair DIR  stops both and deletes the folder
# PostgreSQL refuses to run as root: as root, the user 'postgres' of Debian's package runs it.
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || die "PostgreSQL's server is not installed: run tools/setup.sh test"

as_owner() {
  if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp "$@"); else "$@"; fi
}
report() {
  echo "DRAGOMAN_TEST_PG=$(cat "$1/uri")"
  echo "DRAGOMAN_TEST_PG_DIR=$1"
}
running() { [ -s "$1/uri" ] && as_owner "$bin/pg_ctl" -D "$1/data" status >/dev/null 2>&1; }

start() {
  local dir=${1:-} password
  if [ -n "$dir" ] && running "$dir"; then report "$dir"; return; fi
  if [ -z "$dir" ]; then dir=$(mktemp -d "${TMPDIR:-/tmp}/dragoman-pg.XXXXXX"); else rm -rf "$dir"; mkdir -p "$dir"; fi
  dir=$(cd "$dir" && pwd -P)
  chmod 0755 "$dir"
  password=$(set +o pipefail; tr -dc a-z0-9 </dev/urandom | head -c 24)
  (umask 077; echo "$password" >"$dir/password")
  if [ "$(id -u)" = 0 ]; then chown postgres: "$dir" "$dir/password"; fi
  as_owner "$bin/initdb" -D "$dir/data" -U dragoman -E UTF8 --locale=C.UTF-8 --pwfile="$dir/password" \
    --auth=scram-sha-256 >/dev/null || die "initdb failed in $dir"
  serve "$dir" "$password"
  report "$dir"
}

# Starts what is in DIR/data on a free port that it keeps.
serve() {
  local dir=$1 password=$2 port i
  for i in 1 2 3; do
    port=$(free_port)
    echo "$port" >"$dir/port"
    if launch "$dir"; then
      (umask 077; echo "postgresql://dragoman:$password@127.0.0.1:$port/postgres" >"$dir/uri")
      return
    fi
  done
  tail -n 5 "$dir/log" >&2
  die "PostgreSQL did not start in $dir"
}
launch() {
  as_owner "$bin/pg_ctl" -D "$1/data" -w -t 60 -l "$1/log" \
    -o "-c listen_addresses=127.0.0.1 -c port=$(cat "$1/port") -c unix_socket_directories= -c max_connections=200 $(cat "$1/options" 2>/dev/null)" \
    start >/dev/null
}

pair() {
  local dir=${1:-} password primary
  if [ -z "$dir" ]; then
    dir=$(mktemp -d "${TMPDIR:-/tmp}/dragoman-pg-pair.XXXXXX")
  else
    rm -rf "$dir"
    mkdir -p "$dir"
  fi
  dir=$(cd "$dir" && pwd -P)
  chmod 0755 "$dir"
  start "$dir/primary" >/dev/null
  password=$(cat "$dir/primary/password")
  primary=$(cat "$dir/primary/uri")
  mkdir -p "$dir/standby"
  (umask 077; echo "$password" >"$dir/standby/password")
  if [ "$(id -u)" = 0 ]; then chown postgres: "$dir/standby" "$dir/standby/password"; fi
  as_owner "$bin/pg_basebackup" -D "$dir/standby/data" -R -X stream -c fast -d "$primary?application_name=standby" >/dev/null ||
    die "the standby could not be made from the primary in $dir"
  serve "$dir/standby" "$password"
  # Only now, for without a standby nothing would ever be confirmed. Of the primary's command line alone: promoted, the
  # standby confirms by itself.
  echo "-c synchronous_standby_names=standby" >"$dir/primary/options"
  as_owner "$bin/pg_ctl" -D "$dir/primary/data" -m fast -w stop >/dev/null
  launch "$dir/primary" || die "the primary did not start again in $dir"
  echo "DRAGOMAN_TEST_PG_PAIR=postgresql://dragoman:$password@127.0.0.1:$(cat "$dir/primary/port"),127.0.0.1:$(cat "$dir/standby/port")/postgres?target_session_attrs=read-write"
  echo "DRAGOMAN_TEST_PG_PRIMARY=$primary"
  echo "DRAGOMAN_TEST_PG_STANDBY=$(cat "$dir/standby/uri")"
  echo "DRAGOMAN_TEST_PG_PAIR_DIR=$dir"
}

# The server's process and its children, by their ids, at once: they get no time to write or to say goodbye.
kill_server() {
  local dir=${1:?kill needs the folder} pid children i
  pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null) || die "no server runs in $dir"
  kill -STOP "$pid"
  children=$(cat "/proc/$pid/task/$pid/children")
  # A child that ended before it was stopped is no failure.
  # shellcheck disable=SC2086
  kill -KILL "$pid" $children 2>/dev/null || true
  for ((i = 0; i < 100; i++)); do
    process_mark "$pid" >/dev/null || break
    sleep 0.1
  done
  # Where nobody collects the dead process, its number would look like a server that runs.
  rm -f "$dir/data/postmaster.pid"
}
again() {
  local dir=${1:?again needs the folder}
  launch "$dir" || die "the server in $dir did not start again: $(tail -n 3 "$dir/log")"
}
promote() {
  local dir=${1:?promote needs the folder}
  as_owner "$bin/pg_ctl" -D "$dir/data" -w -t 60 promote >/dev/null || die "the standby in $dir could not be promoted"
}
stop_pair() {
  local dir=${1:?stop-pair needs the folder} one
  for one in standby primary; do
    if [ -d "$dir/$one/data" ]; then stop "$dir/$one"; fi
  done
  rm -rf "$dir"
}

stop() {
  local dir=${1:?stop needs the folder}
  [ -d "$dir/data" ] || die "$dir is not a folder of tools/pg.sh"
  if running "$dir"; then as_owner "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null; fi
  rm -rf "$dir"
}

case ${1:-} in
  start | stop | pair | again | promote) "$@" ;;
  kill) kill_server "${@:2}" ;;
  stop-pair) stop_pair "${@:2}" ;;
  *) die "usage: tools/pg.sh start|pair [DIR] | stop|kill|again|promote|stop-pair DIR" ;;
esac
