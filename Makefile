# `make help` lists the targets. TLS is built from source where the system has no OpenSSL to link against.
FEATURES := $(shell pkg-config --exists openssl 2>/dev/null || echo --features vendored)

.PHONY: help run demo build test lint bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

run: ## one price from the live exchange; from the embedded one, marked, if that cannot be reached
	@bash run.sh

demo: ## one price from the embedded exchange: recorded prices, no network
	@bash run.sh --source embedded:BTCUSDT

build: ## build target/release/rsoracle
	cargo build --release --locked $(FEATURES)

test: lint ## everything that CI checks: formatting, lints, tests
	cargo test --locked $(FEATURES)

lint: ## formatting and lints
	cargo fmt --check
	cargo clippy --all-targets --locked $(FEATURES) -- -D warnings

bench: ## measure precision, speed and size; prints a table
	cargo bench --locked $(FEATURES)

clean: ## remove everything that was built
	cargo clean
