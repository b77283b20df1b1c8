#!/usr/bin/env bash
# Runs the units under a systemd of their own, in a container of systemd-nspawn, as README.md says: installed, started, reloaded
# under a miner, killed, stopped. Needs root and the package systemd-container. Ends by itself within three minutes.
#
# usage: try.sh PROGRAMS BITCOIN_NODE, PROGRAMS being the directory of sluice-* and cpu-miner
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 PROGRAMS BITCOIN_NODE" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "units: systemd-nspawn wants root" >&2; exit 2; }
command -v systemd-nspawn >/dev/null || { echo "units: systemd-nspawn is missing: apt-get install systemd-container" >&2; exit 2; }
programs=$(realpath "$1") node=$(realpath "$2")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(mktemp -d)
chmod 0755 "$root"
trap 'rm -rf "$root"' EXIT

# A system of this machine's /usr, with nothing of its own but accounts and what we install.
mkdir -p "$root"/{usr,var,proc,sys,dev,run,tmp,root,bin-of-ours,etc/systemd/system}
for link in bin lib lib64 sbin; do [ -L "/$link" ] && ln -s "$(readlink "/$link")" "$root/$link"; done
cp -a /etc/passwd /etc/group /etc/shadow /etc/nsswitch.conf /etc/pam.d /etc/ld.so.conf /etc/ld.so.conf.d /etc/ld.so.cache \
  /etc/alternatives /etc/dbus-1 /etc/login.defs /etc/security "$root/etc/" 2>/dev/null || true
cp /etc/os-release "$root/etc/os-release" # a link would lead nowhere before /usr is there
: >"$root/etc/machine-id"
install "$programs"/sluice-{tp,hub,proxy} "$programs/cpu-miner" "$root/bin-of-ours/"
install "$node" "$root/bin-of-ours/bitcoin-node"
install -m 0644 "$here"/sluice-{tp,hub,proxy}.service "$root/etc/systemd/system/"
install -m 0644 "$here/../../integration/bitcoind/chain/blocks.dat" "$root/blocks.dat"
install "$here/try-inside.sh" "$root/try-inside.sh"
cat >"$root/etc/systemd/system/bitcoind.service" <<'UNIT'
[Service]
User=bitcoin
StateDirectory=bitcoind
StateDirectoryMode=0710
ExecStartPre=/bin/mkdir -p -m 0710 /var/lib/bitcoind/signet
ExecStartPre=/bin/rm -f /var/lib/bitcoind/signet/node.sock
ExecStartPost=-/usr/bin/timeout 60 /bin/sh -c 'until [ -S /var/lib/bitcoind/signet/node.sock ]; do sleep 0.1; done; chmod g+rw /var/lib/bitcoind/signet/node.sock'
WorkingDirectory=/var/lib/bitcoind
ExecStart=/usr/local/bin/bitcoin-node -datadir=/var/lib/bitcoind -ipcbind=unix -signet -signetchallenge=51 -server=1 -connect=0 -listen=0 \
  -maxtipage=2000000000 -nodebuglogfile -loadblock=/blocks.dat -rpccookieperms=group
UNIT
cat >"$root/etc/systemd/system/try.service" <<'UNIT'
[Service]
Type=oneshot
ExecStart=/try-inside.sh
ExecStopPost=/bin/kill -s RTMIN+4 1
TimeoutStartSec=150
StandardOutput=append:/said
StandardError=append:/said
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"

timeout 180 systemd-nspawn --quiet --directory="$root" --bind-ro=/usr --bind-ro="$root/bin-of-ours":/usr/local/bin --register=no \
  --keep-unit --private-network --boot </dev/null >"$root/console" 2>&1 || true
cat "$root/said" 2>/dev/null || tail -n 20 "$root/console"
grep -qs "^units: all is well$" "$root/said"
