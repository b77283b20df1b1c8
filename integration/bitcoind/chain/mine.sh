#!/usr/bin/env bash
# Mines the chain that test worlds start from, and writes it to blocks.hex beside this script:
#
#   integration/bitcoind/chain/mine.sh [FILE]
#
# It ran once; nothing calls it. It takes 3 to 10 minutes of one core. The node's clock is held and the key is
# fixed, so the same node version makes the same chain again, byte for byte. README.md beside it tells what is in it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/blocks.dat}
blocks=250
started=1735689600 # 2025-01-01: the past of every machine that will load it, the future of signet's genesis
magic=54d26fbd   # of a signet with challenge 51: the first four bytes of SHA256d(0151)
public_key=03baf7689c0a3558fb604589036a8d1e4b685d909f6e0e2c6018a14049ae64ec26

node=$("$here/../ensure.sh")
cli=$(dirname "$node")/bitcoin-cli
[ -x "$cli" ] || cli=$(command -v bitcoin-cli) || { echo "mine: no bitcoin-cli beside $node or on the PATH" >&2; exit 1; }

dir=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
"$node" -datadir="$dir" -signet -signetchallenge=51 -connect=0 -listen=0 -maxtipage=2000000000 \
  -mocktime=$started -rpcport=$port -printtoconsole=0 -server -rpcservertimeout=86400 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT

rpc() { "$cli" -datadir="$dir" -signet -rpcport=$port -rpcclienttimeout=0 "$@"; }
rpc -rpcwait getblockcount >/dev/null

descriptor=$(rpc getdescriptorinfo "wpkh($public_key)" | sed -n 's/.*"descriptor": "\(.*\)".*/\1/p')
while height=$(rpc getblockcount) && [ "$height" -lt $blocks ]; do
  echo "mine: height $height of $blocks" >&2
  rpc generatetodescriptor $((blocks - height < 10 ? blocks - height : 10)) "$descriptor" 2000000000 >/dev/null
done

# Hex on stdin, bytes on stdout.
unhex() { printf '%b' "$(sed 's/../\\x&/g')"; }

# A number below 2^32 as hex, little-endian.
little_endian() { printf '%08x' "$1" | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/'; }

for height in $(seq 1 $blocks); do
  hash=$(rpc getblockhash "$height")
  bits=$(rpc getblockheader "$hash" | sed -n 's/.*"bits": "\(.*\)".*/\1/p')
  [ "$bits" = 1e0377ae ] || { echo "mine: block $height has target $bits" >&2; exit 1; }
  block=$(rpc getblock "$hash" 0)
  printf '%s%s%s' $magic "$(little_endian $((${#block} / 2)))" "$block" | unhex
done >"$out.new"
mv "$out.new" "$out"
echo "mine: wrote $blocks blocks to $out, tip $(rpc getbestblockhash)" >&2
