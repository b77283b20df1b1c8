#!/usr/bin/env bash
# Prints the path of one of SRI's programs, installing it once from the crate registry into the cache directory:
#
#   integration/peers/ensure.sh pool_sv2 0.7.0
#   integration/peers/ensure.sh translator_sv2 0.6.0
#
# Pinned by version and by the lock file that each package ships. Everything but the path goes to stderr.
# Two runs at once wait for each other; both programs share one build directory, which is removed by
# `ensure.sh --clean` once both are there.
set -euo pipefail

usage="usage: ensure.sh PACKAGE VERSION | ensure.sh --clean"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
build=$cache/sri-build

mkdir -p "$cache"
exec 9>"$cache/sri-build.lock"
flock 9
if [ "${1:-}" = --clean ]; then
  rm -rf "$build"
  exit
fi

package=${1:?$usage}
version=${2:?$usage}
home=$cache/$package-$version
program=$home/bin/$package
if [ ! -x "$program" ]; then
  "$here/../setup/packages.sh" >&2
  echo "peers: installing $package $version once into $home (3 to 5 minutes on two cores)" >&2
  if ! cargo install --locked --quiet --version "=$version" --root "$home" --target-dir "$build" "$package" >"$home.log" 2>&1; then
    tail -n 30 "$home.log" >&2
    echo "peers: installing $package $version failed; whole log: $home.log" >&2
    exit 1
  fi
  rm -f "$home.log"
fi
printf '%s\n' "$program"
