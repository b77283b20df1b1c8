#!/usr/bin/env bash
# Prints the path of a Bitcoin Core node that tests and demo can run; builds one if there is none.
#
#   1. $BITCOIND, if set;
#   2. bitcoin-node, then bitcoind, on the PATH, if version 30 or newer;
#   3. the one built earlier, or built now, in the cache directory, keyed by version and build recipe.
#
# Everything but the path goes to stderr. Two runs at once wait for each other.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}
oldest_major=30
core_version=31.99
recipe=1 # raise when the CMake flags below change
home=$cache/bitcoin-core-$core_version-r$recipe
node=$home/bin/bitcoin-node

say() { printf 'bitcoind: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# What a node program says of its version. It opens its settings first, even for that: in an empty directory, so that the
# user's own node is left alone and many can ask at once.
version() {
  local empty status=0
  empty=$(mktemp -d)
  "$1" -datadir="$empty" -nosettings -version || status=$?
  rm -rf "$empty"
  return $status
}

# The major version of a node program, or nothing.
major_version() { version "$1" 2>/dev/null | sed -n '1s/.*version v\{0,1\}\([0-9]\{1,\}\)\..*/\1/p'; }

if [ -n "${BITCOIND:-}" ]; then
  [ -x "$BITCOIND" ] || die "BITCOIND=$BITCOIND is not a program; unset it to have one found or built"
  major=$(major_version "$BITCOIND")
  [ "${major:-0}" -ge "$oldest_major" ] || die "BITCOIND=$BITCOIND is version ${major:-unknown}, older than $oldest_major"
  printf '%s\n' "$BITCOIND"
  exit
fi

for name in bitcoin-node bitcoind; do
  if found=$(command -v "$name"); then
    major=$(major_version "$found")
    if [ "${major:-0}" -ge "$oldest_major" ]; then
      printf '%s\n' "$found"
      exit
    fi
    say "$found is version ${major:-unknown}, older than $oldest_major: not used"
  fi
done

mkdir -p "$cache"
exec 9>"$cache/bitcoin-core.lock"
flock 9
if [ -x "$node" ]; then
  printf '%s\n' "$node"
  exit
fi

"$here/../setup/packages.sh" >&2

say "building Bitcoin Core $core_version once into $home (about 7 minutes on two cores)"
source_manifest=$here/source/Cargo.toml
crate=$(cargo metadata --locked --format-version 1 --manifest-path "$source_manifest" |
  grep -o '"manifest_path":"[^"]*/libbitcoinkernel-sys-[^"]*/Cargo.toml"' | head -n 1 | cut -d'"' -f4)
[ -n "$crate" ] || die "cargo metadata does not name libbitcoinkernel-sys; is the crate registry reachable?"

work=$cache/bitcoin-core-build.$$
trap 'rm -rf "$work" "$home.new"' EXIT
rm -rf "$home.new"
mkdir -p "$work"
cmake -G Ninja -S "$(dirname "$crate")/bitcoin" -B "$work" \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 -DCMAKE_C_FLAGS=-O1 \
  -DENABLE_WALLET=OFF -DBUILD_TESTS=OFF -DBUILD_TX=OFF -DBUILD_UTIL=OFF -DBUILD_BITCOIN_BIN=OFF \
  -DENABLE_EXTERNAL_SIGNER=OFF -DENABLE_IPC=ON -DWITH_EMBEDDED_ASMAP=OFF \
  -DWITH_CCACHE=OFF -DINSTALL_MAN=OFF >"$work.log" 2>&1 || { tail -n 30 "$work.log" >&2; die "cmake failed; whole log: $work.log"; }
cmake --build "$work" --target bitcoin-node bitcoin-cli >>"$work.log" 2>&1 ||
  { tail -n 30 "$work.log" >&2; die "the build failed; whole log: $work.log"; }

mkdir -p "$home.new/bin"
cp "$work"/bin/bitcoin-node "$work"/bin/bitcoin-cli "$home.new/bin/"
strip "$home.new/bin/"* 2>/dev/null || true
version "$home.new/bin/bitcoin-node" >/dev/null || die "the node was built but does not start; whole log: $work.log"
rm -rf "$home"
mv "$home.new" "$home"
rm -f "$work.log"
say "built $(version "$node" | sed -n 1p)"
printf '%s\n' "$node"
