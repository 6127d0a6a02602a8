#!/usr/bin/env bash
# A throw-away PostgreSQL for the store's tests, with its default durability.
#   tools/pg.sh start [DIR]    starts a cluster in DIR (default: a new temporary folder), prints DRAGOMAN_TEST_PG=URI and
#                              DRAGOMAN_TEST_PG_DIR=DIR; says where it is when it runs there already
#   tools/pg.sh stop DIR       stops it and deletes the folder
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
  local dir=${1:-} port i password
  if [ -n "$dir" ] && running "$dir"; then report "$dir"; return; fi
  if [ -z "$dir" ]; then dir=$(mktemp -d "${TMPDIR:-/tmp}/dragoman-pg.XXXXXX"); else rm -rf "$dir"; mkdir -p "$dir"; fi
  dir=$(cd "$dir" && pwd -P)
  chmod 0755 "$dir"
  password=$(set +o pipefail; tr -dc a-z0-9 </dev/urandom | head -c 24)
  (umask 077; echo "$password" >"$dir/password")
  if [ "$(id -u)" = 0 ]; then chown postgres: "$dir" "$dir/password"; fi
  as_owner "$bin/initdb" -D "$dir/data" -U dragoman -E UTF8 --locale=C.UTF-8 --pwfile="$dir/password" \
    --auth=scram-sha-256 >/dev/null || die "initdb failed in $dir"
  for i in 1 2 3; do
    port=$(free_port)
    if as_owner "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/log" \
      -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories= -c max_connections=200" start >/dev/null; then
      (umask 077; echo "postgresql://dragoman:$password@127.0.0.1:$port/postgres" >"$dir/uri")
      report "$dir"
      return
    fi
  done
  tail -n 5 "$dir/log" >&2
  die "PostgreSQL did not start in $dir"
}

stop() {
  local dir=${1:?stop needs the folder}
  [ -d "$dir/data" ] || die "$dir is not a folder of tools/pg.sh"
  if running "$dir"; then as_owner "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null; fi
  rm -rf "$dir"
}

case ${1:-} in
  start | stop) "$@" ;;
  *) die "usage: tools/pg.sh start [DIR] | stop DIR" ;;
esac
