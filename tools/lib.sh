# shellcheck shell=bash
# What every script here shares: messages, the cache folder, free ports, root rights, Debian's mirror, processes.

set -euo pipefail

repo_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache_root=${DRAGOMAN_CACHE:-${HOME:-/root}/.cache/dragoman}
export repo_root cache_root

say() { printf '%s\n' "$*" >&2; }
step() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command as root: directly when we are root already, through sudo otherwise.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root: '$*'. Run it as root, or install sudo and allow this user to use it."
  fi
}

# Runs this same script again as root, keeping what it needs of the environment. Returns at once when we are root.
become_root() {
  [ "$(id -u)" = 0 ] && return
  command -v sudo >/dev/null ||
    die "'$1' needs root (it makes and enters a Debian folder with chroot). Run it as root, or install sudo."
  say "'$1' needs root (it makes and enters a Debian folder with chroot): using sudo."
  exec sudo env "DRAGOMAN_CACHE=$cache_root" "HOME=$HOME" "http_proxy=${http_proxy:-}" "https_proxy=${https_proxy:-}" \
    "DRAGOMAN_OWNER=$(id -u):$(id -g)" "${@:2}"
}

# Gives a file or folder that root made to the user who called us through sudo.
give_to_caller() {
  if [ -n "${DRAGOMAN_OWNER:-}" ]; then chown "$DRAGOMAN_OWNER" "$@"; fi
}

# Prints a TCP port on 127.0.0.1 that nothing listens on, below the range the kernel hands out by itself.
free_port() {
  local port i
  for ((i = 0; i < 200; i++)); do
    port=$((18000 + (RANDOM * 32768 + RANDOM) % 14000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  die "found no free port on 127.0.0.1 between 18000 and 32000"
}

# The port a file remembers, when nobody took it meanwhile: an address stays good over a restart. Else a free one.
port_again() {
  local port
  if port=$(cat "$1" 2>/dev/null) && [ -n "$port" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "$port"
  else
    free_port
  fi
}

# The Debian mirror this machine itself uses, whichever way its sources are written.
debian_mirror() {
  local code uri
  # shellcheck disable=SC1091
  code=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016
  uri=$(apt-get indextargets --format '$(CREATED_BY) $(CODENAME) $(RELEASE) $(REPO_URI)' 2>/dev/null |
    awk -v c="$code" '$1 == "Packages" && ($2 == c || $3 == c) { print $4; exit }')
  if [ -z "$uri" ]; then
    # Nothing downloaded yet: read the settings themselves, deb822 first, one-line style after it.
    uri=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '/^URIs:/ { print $2; exit }')
    [ -n "$uri" ] || uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
      sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([a-z]*:[^ ]*\).*/\2/p' | head -n 1)
  fi
  [ -n "$uri" ] || die "no Debian mirror in this machine's apt settings (/etc/apt/sources.list and sources.list.d)"
  echo "${uri%/}"
}

# The machine's own way out (proxies and the like), in apt's syntax, for a Debian folder inside this one.
apt_network_settings() {
  apt-config dump | grep -E '^Acquire::(http|https)::' || true
  echo 'Acquire::Check-Valid-Until "false";'
}

# A process is remembered as "pid start-time", so that a number the kernel gave to somebody else is never signalled.
process_mark() {
  local pid=$1 stat
  stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "$1" != Z ] || return 1
  echo "$pid ${20}"
}
process_lives() {
  local pid start now
  [ -r "$1" ] || return 1
  read -r pid start <"$1" || return 1
  now=$(process_mark "$pid") && [ "$now" = "$pid $start" ]
}

# Stops the process of a mark file with a signal; after the given seconds, its whole process group with SIGKILL.
stop_marked() {
  local file=$1 signal=${2:-TERM} seconds=${3:-15} pid i
  if process_lives "$file"; then
    read -r pid _ <"$file"
    kill "-$signal" "$pid" 2>/dev/null || true
    for ((i = 0; i < seconds * 10; i++)); do
      process_lives "$file" || break
      sleep 0.1
    done
    if process_lives "$file"; then kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true; fi
  fi
  rm -f "$file"
}
