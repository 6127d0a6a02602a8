#!/usr/bin/env bash
# Shows that a plain Debian with nothing but git can do what the README says: makes one in a folder, clones this checkout's
# HEAD into it, runs a command there, and tells how long it took.
#   tools/fresh.sh 12|13 [--keep] [--until TEXT] COMMAND...
#     e.g. tools/fresh.sh 13 ./dev test,  tools/fresh.sh 12 --until 'everything is here' ./dev run
# --keep goes on in the folder of last time (set-up, build and caches still there), with the newest HEAD.
# --until stops the command with SIGTERM when it prints the text, and fails if it never does.
# It gets this machine's name resolution, certificates and ways out to the mirror, and nothing else of it. Needs root.
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
  12) suite=bookworm ;;
  13) suite=trixie ;;
  *) die "usage: tools/fresh.sh 12|13 [--keep] COMMAND..." ;;
esac
release=$1
keep=0 until=''
shift
if [ "${1:-}" = --keep ]; then keep=1; shift; fi
if [ "${1:-}" = --until ]; then until=${2:?--until needs a text}; shift 2; fi
[ $# -gt 0 ] || die "which command shall run there?"
[ "$(id -u)" = 0 ] || die "this needs root: run it as root or with sudo"
"$repo_root/tools/setup.sh" odoo

home=$cache_root/fresh
plain=$home/plain-$release
folder=$home/$release
mkdir -p "$home"
exec 9>"$home/$release.lock"
flock -n 9 || die "another tools/fresh.sh $release is at work"

in_folder() { # in_folder FOLDER COMMAND...: in mount namespace of its own
  # shellcheck disable=SC2016
  unshare -m --propagation private bash -c '
    folder=$1; shift
    mount -t proc proc "$folder/proc"
    mount --rbind /dev "$folder/dev"
    exec env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" CI="${CI:-}" chroot "$folder" "$@"' inside "$@" 9>&-
}

# Everything that still runs in the folder, or in a folder inside it, is ours: end it, by its number.
end_leftovers() {
  local proc pid place
  for proc in /proc/[0-9]*; do
    pid=${proc#/proc/}
    place=$(readlink "$proc/root" 2>/dev/null) || continue
    case $place/ in
      "$folder/"*)
        say "ending left-over process $pid: $(tr '\0' ' ' <"$proc/cmdline" 2>/dev/null | cut -c 1-80)"
        kill -KILL "$pid" 2>/dev/null || :
        ;;
    esac
  done
}

if [ ! -e "$plain/.done" ]; then
  rm -rf "$plain"
  step "debootstrap $suite"
  unshare -m --propagation private debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$plain" "$(debian_mirror)" \
    >"$home/debootstrap-$release.log" 2>&1 9>&- || { tail -n 15 "$home/debootstrap-$release.log" >&2; die "debootstrap failed"; }
  apt_network_settings >"$plain/etc/apt/apt.conf.d/99network"
  cp /etc/ssl/certs/ca-certificates.crt "$plain/etc/ssl/certs/ca-certificates.crt"
  touch "$plain/.done"
fi
if [ $keep = 0 ] || [ ! -d "$folder" ]; then
  end_leftovers
  rm -rf "$folder"
  cp -a "$plain" "$folder"
fi
cp /etc/resolv.conf "$folder/etc/resolv.conf"
if [ -d "$folder/root/dragoman" ]; then
  git -C "$folder/root/dragoman" fetch -q "$repo_root" HEAD
  git -C "$folder/root/dragoman" reset -q --hard FETCH_HEAD
else
  git clone -q --no-hardlinks "$repo_root" "$folder/root/dragoman"
fi

# shellcheck disable=SC1091
step "plain Debian $(cat "$folder/etc/debian_version"), commit $(git -C "$folder/root/dragoman" rev-parse --short HEAD): $*"
begin=$SECONDS
code=0
# shellcheck disable=SC2016
if [ -z "$until" ]; then
  in_folder "$folder" bash -c 'cd /root/dragoman && exec "$@"' inside "$@" || code=$?
else
  in_folder "$folder" bash -c '
    cd /root/dragoman
    until=$1; shift
    "$@" > >(tee /root/output) 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null && ! grep -qF -- "$until" /root/output 2>/dev/null; do sleep 0.2; done
    if ! kill -0 "$pid" 2>/dev/null; then wait "$pid"; echo "it ended with $? before that"; exit 1; fi
    echo "== printed \"$until\" after $SECONDS s"
    kill -TERM "$pid"
    wait "$pid"' inside "$until" "$@" || code=$?
fi
step "ended with $code after $((SECONDS - begin)) s: $*"
end_leftovers
exit $code
