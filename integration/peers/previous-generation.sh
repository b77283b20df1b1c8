#!/usr/bin/env bash
# Prints the path of the miner of the previous generation (previous-generation/), building it once into the cache
# directory, keyed by its sources and lock file. Everything but the path goes to stderr. Two runs at once wait for each other.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
package=$here/previous-generation
key=$(cd "$package" && cat Cargo.toml Cargo.lock src/*.rs | sha256sum | cut -c1-16)
home=$cache/previous-generation-$key
program=$home/bin/previous-generation

mkdir -p "$cache"
exec 9>"$cache/previous-generation.lock"
flock 9
if [ ! -x "$program" ]; then
  "$here/../setup/packages.sh" >&2
  echo "peers: building the miner of the previous generation once into $home (about 1 minute)" >&2
  rm -rf "$home.new"
  use=(--locked --quiet --manifest-path "$package/Cargo.toml" --target-dir "$cache/previous-generation-build")
  # Its own tests run here, once, since it stands outside the workspace.
  if ! { cargo test "${use[@]}" && cargo build "${use[@]}"; } >"$home.log" 2>&1 9>&-; then
    tail -n 30 "$home.log" >&2
    echo "peers: building the miner of the previous generation failed; whole log: $home.log" >&2
    exit 1
  fi
  mkdir -p "$home.new/bin"
  cp "$cache/previous-generation-build/debug/previous-generation" "$home.new/bin/"
  rm -rf "$home" "$home.log" "$cache/previous-generation-build"
  mv "$home.new" "$home"
fi
printf '%s\n' "$program"
