# What a person or CI runs. Every target does its own set-up; nothing here is needed to use cargo directly.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: units soak abuse bench fuzz help setup bitcoind peers build demo test lint keys clean-cache

# Built programs, wherever cargo puts them.
programs := $(or $(CARGO_TARGET_DIR),target)/debug
# Everything that set-up builds once: see integration/bitcoind/ensure.sh and integration/peers/.
cache := $(or $(SLUICE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice)

help: ## this list
	@echo "Sluice. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "make demo ONCE=1 ends by itself after the first credited block with a transaction in it."

setup:
	@integration/setup/rust.sh
	@integration/setup/packages.sh

bitcoind: setup ## find or build the node that demo and tests run; prints its path
	@integration/bitcoind/ensure.sh

peers: setup ## install SRI's pool and translator, and the miner of the previous generation, once
	@integration/peers/ensure.sh pool_sv2 0.7.0
	@integration/peers/ensure.sh translator_sv2 0.6.0
	@integration/peers/ensure.sh --clean
	@integration/peers/previous-generation.sh

build: bitcoind ## all of Sluice's programs, and the node
	cargo build --workspace --bins --locked

# ONCE=1 (anything but empty and 0) ends after one block.
demo: build ## a private signet, all programs, CPU miners, live status until Ctrl-C
	@BITCOIND="$$(integration/bitcoind/ensure.sh)" exec $(programs)/demo $(if $(filter-out 0,$(ONCE)),--once)

test: build peers ## all tests: a real node, SRI's programs, the previous generation
	@integration/setup/test-packages.sh
	BITCOIND="$$(integration/bitcoind/ensure.sh)" cargo test --workspace --locked

# TARGET: a file of integration/fuzz/fuzz_targets without .rs. What it finds lies in integration/fuzz/artifacts.
TARGET ?= sv1
MINUTES ?= 5
FUZZ := RUSTC_BOOTSTRAP=1 cargo fuzz
fuzz_targets = $(sort $(basename $(notdir $(wildcard integration/fuzz/fuzz_targets/*.rs))))
# Asked before anything is set up, and before a folder is made for a target that does not exist.
ifneq ($(filter fuzz,$(MAKECMDGOALS)),)
ifneq ($(words $(TARGET)) $(filter $(TARGET),$(fuzz_targets)),1 $(TARGET))
$(error there is no fuzz target "$(TARGET)"; there are: $(fuzz_targets))
endif
endif
fuzz: setup ## fuzz one target under libFuzzer: make fuzz TARGET=sv1 MINUTES=5
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@mkdir -p integration/fuzz/found/$(TARGET)
	$(FUZZ) run --fuzz-dir integration/fuzz -s none $(TARGET) integration/fuzz/found/$(TARGET) integration/fuzz/corpus/$(TARGET) -- -max_total_time=$$(( $(MINUTES) * 60 )) -timeout=20 -rss_limit_mb=2048 -max_len=4096

# ONLY=name: only what gives a value with that in its name; with WRITE=1 as well, its lines of the results are written
# anew. QUICK=1: one run of three seconds each. Neither writes anything otherwise.
bench: bitcoind peers ## beside SRI's pool and translator, 20 minutes: a table, and integration/benches/results.jsonl
	cargo build --release --locked --config deploy/release.toml -p template-provider -p channel-hub -p proxy -p integration $(foreach bin,sluice-tp sluice-hub sluice-proxy bench,--bin $(bin))
	@BITCOIND="$$(integration/bitcoind/ensure.sh)" exec taskset -c 1 $(dir $(programs))release/bench $(if $(ONLY),--only $(ONLY)) $(if $(filter-out 0,$(QUICK)),--quick) $(if $(filter-out 0,$(WRITE)),--write)

soak: build ## half load with restarts and connections that come and go: make soak MINUTES=30
	@BITCOIND="$$(integration/bitcoind/ensure.sh)" exec $(programs)/soak $(if $(filter command line environment,$(origin MINUTES)),$(MINUTES),30)

# KIND=idle: that kind alone; LISTENER=sv1 or sv2: that listener alone.
abuse: bitcoind ## what 1,000 honest miners notice of each kind of abuse, an hour or two: a JSON line each, and a table
	cargo build --release --locked --config deploy/release.toml -p template-provider -p channel-hub -p proxy -p integration $(foreach bin,sluice-tp sluice-hub sluice-proxy abuse,--bin $(bin))
	@BITCOIND="$$(integration/bitcoind/ensure.sh)" exec $(dir $(programs))release/abuse $(if $(KIND),--kind $(KIND)) $(if $(LISTENER),--listener $(LISTENER))

units: build ## deploy/systemd's units under a systemd of their own, in a container: needs root and systemd-container
	@deploy/systemd/try.sh $(programs) "$$(integration/bitcoind/ensure.sh)"

lint: setup ## formatting, clippy and docs, warnings being errors; libFuzzer's programs compile
	@integration/setup/rust.sh rustfmt clippy
	cargo fmt --all --check
	cargo fmt --check --manifest-path integration/peers/previous-generation/Cargo.toml
	cargo fmt --check --manifest-path integration/fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cargo check --manifest-path integration/fuzz/Cargo.toml --locked

keys: build ## write the README's tables of settings anew
	UPDATE_README=1 cargo test -q -p integration --test it --locked -- readme

clean-cache: ## remove what set-up built outside this folder
	rm -rf "$(cache)"/{bitcoin-core-*,pool_sv2-*,translator_sv2-*,previous-generation-*,sri-build}
	rm -f "$(cache)"/{bitcoin-core,sri-build,previous-generation}.lock
