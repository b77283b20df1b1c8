#!/bin/bash
# What try.sh runs as root inside its container.
set -euo pipefail
fail() { echo "units: FAILED: $*"; journalctl --no-pager -q -n 40 -u 'sluice-*' -u bitcoind || true; exit 1; }
trap 'fail "line $LINENO"' ERR
within() { # SECONDS COMMAND...: repeats it until it succeeds
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || fail "not within time: $*"; sleep 0.2; done
}
main_pid() { systemctl show -p MainPID --value "$1"; }
is_another() { local now; now=$(main_pid "$1"); [ "$now" != "$2" ] && [ "$now" != 0 ] && systemctl -q is-active "$1"; }
key() { sed -n 's/^# Authority public key[^:]*: //p' "/etc/sluice/$1.toml"; }

# The steps of README.md.
groupadd --force --system bitcoin
useradd --system --gid bitcoin --home-dir /var/lib/bitcoind bitcoin
useradd --system --home-dir /var/lib/sluice sluice
install --directory --owner sluice --mode 0750 /etc/sluice
for program in tp hub proxy; do setpriv --reuid sluice --regid sluice --init-groups sluice-$program init /etc/sluice >/dev/null; done

address=tb1qcpmga8eqxzwz4nmnew6v6xkapggs3sqzt6w66u
for program in tp hub; do
  sed -i 's|^\[node\]$|[node]\nurl = "http://127.0.0.1:38332"\ncookie_file = "/var/lib/bitcoind/signet/.cookie"\nnetwork = "signet"|' /etc/sluice/sluice-$program.toml
done
sed -i "s|^#*minimum_difficulty = .*|minimum_difficulty = 0.00001|; s|^#descriptor = .*|descriptor = \"$address\"|" /etc/sluice/sluice-hub.toml
printf '\n[[template_provider]]\naddress = "127.0.0.1:8442"\nauthority_public_key = "%s"\n' "$(key sluice-tp)" >>/etc/sluice/sluice-hub.toml
sed -i 's|^#hash_rate = .*|hash_rate = 200000.0|; s|^#shares_per_minute = 20.0|shares_per_minute = 240.0|' /etc/sluice/sluice-proxy.toml
printf '\n[[upstream]]\naddress = "127.0.0.1:34254"\nauthority_public_key = "%s"\nuser_identity = "%s"\n' "$(key sluice-hub)" "$address" >>/etc/sluice/sluice-proxy.toml

systemctl start bitcoind
within 60 test -f /var/lib/bitcoind/signet/.cookie
for program in tp hub proxy; do
  within 40 systemctl start sluice-$program
  echo "units: sluice-$program is $(systemctl is-active sluice-$program)"
done
by_ipc() { [ "$(journalctl -q -u sluice-tp --grep 'node reached by IPC' | wc -l)" -ge "$1" ]; }
within 30 by_ipc 1
echo "units: sluice-tp takes its templates by IPC"
for program in tp hub proxy; do
  runs_as=$(ps -o user= -p "$(main_pid sluice-$program)")
  [ "$runs_as" = sluice ] || fail "sluice-$program runs as $runs_as"
done

# As README.md says, but for sudo.
for program in tp hub proxy; do
  data="SLUICE_${program^^}__DATA_DIR=/var/lib/sluice/sluice-$program"
  setpriv --reuid sluice --regid bitcoin --init-groups env "$data" \
    sluice-$program --config /etc/sluice/sluice-$program.toml --check >/checked 2>&1 ||
    fail "sluice-$program --check: $(cat /checked)"
done
echo "units: --check beside each of them is good"

cpu-miner sv1 127.0.0.1:3333 "$address.units" --rate 400000 >/mined 2>&1 &
miner=$!
port() { ss -Htnp state established '( dport = :3333 )' | awk '{print $3; exit}'; }
has_connected() { [ -n "$(port)" ]; }
within 40 has_connected
first=$(port)

for program in hub proxy; do
  before=$(main_pid sluice-$program)
  systemctl reload sluice-$program
  within 40 is_another sluice-$program "$before"
  sleep 3
  systemctl -q is-active sluice-$program || fail "sluice-$program is not active after a reload"
  echo "units: sluice-$program reloaded: process $before gave way to $(main_pid sluice-$program)"
done
[ "$(port)" = "$first" ] || fail "the miner had to connect again: $first, then $(port)"
echo "units: the miner kept its connection through both reloads"

for program in tp hub proxy; do
  before=$(main_pid sluice-$program)
  kill -KILL "$before"
  within 40 is_another sluice-$program "$before"
  echo "units: sluice-$program killed: started again as $(main_pid sluice-$program)"
done
# Its socket is another one then, and closed to the group until the unit opens it.
reached=$(journalctl -q -u sluice-tp --grep 'node reached by IPC' | wc -l)
systemctl restart bitcoind
within 40 by_ipc $((reached + 1))
echo "units: bitcoind restarted: sluice-tp takes its templates by IPC again"

# More failures in a row than systemd's usual patience bears, then its port is free.
systemctl stop sluice-hub
perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:34254", Listen => 1, ReuseAddr => 1) or die $!; sleep 60' &
occupant=$!
is_taken() { [ -n "$(ss -Hltn 'sport = :34254')" ]; }
within 5 is_taken
systemctl start --no-block sluice-hub
has_failed() { [ "$(systemctl show -p NRestarts --value sluice-hub)" -ge 7 ]; }
within 30 has_failed
kill $occupant
within 20 systemctl -q is-active sluice-hub
echo "units: sluice-hub, its port taken, failed $(systemctl show -p NRestarts --value sluice-hub) times, and is active now that the port is free"

sleep 5
kill -0 $miner || fail "the miner ended"
kill $miner

for program in proxy hub tp; do
  systemctl stop sluice-$program
  result=$(systemctl show -p Result --value sluice-$program)
  [ "$result" = success ] || fail "sluice-$program stopped with $result"
done
echo "units: all three stopped by themselves"
tail -n 3 /mined | sed 's/^/units: the miner says: /'
echo "units: all is well"
