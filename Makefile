# `make help` lists the targets. TLS is built from source where the system has no OpenSSL to link against.
FEATURES := $(shell pkg-config --exists openssl 2>/dev/null || echo --features vendored)

# What the static binary is for. It can be built here if .ci/static knows a route.
export TARGET ?= x86_64-unknown-linux-musl
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
STATIC := $(TARGET_DIR)/$(TARGET)/release/rsoracle
ROUTE := $(shell .ci/static route 2>/dev/null)

# What 'rsoracle --version' says.
export RSORACLE_COMMIT := $(shell .ci/commit)

# Where 'make install' puts what it installs, beneath $(DESTDIR) if that is given; LINK=static takes the static binary.
PREFIX ?= /usr/local
INSTALLED := $(DESTDIR)$(PREFIX)
BINARY := $(if $(filter static,$(LINK)),$(STATIC),$(TARGET_DIR)/release/rsoracle)

.PHONY: help run demo build install uninstall test checks lint bench soak musl verifier musl-setup reproduce docker audit deny sbom fuzz clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

run: ## one price from the live exchange; from the embedded one, marked, if that cannot be reached
	@bash run.sh

demo: ## one price from the embedded exchange: recorded prices, no network
	@bash run.sh --source embedded:BTCUSDT

build: ## build target/release/rsoracle
	cargo build --release --locked $(FEATURES)

# Where there is no cargo, as for root under sudo, what was built before is installed.
install: $(if $(shell command -v cargo),$(if $(filter static,$(LINK)),musl,build)) ## binary, manual pages, completions into PREFIX (/usr/local); DESTDIR, LINK=static
	install -D "$(BINARY)" "$(INSTALLED)/bin/rsoracle"
	"$(BINARY)" manual "$(INSTALLED)/share"

uninstall: ## remove what 'make install' put there
	cd "$(INSTALLED)" && rm -f bin/rsoracle share/man/man1/rsoracle.1 share/man/man1/rsoracle-*.1 \
		share/bash-completion/completions/rsoracle share/zsh/site-functions/_rsoracle share/fish/vendor_completions.d/rsoracle.fish

# Most tests wait for processes rather than work: more of them at a time than there may be cores.
export RUST_TEST_THREADS ?= 6

# In two steps: what the first installs decides what the second builds.
test: ## formatting, lints, all tests, the static binary where it can be built; in CI also what is slow
	@.ci/setup tests
	@$(MAKE) --no-print-directory checks

checks: lint $(if $(ROUTE),musl verifier) $(if $(CI),reproduce deny sbom)
	FEATURES='$(FEATURES)' $(if $(ROUTE),RSORACLE_STATIC='$(STATIC)') .ci/test

lint: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(FEATURES) -- -D warnings

bench: ## measure precision, speed and size; prints a table
	$(if $(wildcard $(STATIC)),RSORACLE_STATIC=$(STATIC)) cargo bench --locked $(FEATURES)

MINUTES ?= 60
soak: ## an hour of rounds among strangers, liars, kills, a stepped clock and a full disk (MINUTES=60)
	MINUTES=$(MINUTES) cargo test --release --locked $(FEATURES) --test soak -- --ignored --nocapture

musl: ## build the static binary, target/$TARGET/release/rsoracle (TARGET=aarch64-unknown-linux-musl for another)
	@.ci/static build

verifier: ## build the static rsoracle-verify, target/$TARGET/release/rsoracle-verify: checks reports, and nothing else
	@.ci/static verifier

musl-setup: ## install what 'make musl' needs, on Debian as root
	@.ci/static setup

reproduce: musl ## build the static binary once more, in another folder: the same bytes
	@.ci/static reproduce

docker: musl ## a Docker image with the static binary and the system's certificates, from docs/Dockerfile
	mkdir -p -m 700 target/docker/data
	cp $(STATIC) /etc/ssl/certs/ca-certificates.crt target/docker
	docker build --file docs/Dockerfile --tag rsoracle target/docker

audit: deny ## what is in the program, on one page; fails when it passes a budget
	@$(if $(wildcard $(STATIC)),RSORACLE_STATIC=$(STATIC)) cargo test --quiet --locked --test audit >target/audit.log 2>&1 \
		|| { cat target/audit.log; exit 1; }
	@cat target/audit.txt

# The tools are built without optimization: three times as fast to make, and fast enough.
deny: ## licences, sources and versions of all crates, by cargo-deny
	@command -v cargo-deny >/dev/null || cargo install --debug --locked --no-default-features cargo-deny@0.20.2
	cargo deny --locked --config .ci/deny.toml check licenses bans sources
	@echo "advisories: not checked; where the network allows it, 'cargo deny check advisories' does"

sbom: ## target/rsoracle.cdx.json: a bill of materials (CycloneDX), checked against its schema
	@command -v cargo-cyclonedx >/dev/null || cargo install --debug --locked cargo-cyclonedx@0.5.9
	@test -x target/sbom/bin/python || python3 -m venv target/sbom
	@target/sbom/bin/pip install --quiet 'cyclonedx-python-lib[json-validation]==11.12.0'
	SOURCE_DATE_EPOCH=1 cargo cyclonedx --quiet --format json --spec-version 1.5 --target $(TARGET) --override-filename rsoracle.cdx
	mv rsoracle.cdx.json target/ && rm -f src/*/rsoracle.cdx.json
	target/sbom/bin/python .ci/sbom.py target/rsoracle.cdx.json

fuzz: ## every border under coverage-guided fuzzing, SECONDS=60 each; prints a table, needs a nightly toolchain
	@FEATURES='$(FEATURES)' .ci/fuzz $(or $(SECONDS),60)

clean: ## remove everything that was built
	cargo clean
