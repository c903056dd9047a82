//! The tables of the commands that look at something and change nothing: reports, a journal, sources.
//!
//! What this module does not do: anything but hold the tables.

use super::{CA_FILE, ENDPOINT, PROXY, flag};
use crate::flags::args::Command;

/// `rsoracle verify`
pub static VERIFY: Command = Command {
    name: "verify",
    job: "checks reports offline: form, signatures, prices, and whom they are signed by",
    notes: "It takes what 'run --json' prints or 'run --journal' keeps: one report, many, or a whole journal; '-' is standard input.\n\
            Exit codes: 0 valid and signed by the roster's collectors, 1 invalid, 2 usage, 4 unreadable, 5 consistent but signers\n\
            unknown (no --roster).",
    example: "rsoracle verify journal.jsonl --roster roster.toml --max-age 60s",
    operands: "FILE…",
    flags: &[
        flag(
            "roster",
            "FILE",
            "",
            "Whom you trust: feed, rule, f, quorum, collectors (run --write-roster writes one).",
        ),
        flag(
            "head",
            "SIGNATURE",
            "",
            "The signature of the report that must be the last, in 128 hexadecimal digits.",
        ),
        flag(
            "max-age",
            "DURATION",
            "",
            "Refuse if the last price is older than this.",
        ),
        flag(
            "json",
            "",
            "",
            "One JSON object per file instead of sentences.",
        ),
    ],
};

/// `rsoracle history`
pub static HISTORY: Command = Command {
    name: "history",
    job: "shows the last rounds of a journal: a table, and the prices as a line",
    notes: "It takes what 'run --journal' keeps; '-' is standard input. Of every line it checks the form, the aggregator's\n\
            signature and the place in the chain; 'rsoracle verify' checks all of it. What stands out bears a '!': rounds without\n\
            a price, missing reports, and a start more than one and a half of the usual distance after the one before.\n\
            Exit codes: 0 all lines check, 1 some do not, 2 usage, 4 unreadable.",
    example: "rsoracle history journal.jsonl --last 50",
    operands: "FILE",
    flags: &[
        flag("last", "N", "20", "So many rounds, from the end."),
        flag(
            "json",
            "",
            "",
            "One line of JSON per round instead of the table.",
        ),
    ],
};

/// `rsoracle doctor`
pub static DOCTOR: Command = Command {
    name: "doctor",
    job: "looks whether sources can be used from here, and says what to do about those that cannot",
    notes: "It looks at one source after the other: connects, reads a first price and its age, measures the\n\
            round trip, holds this machine's clock against the exchange's, and reads who signed the certificate and until when.\n\
            A source may be written without its symbol: 'kraken'. Without any, one of every kind is looked at.\n\
            Exit codes: 0 all can be used, 1 some cannot, 2 usage.",
    example: "rsoracle doctor kraken binance-stream:BTCUSDT --feed BTC/USD",
    operands: "[SOURCE…]",
    flags: &[
        flag(
            "feed",
            "NAME",
            "BTC/USD",
            "Whose base currency is meant where a source has no symbol.",
        ),
        CA_FILE,
        PROXY,
        ENDPOINT,
        flag("json", "", "", "One JSON object per source and line."),
    ],
};
