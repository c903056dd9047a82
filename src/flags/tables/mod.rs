//! The tables of commands and flags, from which the parser, the help texts, the manual pages and the shell completions are
//! made.
//!
//! Invariant: every flag says its unit, its default and what it does. The meaning of values is checked elsewhere
//! (`flags::values` and the commands).

mod checks;
mod follow;
mod relay;
mod serve;

pub use checks::{
    DOCTOR, EXCHANGE, HISTORY, JOURNAL_COMMAND, KEYGEN, KEYS, MANUAL, RESOLVE, ROSTER, VERIFY,
};
pub use follow::FOLLOW;
pub use relay::RELAY;
pub use serve::{SERVE, SERVE_LISTEN};

use crate::flags::args::{Command, Flag};

const fn flag(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        value,
        default,
        repeats: false,
        help,
    }
}

const fn list(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        repeats: true,
        ..flag(name, value, default, help)
    }
}

const FEED: Flag = list(
    "feed",
    "NAME",
    "BTC/USD",
    "The feed: what is priced. Its name is part of what collectors sign. Several ('BTC/USD,ETH/USD') share collectors and rounds; each has its own price.",
);
const SAMPLE_RULE: Flag = flag(
    "sample-rule",
    "RULE",
    "mean",
    "How a collector combines its samples: mean or median.",
);
const ENDPOINT: Flag = flag(
    "endpoint",
    "URL",
    "",
    "Address of the embedded exchange, such as wss://localhost:9443/ws-api/v3. Only for 'embedded:' sources.",
);
const CA_FILE: Flag = flag(
    "ca-file",
    "FILE",
    "",
    "PEM file of root certificates to trust in addition to the system's (or to those of SSL_CERT_FILE and SSL_CERT_DIR).",
);
const PROXY: Flag = flag(
    "proxy",
    "URL",
    "",
    "Connect to wss exchanges through this HTTP proxy. It overrides HTTPS_PROXY and NO_PROXY. Other users can read command lines: put a URL with a password (http://USER:PASSWORD@HOST:PORT) into HTTPS_PROXY instead.",
);

const MAX_AGE: Flag = flag(
    "max-age",
    "DURATION",
    "",
    "A price older than this is stale: the sample has no price. The default depends on the exchange.",
);
const MAX_SILENCE: Flag = flag(
    "max-silence",
    "DURATION",
    "",
    "Replace a connection to the exchange that has been silent for this long. The default depends on the exchange.",
);
const PING_EVERY: Flag = flag(
    "ping-every",
    "DURATION",
    "",
    "How often to ping an exchange that expects pings. The default is what the exchange asks for.",
);
const CONNECTION_AGE: Flag = flag(
    "connection-age",
    "DURATION",
    "23h",
    "Replace a connection to the exchange after a round when it is this old. Each further slot does so 1% earlier.",
);

// Flags that `run` and `aggregate` share.
const CONTROL_PORT: Flag = flag(
    "control-port",
    "PORT",
    "8000",
    "TCP port of the control channel; 0 takes a free one. If 8000 is in use, 'run' takes a free one, unless --bind or a port flag is given.",
);
const DATA_PORT: Flag = flag(
    "data-port",
    "PORT",
    "8080",
    "TCP port of the data channel; 0 takes a free one. If 8080 is in use, the same applies.",
);
const BIND: Flag = flag(
    "bind",
    "ADDRESS",
    "127.0.0.1",
    "IP address that both ports listen on.",
);
const READY_TIMEOUT: Flag = flag(
    "ready-timeout",
    "DURATION",
    "10s",
    "Timeout for collectors to become ready. After it, a quorum starts without the others.",
);
const AGGREGATOR_KEY: Flag = flag(
    "aggregator-key",
    "FILE",
    "",
    "Secret key of the aggregator, made by 'rsoracle keygen'. Without it the key is kept beside the journal, or new in every run.",
);
const DEVIATION: Flag = flag(
    "deviation",
    "PERCENT",
    "",
    "Publish only if the price differs from the last published one by at least this, such as 0.5%.",
);
const HEARTBEAT: Flag = flag(
    "heartbeat",
    "DURATION",
    "",
    "With --deviation: publish also if the last published price is this old.",
);
const MAX_MOVE: Flag = flag(
    "max-move",
    "PERCENT",
    "",
    "Withhold a price that differs from the last published one by more than this.",
);
const JOURNAL: Flag = flag(
    "journal",
    "FILE",
    "",
    "Append every report to this file. A report is on disk before its price is published. Beside it are the aggregator's key (FILE.key) and the newest report, published or not (FILE.newest).",
);
const JOURNAL_MAX: Flag = flag(
    "journal-max",
    "SIZE",
    "",
    "Close the journal's segment once it has this size, such as 100MB: it becomes FILE.000001, FILE.000002 and so on, and the chain goes on in FILE.",
);
const RETIRE_KEY: Flag = flag(
    "retire-key",
    "FILE",
    "",
    "Replace the key that has signed the journal so far: this is the old one, --aggregator-key names the new one.",
);
const LATEST: Flag = flag(
    "latest",
    "FILE",
    "",
    "File for the newest published report. It is replaced atomically. With several feeds, a directory with one such file for each: BTC-USD.json and so on.",
);
const WITH_SERVER: Flag = flag(
    "serve",
    "[ADDRESS:PORT]",
    "",
    "Start 'rsoracle serve' on the journal, too, and print the address of its page. Without a value it listens on 127.0.0.1:8090; port 0 takes a free one. Needs --journal.",
);
const JSON: Flag = flag("json", "", "", "Print reports as JSON, one per line.");
const QUIET: Flag = flag("quiet", "", "", "Print errors only, no progress.");

/// The flags of `run`, by what they are about.
const RUN_GROUPS: [(&str, &str); 5] = [
    (
        "Prices",
        "feed source sources accept-quote min-exchanges collectors samples interval rule sample-rule \
         deviation heartbeat max-move max-spread",
    ),
    ("Rounds", "every rounds ready-timeout"),
    (
        "Files and output",
        "config check journal journal-max serve latest write-roster aggregator-key collector-keys retire-key json quiet",
    ),
    ("Ports", "bind control-port data-port"),
    (
        "Connections to exchanges",
        "endpoint ca-file proxy max-age max-silence ping-every connection-age",
    ),
];

/// `rsoracle run`
pub static RUN: Command = Command {
    name: "run",
    job: "runs an aggregator with its collectors, for one round or for many, and prints verified prices",
    notes: "Exit codes: 0 price published, 1 runtime failure, 2 usage, 3 no price (no quorum, or withheld).\n\
            The result goes to standard output, everything else to standard error.",
    example: "rsoracle run --source embedded:BTCUSDT --samples 5 --interval 200ms",
    operands: "",
    groups: &RUN_GROUPS,
    flags: &[
        flag(
            "config",
            "FILE",
            "",
            "Configuration file (TOML): each flag is a key, with underscores for dashes, as in docs/oracle.toml. Flags on the command line override it.",
        ),
        flag(
            "check",
            "",
            "",
            "Print the configuration as it takes effect and how many faults the roster survives; start nothing.",
        ),
        flag(
            "collectors",
            "N",
            "5",
            "Number of collectors (slots). If there are more sources than that, each source gets one collector.",
        ),
        flag("samples", "N", "10", "Samples per round and collector."),
        flag(
            "interval",
            "DURATION",
            "1s",
            "Time from one sample to the next, such as 250ms, 1s or 2m.",
        ),
        FEED,
        list(
            "source",
            "EXCHANGE:SYMBOL",
            "binance",
            "One source or several ('kraken,coinbase'), assigned to the collectors in turn. Without a symbol, as several feeds need it: each feed's market. 'embedded:BTCUSDT' replays recorded trades.",
        ),
        flag(
            "sources",
            "ROSTER",
            "",
            "A built-in list of sources. diverse: coinbase, kraken, bitstamp, bitfinex, gemini, crypto.com, binance-stream, okx and bybit; embedded-diverse: the same from the embedded exchange.",
        ),
        list(
            "accept-quote",
            "CURRENCY",
            "",
            "Accept sources in this currency, which is pegged to the feed's, as if it were the feed's: 'USDC,USDT'. For a feed in USD, --sources accepts USDC and USDT, and the default source USDC.",
        ),
        flag(
            "min-exchanges",
            "N",
            "1",
            "Publish a price only if the collectors' prices come from at least this many exchanges.",
        ),
        flag(
            "rule",
            "RULE",
            "trimmed-mean",
            "How the collectors' prices are combined: trimmed-mean, median or mean.",
        ),
        SAMPLE_RULE,
        CONTROL_PORT,
        DATA_PORT,
        BIND,
        CA_FILE,
        PROXY,
        READY_TIMEOUT,
        ENDPOINT,
        AGGREGATOR_KEY,
        flag(
            "collector-keys",
            "DIR",
            "",
            "Local collectors sign with DIR/slot-N.key instead of new keys. Missing files are created. With --serve, the default is FILE.keys beside the journal.",
        ),
        flag(
            "write-roster",
            "FILE",
            "",
            "Write the roster (the keys and sources behind this price) to this file, once all keys are known.",
        ),
        flag(
            "every",
            "DURATION",
            "",
            "Run rounds until stopped: one at every multiple of this period on the clock.",
        ),
        flag(
            "rounds",
            "N",
            "",
            "With --every: end after this many rounds.",
        ),
        DEVIATION,
        HEARTBEAT,
        MAX_MOVE,
        flag(
            "max-spread",
            "PERCENT",
            "",
            "Withhold a price if the collectors' prices used for it differ by more than this.",
        ),
        JOURNAL,
        JOURNAL_MAX,
        WITH_SERVER,
        RETIRE_KEY,
        LATEST,
        MAX_AGE,
        MAX_SILENCE,
        PING_EVERY,
        CONNECTION_AGE,
        JSON,
        QUIET,
    ],
};

/// `rsoracle aggregate`
pub static AGGREGATE: Command = Command {
    name: "aggregate",
    job: "runs an aggregator for the collectors of a roster, which are started elsewhere, and prints verified prices",
    notes: "It shows its public key at the start: its collectors know it from 'rsoracle collect --aggregator HOST@KEY'. Rules, \
            schedule, sources and keys are those of the roster.\n\
            Exit codes: 0 price published, 1 runtime failure, 2 usage, 3 no price (no quorum, or withheld).",
    example: "rsoracle aggregate --roster roster.toml --bind 0.0.0.0 --journal journal.jsonl",
    operands: "",
    groups: &[],
    flags: &[
        list(
            "roster",
            "FILE",
            "",
            "The roster: the terms of the feeds, and the key and sources of each collector. Required. If further ones are given, each must follow the one before it ('rsoracle roster change'), and takes over at its time.",
        ),
        flag(
            "check",
            "",
            "",
            "Print the roster's digests, slots and schedule, the ports, the key, and where the journal goes on, or the error that a start would give; open no port and write nothing.",
        ),
        CONTROL_PORT,
        DATA_PORT,
        BIND,
        READY_TIMEOUT,
        flag(
            "rounds",
            "N",
            "",
            "End after this many rounds, instead of when the roster's schedule ends.",
        ),
        AGGREGATOR_KEY,
        DEVIATION,
        HEARTBEAT,
        MAX_MOVE,
        JOURNAL,
        JOURNAL_MAX,
        WITH_SERVER,
        RETIRE_KEY,
        LATEST,
        JSON,
        QUIET,
    ],
};

/// `rsoracle collect`
pub static COLLECT: Command = Command {
    name: "collect",
    job: "runs one collector: samples a source by the clock, signs the averages and sends them",
    notes: "'rsoracle run' starts its collectors itself. By hand, a collector takes its slot, its source and the schedule from a roster: its slot is the one that has its key. It ends by itself only when a next roster has no slot for it, and no aggregator needs to be there.",
    example: "rsoracle collect --roster roster.toml --key slot-4.key --aggregator oracle.example@KEY",
    operands: "",
    groups: &[],
    flags: &[
        list(
            "roster",
            "FILE",
            "",
            "The roster, whose terms are signed. If further ones are given, each must follow the one before it ('rsoracle roster change'), and takes over at its time.",
        ),
        flag(
            "check",
            "",
            "",
            "With --roster: print the slot, the sources, the digests and the schedule, and start nothing.",
        ),
        flag(
            "key",
            "FILE",
            "",
            "Sign with this key, made by 'rsoracle keygen'. A child without it makes a new one.",
        ),
        list(
            "aggregator",
            "HOST[:CONTROL,DATA]@KEY",
            "",
            "An aggregator to send samples and answers to: host name or IP address, its two ports (8000 and 8080 if left out), and its public key in hexadecimal.",
        ),
        flag(
            "state",
            "DIR",
            "",
            "Directory of the mark, which says up to when the key may have signed, so that no round is signed twice. The default is $STATE_DIRECTORY, or else beside the key (FILE.mark).",
        ),
        CA_FILE,
        PROXY,
        ENDPOINT,
        MAX_AGE,
        MAX_SILENCE,
        PING_EVERY,
        CONNECTION_AGE,
        flag(
            "tether",
            "",
            "",
            "Only for children of 'rsoracle run', as are the flags below: rosters come over standard input, a socket. This process ends when that is closed.",
        ),
        flag("slot", "N", "", "A child's index in the roster."),
        list(
            "source",
            "EXCHANGE:SYMBOL",
            "",
            "A child's source of each feed, in the order of the feeds.",
        ),
        flag("control", "ADDRESS:PORT", "", "Its control channel."),
        flag("data", "ADDRESS:PORT", "", "Its data channel."),
        flag(
            "stay",
            "",
            "",
            "If the exchange cannot be used at the start, go on trying, as often as it allows, instead of ending.",
        ),
    ],
};

/// All commands that take flags or operands, in the order of the help text.
pub static COMMANDS: [&Command; 16] = [
    &RUN,
    &SERVE,
    &FOLLOW,
    &RELAY,
    &VERIFY,
    &HISTORY,
    &JOURNAL_COMMAND,
    &DOCTOR,
    &COLLECT,
    &AGGREGATE,
    &ROSTER,
    &EXCHANGE,
    &KEYGEN,
    &KEYS,
    &RESOLVE,
    &MANUAL,
];
