#!/usr/bin/env bash
# Builds rsoracle and runs it. Without arguments: prints one price from the live exchange or, if that cannot be reached, from
# the embedded exchange, with a loud warning. With arguments: runs 'rsoracle run' with them.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'run.sh: %s\n' "$*" >&2; }

.ci/setup build
features=()
pkg-config --exists openssl 2>/dev/null || features=(--features vendored)
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
rsoracle=$target/release/rsoracle
RSORACLE_COMMIT=$(.ci/commit)
export RSORACLE_COMMIT
if [ ! -x "$rsoracle" ]; then
    how_long='about a minute'
    [ ${#features[@]} -eq 0 ] || how_long='about five minutes, because OpenSSL is built from source'
    say "building rsoracle, which takes $how_long the first time"
fi
cargo build --release --locked --quiet "${features[@]}"

[ $# -eq 0 ] || exec "$rsoracle" run "$@"

# First take a single sample: it tells within seconds whether the live exchange answers and, if not, why.
status=0
cause=$("$rsoracle" run --quiet --collectors 1 --samples 1 --ready-timeout 5s --control-port 0 --data-port 0 2>&1 >/dev/null) || status=$?
case $status in
    0) exec "$rsoracle" run ;;
    1 | 3)
        while IFS= read -r line; do say "$line"; done <<<"$cause"
        say "*** NO PRICE FROM THE LIVE EXCHANGE: RECORDED PRICES FOLLOW, NOT LIVE ONES ***"
        exec "$rsoracle" run --source embedded:BTCUSDT
        ;;
    *) say "$cause"; exit "$status" ;;
esac
