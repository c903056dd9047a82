#!/usr/bin/env bash
# Builds rsoracle and runs it. Without arguments: prints one price from the live exchange or, if that cannot be reached, from
# the embedded exchange, with a loud warning. With arguments: runs 'rsoracle run' with them.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'run.sh: %s\n' "$*" >&2; }

# Reads what cargo says: announces a build as soon as cargo begins it, leaves out progress, and passes on everything else.
announce() {
    local line word announced=
    while IFS= read -r line; do
        word=
        [[ ! $line =~ ^\ +([A-Z][a-z]+)\  ]] || word=${BASH_REMATCH[1]}
        case $word in
            Blocking) say 'waiting until another build ends' ;;
            Updating | Downloading | Downloaded | Compiling)
                [ -n "$announced" ] || say "$1"
                announced=yes
                ;;
            Finished) ;;
            *) printf '%s\n' "$line" >&2 ;;
        esac
    done
}

.ci/setup build
features=()
pkg-config --exists openssl 2>/dev/null || features=(--features vendored)
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
rsoracle=$target/release/rsoracle
RSORACLE_COMMIT=$(.ci/commit)
export RSORACLE_COMMIT
if [ -x "$rsoracle" ]; then
    build='building rsoracle again, because its source, commit or settings have changed; this can take a minute'
else
    how_long='about a minute'
    [ ${#features[@]} -eq 0 ] || how_long='about five minutes, because OpenSSL is built from source'
    build="building rsoracle, which takes $how_long the first time"
fi
cargo build --release --locked --color never "${features[@]}" 2>&1 >/dev/null | announce "$build"

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
