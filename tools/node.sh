#!/usr/bin/env bash
# Prints the path of a node that is new enough (22 or later): the one on PATH, else one from npm in the cache.
# shellcheck source=tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

new_enough() { [ -x "$1" ] && [ "$("$1" -p 'Number(process.versions.node.split(".")[0]) >= 22' 2>/dev/null)" = true ]; }

on_path=$(command -v node || true)
if [ -n "$on_path" ] && new_enough "$on_path"; then echo "$on_path"; exit; fi
cached=$cache_root/node/node_modules/node/bin/node
if new_enough "$cached"; then echo "$cached"; exit; fi

command -v npm >/dev/null || "$repo_root/tools/setup.sh" npm
mkdir -p "$cache_root/node"
exec 9>"$cache_root/node/lock"
flock 9
if ! new_enough "$cached"; then
  step "no node 22 or later on PATH: installing the npm package node@22 into $cache_root/node"
  # Nothing else comes from npm before this: many packages refuse to install with an older node.
  npm install --prefix "$cache_root/node" --no-audit --no-fund --no-save node@22 >&2
fi
new_enough "$cached" || die "the npm package node@22 did not bring a node that runs here"
echo "$cached"
