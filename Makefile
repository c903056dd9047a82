# `make help` lists the targets. If the system has no OpenSSL to link against, it is built from source.
FEATURES := $(shell pkg-config --exists openssl 2>/dev/null || echo --features vendored)

# The platform of the static binary. It can be built on this machine if .ci/static finds a route.
export TARGET ?= x86_64-unknown-linux-musl
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
STATIC := $(TARGET_DIR)/$(TARGET)/release/rsoracle
ROUTE := $(shell .ci/static route 2>/dev/null)

# The commit that 'rsoracle --version' prints.
export RSORACLE_COMMIT := $(shell .ci/commit)

# 'make install' installs to $(DESTDIR)$(PREFIX); LINK=static installs the static binary.
PREFIX ?= /usr/local
INSTALLED := $(DESTDIR)$(PREFIX)
DOCUMENTS := $(INSTALLED)/share/doc/rsoracle
UNITS := rsoracle.service rsoracle-collector.service
BINARY := $(if $(filter static,$(LINK)),$(STATIC),$(TARGET_DIR)/release/rsoracle)

.PHONY: help run demo build install uninstall test checks lint bench soak musl verifier musl-setup reproduce docker docker-there audit deny sbom fuzz clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

run: ## print one price, live from Binance; if that cannot be reached, recorded prices, marked as such
	@bash run.sh

demo: ## prices from the embedded exchange every 5 s, and a page that shows them: recorded prices, no network
	@bash run.sh --sources embedded-diverse --every 5s --samples 3 --interval 500ms --serve --journal "$$(mktemp -d)/demo.jsonl"

build: ## build target/release/rsoracle
	cargo build --release --locked $(FEATURES)

# Without cargo (as for root under sudo), this installs the binary that was built before.
install: $(if $(shell command -v cargo),$(if $(filter static,$(LINK)),musl,build)) ## install binary, manual pages, completions, documents, unit to PREFIX (/usr/local); DESTDIR, LINK=static
	install -D "$(BINARY)" "$(INSTALLED)/bin/rsoracle"
	"$(BINARY)" manual "$(INSTALLED)/share"
	install -D -m 644 -t "$(DOCUMENTS)" README.md LICENSE-*
	install -D -m 644 -t "$(DOCUMENTS)/docs" docs/*.* docs/Dockerfile
	install -D -m 644 -t "$(DOCUMENTS)/docs/kubernetes" docs/kubernetes/*
	sed -i 's|/usr/local/|$(PREFIX)/|g' "$(DOCUMENTS)/docs"/*.*
	install -D -m 644 -t "$(INSTALLED)/lib/systemd/system" $(foreach unit,$(UNITS),"$(DOCUMENTS)/docs/$(unit)")

uninstall: ## remove what 'make install' put there
	cd "$(INSTALLED)" && rm -rf share/doc/rsoracle && rm -f $(addprefix lib/systemd/system/,$(UNITS)) \
		bin/rsoracle share/man/man1/rsoracle.1 share/man/man1/rsoracle-*.1 \
		share/bash-completion/completions/rsoracle share/zsh/site-functions/_rsoracle share/fish/vendor_completions.d/rsoracle.fish

# Most tests wait for processes rather than compute, so more of them run at a time than there may be cores.
export RUST_TEST_THREADS ?= 6

# Two steps, because what can be built in the second depends on what the first installs.
test: ## check formatting and lints, run all tests, build the static binary if possible; in CI also slow checks
	@.ci/setup tests
	@$(MAKE) --no-print-directory checks

checks: lint $(if $(ROUTE),musl verifier) $(if $(CI),reproduce deny sbom)
	FEATURES='$(FEATURES)' $(if $(ROUTE),RSORACLE_STATIC='$(STATIC)') .ci/test

lint: ## check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(FEATURES) -- -D warnings

bench: ## measure precision, speed and size; print a table
	$(if $(wildcard $(STATIC)),RSORACLE_STATIC=$(STATIC)) cargo bench --locked $(FEATURES)
	RSORACLE_BINARY=$(TARGET_DIR)/release/rsoracle cargo run --release --locked --quiet $(FEATURES) \
		--manifest-path benches/peers/Cargo.toml --target-dir $(TARGET_DIR)/peers

MINUTES ?= 60
soak: ## run for an hour with strangers, lies, kills, a stepped clock and a full disk (MINUTES=60)
	MINUTES=$(MINUTES) cargo test --release --locked $(FEATURES) --test soak -- --ignored --nocapture

musl: ## build the static binary, target/$TARGET/release/rsoracle (TARGET=aarch64-unknown-linux-musl for another)
	@.ci/static build

verifier: ## build the static rsoracle-verify, target/$TARGET/release/rsoracle-verify, which only checks reports
	@.ci/static verifier

musl-setup: ## install what 'make musl' needs (on Debian, as root)
	@.ci/static setup

reproduce: musl ## build the static binary again in another folder, and check that the bytes are the same
	@.ci/static reproduce

# Where systems keep their certificates in one file.
CERTIFICATES = $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem))
docker: docker-there musl ## build a Docker image with the static binary and the system's certificates, from docs/Dockerfile
	mkdir -p -m 700 target/docker/data
	cp $(STATIC) target/docker
	cp $(CERTIFICATES) target/docker/ca-certificates.crt
	docker build --file docs/Dockerfile --tag rsoracle target/docker

docker-there:
	@command -v docker >/dev/null || { echo "docker is missing: see https://docs.docker.com/engine/install" >&2; exit 1; }
	@[ -n "$(CERTIFICATES)" ] || { echo "the system's certificates are missing: install the package ca-certificates" >&2; exit 1; }

audit: ## print what is in the program, on one page; fail if a budget is exceeded
	@mkdir -p $(TARGET_DIR)
	@$(if $(wildcard $(STATIC)),RSORACLE_STATIC=$(STATIC)) cargo test --quiet --locked $(FEATURES) --test audit >$(TARGET_DIR)/audit.log 2>&1 \
		|| { cat $(TARGET_DIR)/audit.log; exit 1; }
	@cat $(TARGET_DIR)/audit.txt
	@if command -v cargo-deny >/dev/null; then $(MAKE) --no-print-directory deny; else \
		echo "licences, sources, versions: not checked; 'make deny' installs cargo-deny (115 MB) and checks them"; fi

# The tools are built without optimization: they build three times as fast, and are fast enough.
deny: ## check licences, sources and versions of all crates with cargo-deny, which it installs if it is missing
	@command -v cargo-deny >/dev/null || cargo install --debug --locked --no-default-features cargo-deny@0.20.2
	cargo deny --locked --config .ci/deny.toml check licenses bans sources
	@echo "advisories: not checked; where the network allows it, 'cargo deny check advisories' does"

sbom: ## write target/rsoracle.cdx.json: a bill of materials (CycloneDX), checked against its schema; installs cargo-cyclonedx
	@command -v cargo-cyclonedx >/dev/null || cargo install --debug --locked cargo-cyclonedx@0.5.9
	@test -x target/sbom/bin/python || python3 -m venv target/sbom
	@target/sbom/bin/pip install --quiet 'cyclonedx-python-lib[json-validation]==11.12.0'
	SOURCE_DATE_EPOCH=1 cargo cyclonedx --quiet --format json --spec-version 1.5 --target $(TARGET) --override-filename rsoracle.cdx
	mv rsoracle.cdx.json target/ && rm -f src/*/rsoracle.cdx.json
	target/sbom/bin/python .ci/sbom.py target/rsoracle.cdx.json

fuzz: ## fuzz every trust boundary, SECONDS=60 each (coverage-guided, needs a nightly toolchain, installs cargo-fuzz); print a table
	@FEATURES='$(FEATURES)' .ci/fuzz $(or $(SECONDS),60)

clean: ## remove everything that was built
	cargo clean
