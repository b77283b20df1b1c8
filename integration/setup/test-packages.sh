#!/usr/bin/env bash
# Installs what some tests of faults use to drop packets and to set clocks, where the user is root and the system is
# Debian or a child of it. Where it cannot, a test that misses something says "NOT RUN" with the reason; so this fails
# only where SLUICE_ALL_FAULTS=1 says that every test has to run.
set -uo pipefail

packages="iproute2 nftables libfaketime"

say() { printf 'setup: %s\n' "$*" >&2; }
without() { say "$*"; if [ "${SLUICE_ALL_FAULTS-}" = 1 ]; then exit 1; else exit 0; fi; }

command -v dpkg-query >/dev/null || exit 0
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  without "some tests of faults will not run; they want: sudo apt-get install$missing"
fi
say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
wait_for_lock="-o DPkg::Lock::Timeout=300"
install() { apt-get $wait_for_lock install -y --no-install-recommends $missing; }
{ install || { apt-get $wait_for_lock update && install; }; } </dev/null >&2 || without "apt could not; the tests that want them will say so"
