#!/usr/bin/env bash
# Installs what the project needs from Debian 12 or 13. A machine that has it all needs neither root nor the network.
#   tools/setup.sh build|test|fuzz|lint|odoo|npm|bench ...      (several at once; each asks only for its own)
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Needs are written as alternatives, a|b|c: the first that is installed or can be had is taken.
build_set=(
  g++ cmake ninja-build ccache mold pkg-config git ca-certificates
  "libboost1.81-dev|libboost1.83-dev|libboost1.88-dev|libboost-dev"
  libcurl4-openssl-dev nlohmann-json3-dev libsimdjson-dev libsqlite3-dev libpq-dev libcli11-dev libtomlplusplus-dev
  libspdlog-dev libfmt-dev prometheus-cpp-dev libsodium-dev libpugixml-dev libhowardhinnant-date-dev libssl-dev zlib1g-dev
  python3 # tools/trial.py
  tzdata  # schedules have time zones; only UTC works without it
)
test_set=(googletest libgtest-dev libbenchmark-dev postgresql python3 curl jq openssl)
# One version on Debian 12 and 13. Debian 12's default clang (14) has no std::source_location, and formats otherwise than 19.
fuzz_set=(clang-19 libclang-rt-19-dev)
lint_set=(clang-format-19 clang-tidy-19 shellcheck)
odoo_set=(debootstrap curl ca-certificates)
npm_set=(npm)
# What the benchmarks compare with.
bench_set=(python3-odoorpc)

mkdir -p "$cache_root"
log=$cache_root/setup.log
missing=()
candidates_read=0
# All of the output is read (no grep -q): apt-cache would die of the closed pipe, and pipefail make that a no.
can_be_had() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | grep '^ *Candidate: [^(]' >/dev/null; }
has_candidate() {
  if [ $candidates_read = 0 ]; then
    # A machine whose package lists were never fetched knows of nothing.
    can_be_had g++ || update_lists
    candidates_read=1
  fi
  can_be_had "$1"
}
updated=0
update_lists() {
  if [ $updated = 1 ]; then return; fi
  step "apt-get update"
  as_root apt-get -q update >>"$log" 2>&1 || { tail -n 15 "$log" >&2; die "apt-get update failed (log: $log)"; }
  updated=1
}

need() {
  local alternatives one
  IFS='|' read -ra alternatives <<<"$1"
  for one in "${alternatives[@]}"; do if is_installed "$one"; then return; fi; done
  for one in "${alternatives[@]}"; do
    if [ ${#alternatives[@]} = 1 ] || has_candidate "$one"; then
      missing+=("$one")
      return
    fi
  done
  die "none of ${alternatives[*]} is in this machine's Debian packages"
}

for what in "$@"; do
  case $what in
    build) for p in "${build_set[@]}"; do need "$p"; done ;;
    test) for p in "${test_set[@]}"; do need "$p"; done ;;
    fuzz) for p in "${fuzz_set[@]}"; do need "$p"; done ;;
    lint) for p in "${lint_set[@]}"; do need "$p"; done ;;
    odoo) for p in "${odoo_set[@]}"; do need "$p"; done ;;
    # Node from elsewhere brings an npm of its own, beside which Debian's can't be installed.
    npm) command -v npm >/dev/null || need "${npm_set[@]}" ;;
    bench)
      command -v npm >/dev/null || need "${npm_set[@]}"
      for p in "${bench_set[@]}"; do need "$p"; done
      ;;
    *) die "unknown set '$what': one of build, test, fuzz, lint, odoo, npm, bench" ;;
  esac
done

if [ ${#missing[@]} -gt 0 ]; then
  # One installer at a time: apt itself would only fail.
  exec 8>/tmp/dragoman-setup.lock
  chmod 0666 /tmp/dragoman-setup.lock 2>/dev/null || :
  flock 8
  say "installing from Debian: ${missing[*]}"
  update_lists
  case " ${missing[*]} " in
    *" postgresql "*)
      # The tests make throw-away clusters of their own: the package shall not start one for the whole machine.
      if [ ! -e /etc/postgresql-common/createcluster.d/dragoman.conf ]; then
        as_root mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.d/dragoman.conf >/dev/null
      fi
      ;;
  esac
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "${missing[@]}" >>"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; die "apt-get could not install: ${missing[*]} (log: $log)"; }
  step "installed"
fi
