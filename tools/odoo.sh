#!/usr/bin/env bash
# Real Odoo servers for tests and trials, from Debian's packages, in a Debian folder under the cache.
#
#   <cache>/odoo/<version>/root        the folder: Debian, Odoo, a PostgreSQL cluster of its own, a prepared template database
#   <cache>/odoo/<version>/run/<name>  one running instance: env (what a client needs), odoo.log, pid
#   <cache>/odoo/<version>/lock        held while anything here changes; a second caller waits
#
# Each instance has its own database and file store, copied from the template. Nothing is mounted on the machine itself:
# /proc and /dev are mounted in a private mount namespace that ends with the process.
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  cat <<'TEXT'
./dev odoo up [19|14] [--name NAME] [--workers N] [--crons N] [--fresh] [-- ODOO-OPTION...]
                           starts a real Odoo (builds it the first time), or says where it is when it runs already
      --name NAME          several instances side by side, each with its own database (default: main)
      --workers N          HTTP workers (default 2)
      --crons N            cron threads (default 0: nothing happens in it that you did not do)
      --fresh              a new database from the prepared template
./dev odoo down [19|14|all] [--name NAME]   stops one instance, or all of a version, and keeps their databases
./dev odoo drop [19|14] [--name NAME]       stops an instance and deletes its database
./dev odoo status                           what is built, what runs, versions
./dev odoo shell [19|14] [--name NAME]      Odoo's Python shell on an instance's database
./dev odoo psql [19|14] [--name NAME]       SQL on an instance's database
./dev odoo build [19|14]                    builds anew from today's packages; the old one stays if that fails
./dev odoo clean [19|14|all]                stops everything and deletes the folders
TEXT
}

login_password="admin"

use_version() {
  version=$1
  home=$cache_root/odoo/$version
  root=$home/root
  case $version in
    19)
      suite=trixie package=odoo-19 gevent_option=gevent_port
      init_options=(--with-demo -i "sale_management,stock,mrp,sale_stock,sale_loyalty,delivery,payment_demo,base_automation,account")
      ;;
    14)
      suite=bullseye package=odoo-14 gevent_option=longpolling_port
      init_options=(-i "sale_management,stock,mrp,sale_stock,sale_coupon,delivery,payment_test,base_automation,account")
      ;;
    *) die "Odoo $version is not one of those this builds: 19 (the newest) or 14 (the oldest)" ;;
  esac
}

lock_version() {
  mkdir -p "$home/run"
  give_to_caller "$cache_root" "$cache_root/odoo"
  exec 9>"$home/lock"
  if ! flock -n 9; then
    step "another ./dev odoo is busy with Odoo $version: waiting for it (its log: $home/build.log)"
    flock 9
  fi
}

# Runs a command in a Debian folder, as one of its users, with /proc and /dev of its own mount namespace. The pid stays ours.
# A machine that allows no mounts (a container without the right) runs it with the folder as it is.
inside_as() {
  local folder=$1 user=$2
  shift 2
  # shellcheck disable=SC2016
  local inner='folder=$1 user=$2; shift 2
    mount -t proc proc "$folder/proc" 2>/dev/null || mount --rbind /proc "$folder/proc" 2>/dev/null || :
    mount --rbind /dev "$folder/dev" 2>/dev/null || :
    if [ "$user" = root ]; then exec chroot "$folder" "$@"; fi
    exec chroot --userspec="$user:" "$folder" "$@"'
  local clean=(env -i "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/var/lib/odoo LANG=C.UTF-8
    LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "TERM=${TERM:-dumb}" "http_proxy=${http_proxy:-}" "https_proxy=${https_proxy:-}")
  if unshare -m --propagation private true 2>/dev/null; then
    exec "${clean[@]}" unshare -m --propagation private bash -c "$inner" inside "$folder" "$user" "$@"
  fi
  exec "${clean[@]}" bash -c "$inner" inside "$folder" "$user" "$@"
}
inside() { (inside_as "$@" 9>&-); }

# --- the PostgreSQL cluster of a folder ---------------------------------------------------------------------------------

pg_data=/var/lib/postgresql/dragoman
pg_bin() { (cd "$1" && printf '/%s/bin\n' usr/lib/postgresql/* | sort -V | tail -n 1); }

pg_running() {
  local folder=$1 pid
  pid=$(head -n 1 "$folder$pg_data/postmaster.pid" 2>/dev/null) || return 1
  [ "/proc/$pid/root" -ef "$folder" ]
}

pg_start() {
  local folder=$1 i port
  if pg_running "$folder"; then return; fi
  rm -f "$folder$pg_data/postmaster.pid"
  for i in 1 2 3; do
    port=$(free_port)
    echo "$port" >"$folder/var/lib/postgresql/port"
    if inside "$folder" postgres "$(pg_bin "$folder")/pg_ctl" -D "$pg_data" -w -t 60 -l /var/lib/postgresql/log \
      -o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=/var/lib/postgresql" start >/dev/null; then
      return
    fi
  done
  tail -n 5 "$folder/var/lib/postgresql/log" >&2 || true
  return 1
}

pg_stop() {
  local folder=$1
  if pg_running "$folder"; then
    inside "$folder" postgres "$(pg_bin "$folder")/pg_ctl" -D "$pg_data" -m fast -w -t 60 stop >/dev/null ||
      say "PostgreSQL of $folder did not stop; its log: $folder/var/lib/postgresql/log"
  fi
}

sql() { # sql FOLDER DATABASE TEXT
  inside "$1" postgres env PGOPTIONS='-c client_min_messages=warning' psql -h /var/lib/postgresql -p "$(cat "$1/var/lib/postgresql/port")" -qAtX -v ON_ERROR_STOP=1 -d "$2" -c "$3"
}

# --- building ------------------------------------------------------------------------------------------------------------

odoo_config() { # odoo_config FOLDER NAME: the settings that every start of an instance has in common
  cat <<CONF
[options]
db_host = 127.0.0.1
db_port = $(cat "$1/var/lib/postgresql/port")
db_user = odoo
db_password = $(cat "$1/var/lib/postgresql/password")
data_dir = /var/lib/odoo/instances/$2
CONF
}

write_config() {
  install -d -m 0755 "$1/etc/dragoman"
  odoo_config "$1" "$2" >"$1/etc/dragoman/$2.conf"
  chmod 0644 "$1/etc/dragoman/$2.conf"
  inside "$1" root install -d -o odoo -m 0700 "/var/lib/odoo/instances/$2"
}

versions_of() { # shellcheck disable=SC2016
  inside "$1" root dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' "$package" 'postgresql-1*' python3 2>/dev/null |
    awk '$1 == "ii" && $2 !~ /client|common/ { printf "%s%s %s", s, $2, $3; s = ", " } END { print "" }'
}

build_folder() {
  local folder=$1 mirror
  mirror=$(debian_mirror)
  step "debootstrap $suite"
  # In a mount namespace too: what debootstrap mounts goes when it ends, however it ends.
  local wrap=()
  if unshare -m --propagation private true 2>/dev/null; then wrap=(unshare -m --propagation private); fi
  "${wrap[@]}" debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder" "$mirror"

  printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d"
  chmod 0755 "$folder/usr/sbin/policy-rc.d"
  echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/dragoman"
  apt_network_settings >"$folder/etc/apt/apt.conf.d/99dragoman"
  echo 'Acquire::Languages "none";' >>"$folder/etc/apt/apt.conf.d/99dragoman"
  cp /etc/resolv.conf "$folder/etc/resolv.conf"
  if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
  fi
  install -d "$folder/etc/postgresql-common"
  install -d "$folder/etc/postgresql-common/createcluster.d"
  echo 'create_main_cluster = false' >"$folder/etc/postgresql-common/createcluster.d/dragoman.conf"

  local packages=("$package" postgresql)
  if [ "$version" = 19 ]; then
    # Odoo 19 is only in unstable, and wants trixie's Python: everything from trixie, and from unstable what only it has.
    echo "deb $mirror sid main" >"$folder/etc/apt/sources.list.d/sid.list"
    printf 'Package: *\nPin: release n=sid\nPin-Priority: 50\n' >"$folder/etc/apt/preferences.d/sid"
    packages+=(tzdata-legacy)
  fi
  step "apt-get install ${packages[*]}"
  inside "$folder" root apt-get -q update
  inside "$folder" root apt-get -q -y install --no-install-recommends "${packages[@]}"
  inside "$folder" root apt-get -q clean
  rm -rf "$folder"/var/lib/apt/lists/*

  step "PostgreSQL cluster"
  inside "$folder" root install -d -o postgres -m 0755 /var/lib/postgresql
  inside "$folder" postgres "$(pg_bin "$folder")/initdb" -D "$pg_data" -E UTF8 --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256 >/dev/null
  # Room for the connections of several instances at once.
  printf "max_connections = 300\npassword_encryption = 'scram-sha-256'\nmax_wal_size = 2GB\n" >>"$folder$pg_data/postgresql.conf"
  (set +o pipefail; tr -dc a-z0-9 </dev/urandom | head -c 24) >"$folder/var/lib/postgresql/password"
  chmod 0600 "$folder/var/lib/postgresql/password"
  pg_start "$folder"
  sql "$folder" postgres "create role odoo superuser login password '$(cat "$folder/var/lib/postgresql/password")'"
  sql "$folder" postgres "create database template_odoo owner odoo encoding 'UTF8' template template0"

  step "preparing the template database: ${init_options[*]}"
  write_config "$folder" template
  inside "$folder" odoo odoo -c /etc/dragoman/template.conf -d template_odoo "${init_options[@]}" --stop-after-init

  step "making the API key of its administrator"
  # Odoo 18 and later want to know when the key ends; before that there was no such argument.
  inside "$folder" odoo odoo shell -c /etc/dragoman/template.conf -d template_odoo --no-http >"$folder/var/lib/odoo/key.out" <<'PY'
keys = env['res.users.apikeys'].with_user(2)
try:
    key = keys._generate(None, 'dragoman', None)
except TypeError:
    key = keys._generate(None, 'dragoman')
env.cr.commit()
print('KEY=' + key)
PY
  grep -oE 'KEY=[0-9a-f]{40}' "$folder/var/lib/odoo/key.out" | cut -d= -f2 >"$folder/var/lib/odoo/api_key" || true
  [ -s "$folder/var/lib/odoo/api_key" ] || { cat "$folder/var/lib/odoo/key.out"; say "no API key came out of odoo shell"; return 1; }
  sql "$folder" postgres "update pg_database set datistemplate = true, datallowconn = false where datname = 'template_odoo'" ||
    { say "could not seal the template database"; return 1; }
  versions_of "$folder" >"$folder/.versions"
  pg_stop "$folder"
  step "built: $(cat "$folder/.versions")"
}

# A build that stops halfway takes its PostgreSQL along.
build_folder_or_clean_up() {
  trap 'if [ -d "$home/root.new" ]; then pg_stop "$home/root.new"; fi' EXIT
  build_folder "$home/root.new"
  trap - EXIT
}

# Deletes a folder without anybody waiting: some file systems take minutes for so many files.
remove_later() {
  [ -d "$1" ] || return 0
  local away
  away=$(mktemp -d "$home/trash.XXXXXX")
  mv "$1" "$away/"
  (setsid nice rm -rf "$away" </dev/null >/dev/null 2>&1 9>&- &)
}

# Builds beside the old folder and puts the new one in its place only when it is whole.
build() {
  "$repo_root/tools/setup.sh" odoo
  local new=$home/root.new log=$home/build.log
  if pg_running "$new"; then pg_stop "$new"; fi
  remove_later "$new"
  step "building Odoo $version under $home (a few minutes, 2.5 GB; log: $log)"
  # A shell of its own: in a function whose result somebody looks at, bash forgets set -e.
  if ! "$0" build-folder "$version" 9>&- >"$log" 2>&1; then
    say "building Odoo $version failed; the end of $log:"
    tail -n 15 "$log" >&2
    return 1
  fi
  stop_all
  # The old folder goes only when the new one has served somebody: see up.
  remove_later "$home/root.old"
  if [ -d "$root" ]; then mv "$root" "$home/root.old"; fi
  mv "$new" "$root"
  step "Odoo $version is built: $(cat "$root/.versions")"
}

ensure_built() {
  [ -s "$root/.versions" ] || build || die "there is no Odoo $version yet, and building one failed (see above)"
}

# --- instances -----------------------------------------------------------------------------------------------------------

database_of() { echo "odoo_${1//[^a-z0-9_]/_}"; }

stop_instance() { # by its directory
  if [ -e "$1/pid" ]; then
    step "stopping Odoo $version '$(basename "$1")'"
    stop_marked "$1/pid" TERM 20
  fi
  rm -f "$1/env"
}

any_running() {
  local d
  for d in "$home"/run/*/; do if process_lives "${d}pid"; then return 0; fi; done
  return 1
}

stop_all() {
  local d
  for d in "$home"/run/*/; do if [ -d "$d" ]; then stop_instance "${d%/}"; fi; done
  if [ -d "$root" ]; then pg_stop "$root"; fi
}

json_rpc() { # json_rpc URL SERVICE METHOD ARGS
  curl -sS --noproxy '*' --max-time "${4:-10}" -H 'Content-Type: application/json' "$1/jsonrpc" \
    -d "{\"jsonrpc\":\"2.0\",\"method\":\"call\",\"id\":1,\"params\":{\"service\":\"common\",\"method\":\"$2\",\"args\":$3}}"
}

# Healthy: tells its version, and lets the administrator in (which takes its database).
healthy() { # healthy URL DATABASE SECONDS
  json_rpc "$1" version '[]' "$3" 2>/dev/null | grep '"server_version"' >/dev/null &&
    json_rpc "$1" authenticate "[\"$2\",\"admin\",\"$login_password\",{}]" "$3" 2>/dev/null | grep -E '"result": *[0-9]+' >/dev/null
}

make_database() {
  local db=$1
  [ "$(sql "$root" postgres "select 1 from pg_database where datname = '$db'")" = 1 ] && [ -d "$root/var/lib/odoo/instances/$name" ] && return
  step "copying the template database to '$db'"
  sql "$root" postgres "select pg_terminate_backend(pid) from pg_stat_activity where datname in ('$db','template_odoo')" >/dev/null
  sql "$root" postgres "drop database if exists \"$db\"" || return 1
  sql "$root" postgres "create database \"$db\" template template_odoo owner odoo" || return 1
  rm -rf "$root/var/lib/odoo/instances/$name"
  # The file store is named by its database. Its files never change once written: links are enough.
  cp -al "$root/var/lib/odoo/instances/template" "$root/var/lib/odoo/instances/$name" &&
    mv "$root/var/lib/odoo/instances/$name/filestore/template_odoo" "$root/var/lib/odoo/instances/$name/filestore/$db" || return 1
  # A database knows itself by its uuid: two copies must not share one.
  sql "$root" "$db" "update ir_config_parameter set value = gen_random_uuid()::text where key = 'database.uuid'"
}

start_instance() {
  local run=$1 db=$2 port gevent attempt i
  pg_start "$root" || return 1
  make_database "$db" || return 1
  mkdir -p "$run"
  for attempt in 1 2 3; do
    port=$(port_again "$run/port") gevent=$(free_port)
    echo "$port" >"$run/port"
    write_config "$root" "$name"
    printf '%s = %s\n' http_interface 127.0.0.1 http_port "$port" "$gevent_option" "$gevent" workers "$workers" \
      max_cron_threads "$crons" >>"$root/etc/dragoman/$name.conf"
    step "starting Odoo $version '$name' on 127.0.0.1:$port with $workers workers"
    (
      exec 9>&- </dev/null >"$run/odoo.log" 2>&1
      inside_as "$root" odoo setsid odoo -c "/etc/dragoman/$name.conf" -d "$db" "${extra[@]}"
    ) &
    local pid=$!
    process_mark "$pid" >"$run/pid" || true
    for ((i = 0; i < 240; i++)); do
      if healthy "http://127.0.0.1:$port" "$db" 20; then
        write_env "$run" "$db" "$port" "$pid"
        return
      fi
      process_lives "$run/pid" || break
      sleep 0.5
    done
    rm -f "$run/port"
    say "Odoo $version did not come up (try $attempt of 3); the end of $run/odoo.log:"
    tail -n 8 "$run/odoo.log" >&2
    stop_marked "$run/pid" TERM 10
  done
  return 1
}

write_env() {
  local run=$1 db=$2 port=$3 pid=$4 pg_port pg_password
  pg_port=$(cat "$root/var/lib/postgresql/port")
  pg_password=$(cat "$root/var/lib/postgresql/password")
  cat >"$run/env.new" <<ENV
ODOO_URL=http://127.0.0.1:$port
ODOO_DB=$db
ODOO_USERNAME=admin
ODOO_PASSWORD=$login_password
ODOO_API_KEY=$(cat "$root/var/lib/odoo/api_key")
ODOO_VERSION=$version
ODOO_WORKERS=$workers
ODOO_PID=$pid
ODOO_LOG=$run/odoo.log
ODOO_PG_URI=postgresql://odoo:$pg_password@127.0.0.1:$pg_port/$db
ODOO_PG_PID=$(head -n 1 "$root$pg_data/postmaster.pid")
ENV
  chmod 0600 "$run/env.new"
  give_to_caller "$run/env.new"
  mv "$run/env.new" "$run/env"
}

# An instance that does not start gets a new database, then a new folder, then the folder from before.
repair() {
  local run=$1 db=$2
  [ ${#extra[@]} = 0 ] || die "Odoo $version does not start with the options '${extra[*]}'; see $run/odoo.log"
  step "Odoo $version '$name' is broken: trying it with a new database"
  rm -rf "$root/var/lib/odoo/instances/$name"
  if start_instance "$run" "$db"; then return; fi
  ! any_running || die "Odoo $version '$name' does not start, while other instances of it run; see $run/odoo.log"
  step "it is still broken: building it anew"
  if build; then
    if start_instance "$run" "$db"; then return; fi
    if [ ! -d "$home/root.old" ]; then die "Odoo $version does not start; see $run/odoo.log and $home/build.log"; fi
    stop_all
    remove_later "$root"
    mv "$home/root.old" "$root"
  fi
  step "using the last good folder: $(cat "$root/.versions")"
  rm -rf "$root/var/lib/odoo/instances/$name"
  start_instance "$run" "$db" || die "Odoo $version does not start; see $run/odoo.log and $home/build.log"
}

up() {
  local run=$home/run/$name db options="workers $workers, cron threads $crons ${extra[*]}"
  db=$(database_of "$name")
  lock_version
  ensure_built
  if [ "$fresh" = 1 ]; then
    stop_instance "$run"
    rm -rf "$root/var/lib/odoo/instances/$name"
  fi
  if process_lives "$run/pid" && [ "$(cat "$run/options" 2>/dev/null)" != "$options" ]; then
    step "Odoo $version '$name' runs with $(cat "$run/options" 2>/dev/null), and $options are asked for: restarting it"
    stop_instance "$run"
  fi
  if process_lives "$run/pid" && [ -s "$run/env" ] && pg_running "$root" &&
    healthy "$(sed -n 's/^ODOO_URL=//p' "$run/env")" "$db" 60; then
    step "Odoo $version '$name' runs already"
  else
    stop_instance "$run"
    start_instance "$run" "$db" || repair "$run" "$db"
    echo "$options" >"$run/options"
  fi
  remove_later "$home/root.old"
  step "$(cat "$root/.versions")"
  say "env file: $run/env"
  cat "$run/env"
}

down() {
  lock_version
  if [ "$name_given" = 1 ]; then stop_instance "$home/run/$name"; else stop_all; fi
  if ! any_running && [ -d "$root" ]; then pg_stop "$root"; fi
}

status() {
  local v d
  for v in 19 14; do
    use_version "$v"
    if [ -s "$root/.versions" ]; then say "Odoo $v: $(cat "$root/.versions")"; else say "Odoo $v: not built"; continue; fi
    if pg_running "$root"; then say "  PostgreSQL runs on 127.0.0.1:$(cat "$root/var/lib/postgresql/port")"; else say "  PostgreSQL is stopped"; fi
    for d in "$home"/run/*/; do
      [ -d "$d" ] || continue
      d=${d%/}
      if process_lives "$d/pid" && [ -s "$d/env" ]; then
        if healthy "$(sed -n 's/^ODOO_URL=//p' "$d/env")" "$(sed -n 's/^ODOO_DB=//p' "$d/env")" 20; then
          say "  $(basename "$d"): healthy, $(sed -n 's/^ODOO_URL=//p' "$d/env"), env file $d/env"
        else
          say "  $(basename "$d"): runs, but does not answer; log $d/odoo.log"
        fi
      else
        say "  $(basename "$d"): stopped"
      fi
    done
  done
}

needs_instance() {
  [ -s "$home/run/$name/env" ] || die "Odoo $version '$name' is not up: ./dev odoo up $version --name $name"
}

main() {
  local command=${1:-help} versions=()
  shift || true
  name=main name_given=0 workers=2 crons=0 fresh=0 extra=()
  while [ $# -gt 0 ]; do
    case $1 in
      19 | 14) versions+=("$1") ;;
      all) versions+=(19 14) ;;
      --name) name=${2:?--name needs a name} name_given=1; shift ;;
      --workers) workers=${2:?--workers needs a number}; shift ;;
      --crons) crons=${2:?--crons needs a number}; shift ;;
      --fresh) fresh=1 ;;
      --) shift; extra=("$@"); break ;;
      -h | --help) usage; return ;;
      *) usage >&2; die "unknown argument '$1'" ;;
    esac
    shift
  done
  [[ $name =~ ^[a-z0-9][a-z0-9_-]*$ && $name != template ]] || die "an instance's name is made of a-z, 0-9, - and _ (not 'template')"
  [ ${#versions[@]} -gt 0 ] || case $command in down | clean) versions=(19 14) ;; *) versions=(19) ;; esac
  local v
  case $command in
    help) usage ;;
    status) status ;;
    up | down | drop | build | build-folder | clean | shell | psql)
      for v in "${versions[@]}"; do
        use_version "$v"
        case $command in
          up) up ;;
          down) down ;;
          build-folder) build_folder_or_clean_up ;; # what build runs in a shell of its own
          drop)
            lock_version
            stop_instance "$home/run/$name"
            if [ -d "$root" ]; then
              pg_start "$root"
              sql "$root" postgres "drop database if exists \"$(database_of "$name")\" with (force)"
              rm -rf "${root:?}/var/lib/odoo/instances/$name" "$home/run/$name"
              any_running || pg_stop "$root"
            fi
            ;;
          build) lock_version; build || { [ ! -s "$root/.versions" ] || say "the last good folder is kept: $(cat "$root/.versions")"; exit 1; } ;;
          clean)
            lock_version
            stop_all
            if pg_running "$home/root.new"; then pg_stop "$home/root.new"; fi
            rm -rf "${home:?}/root" "$home/root.new" "$home/root.old" "$home/run" "$home"/trash.*
            ;;
          shell) needs_instance; inside "$root" odoo odoo shell -c "/etc/dragoman/$name.conf" -d "$(database_of "$name")" --no-http ;;
          psql) needs_instance
            inside "$root" postgres psql -h /var/lib/postgresql -p "$(cat "$root/var/lib/postgresql/port")" -d "$(database_of "$name")" ;;
        esac
        if [ -e "/proc/self/fd/9" ]; then exec 9>&-; fi
      done
      ;;
    *) usage >&2; die "unknown command '$command'" ;;
  esac
}

case ${1:-help} in help | -h | --help) ;; *) become_root "./dev odoo" "$0" "$@" ;; esac
main "$@"
