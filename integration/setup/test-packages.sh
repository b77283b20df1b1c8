#!/usr/bin/env bash
# Installs what some tests of faults use to drop packets and to set clocks, where the user is root and the system is
# Debian or a child of it. Fails never: a test that misses something says "NOT RUN" with the reason.
set -uo pipefail

packages="iproute2 nftables libfaketime"

say() { printf 'setup: %s\n' "$*" >&2; }

command -v dpkg-query >/dev/null || exit 0
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  say "some tests of faults will not run; they want: sudo apt-get install$missing"
  exit 0
fi
say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
wait_for_lock="-o DPkg::Lock::Timeout=300"
install() { apt-get $wait_for_lock install -y --no-install-recommends $missing; }
{ install || { apt-get $wait_for_lock update && install; }; } </dev/null >&2 || say "apt could not; the tests that want them will say so"
exit 0
