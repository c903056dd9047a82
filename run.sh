#!/usr/bin/env bash
# Builds rsoracle and runs it. Without arguments: one price from the live exchange, or, if that cannot be reached,
# from the embedded one, loudly marked. With arguments: 'rsoracle run' with those.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'run.sh: %s\n' "$*" >&2; }

command -v cargo >/dev/null || { say "cargo is missing; install Rust from https://rustup.rs"; exit 1; }
command -v cc >/dev/null || { say "a C compiler is missing (the TLS library needs it); on Debian: apt-get install build-essential"; exit 1; }

features=()
if ! pkg-config --exists openssl 2>/dev/null; then
    if ! command -v make >/dev/null || ! perl -MIPC::Cmd -e 1 2>/dev/null; then
        say "OpenSSL's development files are missing, and so are make or perl to build it from source; on Debian: apt-get install pkg-config libssl-dev"
        exit 1
    fi
    say "no OpenSSL development files here: OpenSSL is built from source, which takes some minutes"
    features=(--features vendored)
fi
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
rsoracle=$target/release/rsoracle
RSORACLE_COMMIT=$(.ci/commit)
export RSORACLE_COMMIT
[ -x "$rsoracle" ] || say "building rsoracle, which takes about a minute the first time"
cargo build --release --locked --quiet "${features[@]}"

[ $# -eq 0 ] || exec "$rsoracle" run "$@"

# One sample first: it tells in seconds whether the live exchange answers, and if not, why.
status=0
cause=$("$rsoracle" run --quiet --collectors 1 --samples 1 --ready-timeout 5s --control-port 0 --data-port 0 2>&1 >/dev/null) || status=$?
case $status in
    0) exec "$rsoracle" run ;;
    1 | 3)
        cause=${cause%%$'\n'*}
        cause=${cause%; trying again}
        say "*** NO PRICE FROM THE LIVE EXCHANGE: RECORDED PRICES FOLLOW, NOT LIVE ONES *** (${cause#collector 0: })"
        exec "$rsoracle" run --source embedded:BTCUSDT
        ;;
    *) say "$cause"; exit "$status" ;;
esac
