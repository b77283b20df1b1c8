#!/usr/bin/env bash
# Installs what the builds of Sluice, of Bitcoin Core and of SRI's programs need, where the user is root;
# prints the one command to run where not. Does nothing when all is there.
set -euo pipefail

packages="cmake ninja-build g++ pkg-config libboost-dev libevent-dev capnproto libcapnp-dev"

say() { printf 'setup: %s\n' "$*" >&2; }

# Elsewhere than on Debian and its children: look for the things themselves.
if ! command -v dpkg-query >/dev/null; then
  missing=""
  for program in cmake ninja c++ pkg-config capnp; do
    command -v "$program" >/dev/null || missing="$missing $program"
  done
  [ -z "$missing" ] && exit
  say "this is not Debian or Ubuntu, and these are missing:$missing"
  say "install what your system calls: $packages"
  exit 1
fi

missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -ne 0 ]; then
  say "packages are missing; run this once, then again what you ran:"
  say "  sudo sh -c '$install'"
  exit 1
fi
say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
wait_for_lock="-o DPkg::Lock::Timeout=300"
if ! { apt-get $wait_for_lock update && apt-get $wait_for_lock install -y --no-install-recommends $missing; } </dev/null >&2; then
  say "apt could not install them; mend that, then run: $install"
  exit 1
fi
