//! The tables of the commands that neither run, sample nor imitate anything.

use super::{CA_FILE, ENDPOINT, PROXY, flag};
use crate::flags::args::Command;

/// `rsoracle verify`
pub static VERIFY: Command = Command {
    name: "verify",
    job: "verifies reports offline: their form, signatures and prices, and who signed them",
    notes: "A FILE holds what 'run --journal' keeps or a single 'run --json' prints; with --published, what 'run --every … --json' \
            prints. '-' is standard input.\n\
            Exit codes, and which one counts for several files: 1 invalid, 4 a file cannot be read, 3 no report in it yet, 6 older \
            than --max-age, 5 consistent, but signers unknown, 0 valid and signed by the roster's collectors. 2 is wrong usage.",
    example: "rsoracle verify journal.jsonl --roster roster.toml --max-age 60s",
    operands: "FILE…",
    groups: &[],
    flags: &[
        flag(
            "roster",
            "FILE",
            "",
            "The roster that you trust: feed, rule, f, quorum and collectors. 'run --write-roster' writes one.",
        ),
        flag(
            "head",
            "SIGNATURE",
            "",
            "Signature of a report that you know to be the newest, in 128 hexadecimal digits: detects a truncated journal.",
        ),
        flag(
            "max-age",
            "DURATION",
            "",
            "Refuse a file whose last price is older than this. (The --max-age of 'run' is another: it limits the age of an exchange's price.)",
        ),
        flag(
            "published",
            "",
            "",
            "The files hold published reports only, as 'run --every … --json' prints them: numbers may skip, and no published report is missing.",
        ),
        flag(
            "json",
            "",
            "",
            "Print one JSON object per file instead of sentences.",
        ),
    ],
};

/// `rsoracle history`
pub static HISTORY: Command = Command {
    name: "history",
    job: "shows the last rounds of a journal as a table and a small graph of prices",
    notes: "FILE is a journal that 'run --journal' keeps; '-' is standard input. A file is read from its end, as far as the \
            rounds to show need. Every line read is verified as 'rsoracle verify' does it without a roster. A '!' marks what is \
            unusual: rounds without a price, missing reports, and a round that began more than 1.5 times the usual period after \
            the previous one.\n\
            Exit codes: 0 all lines read are valid, 1 some are not, 2 usage, 4 unreadable.",
    example: "rsoracle history journal.jsonl --last 50",
    operands: "FILE",
    groups: &[],
    flags: &[
        flag(
            "last",
            "N",
            "20",
            "Number of rounds to show, counted from the end.",
        ),
        flag(
            "json",
            "",
            "",
            "Print one line of JSON per round instead of the table.",
        ),
    ],
};

/// `rsoracle doctor`
pub static DOCTOR: Command = Command {
    name: "doctor",
    job: "checks whether sources can be used from here, and says what to do about those that cannot",
    notes: "For each source in turn it connects, reads a first price and its age, measures the round trip, compares this machine's \
            clock with the exchange's, and reads the issuer and the expiry of the certificate. A source may be written without its \
            symbol, as in 'kraken'. Without any SOURCE, one of every kind is checked. For an 'embedded:' source without --endpoint it \
            starts the embedded exchange itself.\n\
            Exit codes: 0 all can be used, 1 some cannot, 2 usage.",
    example: "rsoracle doctor kraken binance-stream:BTCUSDT --feed BTC/USD",
    operands: "[SOURCE…]",
    groups: &[],
    flags: &[
        flag(
            "feed",
            "NAME",
            "BTC/USD",
            "The feed whose market is meant by a source without a symbol.",
        ),
        CA_FILE,
        PROXY,
        ENDPOINT,
        flag(
            "json",
            "",
            "",
            "Print one JSON object per source instead of sentences, one per line.",
        ),
    ],
};

/// `rsoracle keygen`
pub static KEYGEN: Command = Command {
    name: "keygen",
    job: "creates a secret key in a new file that only you can read, and prints its public key",
    notes: "It never overwrites a file. Whoever has the file can sign in its owner's name: keep it on the host that signs, and \
            give others only the public key, in a roster file.",
    example: "rsoracle keygen aggregator.key",
    operands: "FILE",
    groups: &[],
    flags: &[],
};

/// `rsoracle keys`
pub static KEYS: Command = Command {
    name: "keys",
    job: "prints the public keys of secret key files, one per line",
    notes: "",
    example: "rsoracle keys keys/slot-0.key keys/slot-1.key",
    operands: "FILE…",
    groups: &[],
    flags: &[],
};

/// `rsoracle resolve`
pub static RESOLVE: Command = Command {
    name: "resolve",
    job: "looks up the addresses of a host; collectors run it as a child, since a DNS lookup cannot be interrupted",
    notes: "",
    example: "rsoracle resolve ws-api.binance.com:443",
    operands: "HOST:PORT",
    groups: &[],
    flags: &[],
};

/// `rsoracle manual`
pub static MANUAL: Command = Command {
    name: "manual",
    job: "writes manual pages and shell completions (bash, zsh, fish) into a directory laid out like /usr/share",
    notes: "Existing files are replaced.",
    example: "rsoracle manual /usr/local/share",
    operands: "DIR",
    groups: &[],
    flags: &[],
};
