#!/usr/bin/env bash
# Says what is missing of Rust, and how to get it; silent when all is there:
#
#   integration/setup/rust.sh [COMPONENT...]      COMPONENT: rustfmt, clippy
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")

die() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

if ! command -v cargo >/dev/null; then
  [ ! -x "$HOME/.cargo/bin/cargo" ] || die "Rust is installed, but not on the PATH; run: . \"\$HOME/.cargo/env\""
  die "Rust $oldest or newer is needed, from https://rustup.rs:" \
    "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
fi
version=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$oldest" "${version%%-*}" | sort -V | head -n 1)" != "$oldest" ]; then
  die "Rust $oldest or newer is needed, this is $version; run: rustup update stable"
fi
for component in "$@"; do
  case $component in
    rustfmt) cargo fmt --version >/dev/null 2>&1 ;;
    clippy) cargo clippy --version >/dev/null 2>&1 ;;
  esac || die "$component is missing; run: rustup component add $component"
done
