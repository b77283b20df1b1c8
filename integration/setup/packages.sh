#!/usr/bin/env bash
# Installs what the builds of Bitcoin Core and of SRI's programs need, where the user is root;
# prints the one command to run where not. Does nothing when all is there.
set -euo pipefail

packages="cmake ninja-build g++ pkg-config libboost-dev libevent-dev capnproto libcapnp-dev"

missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get update && apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null; then
  echo "setup: this machine has no apt-get; install the equivalents of:$missing" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "setup: packages are missing; run this once, then again what you ran:" >&2
  echo "  sudo sh -c '$install'" >&2
  exit 1
fi
echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
sh -c "$install" >&2
