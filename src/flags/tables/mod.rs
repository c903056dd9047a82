//! The commands of rsoracle: the tables from which the command line is read and its help is made.
//!
//! Invariant: every flag says its unit, its default and what it does. What this module does not do: make sense of values
//! (`values` and the commands do).

mod checks;

pub use checks::{DOCTOR, HISTORY, VERIFY};

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

const SOURCE: Flag = flag(
    "source",
    "EXCHANGE:SYMBOL",
    "binance:BTCUSDC",
    "What is watched; 'embedded:BTCUSDT' replays recorded trades.",
);
const FEED: Flag = flag(
    "feed",
    "NAME",
    "BTC/USD",
    "What is priced; it is part of what is signed.",
);
const SAMPLE_RULE: Flag = flag(
    "sample-rule",
    "RULE",
    "mean",
    "mean or median: what a collector makes of its samples.",
);
const ENDPOINT: Flag = flag(
    "endpoint",
    "URL",
    "",
    "Where the embedded exchange listens, such as wss://localhost:9443/ws-api/v3; only for 'embedded:' sources.",
);
const CA_FILE: Flag = flag(
    "ca-file",
    "FILE",
    "",
    "Trust the certificates in this PEM file too, besides the system's or those that SSL_CERT_FILE names.",
);
const PROXY: Flag = flag(
    "proxy",
    "URL",
    "",
    "Reach wss exchanges through this HTTP proxy, instead of what HTTPS_PROXY and NO_PROXY say. Other users can read command lines: a URL with a password (http://USER:PASSWORD@HOST:PORT) is better kept in HTTPS_PROXY.",
);

const MAX_AGE: Flag = flag(
    "max-age",
    "DURATION",
    "",
    "A price that is older is none; without this what fits the exchange.",
);
const MAX_SILENCE: Flag = flag(
    "max-silence",
    "DURATION",
    "",
    "A connection to the exchange on which nothing came for so long is replaced; without this what fits the exchange.",
);
const PING_EVERY: Flag = flag(
    "ping-every",
    "DURATION",
    "",
    "How often the exchange is pinged, where it wants to be; without this what it asks for.",
);
const CONNECTION_AGE: Flag = flag(
    "connection-age",
    "DURATION",
    "23h",
    "A connection to the exchange that is this old is replaced after a round, by each next slot 1% earlier.",
);

/// `rsoracle run`
pub static RUN: Command = Command {
    name: "run",
    job: "aggregator with local collectors: takes one round, or rounds without end, and prints verified prices",
    notes: "Exit codes: 0 price published, 1 runtime failure, 2 usage, 3 no quorum (no price).\n\
            The result goes to standard output, everything else to standard error.",
    example: "rsoracle run --source embedded:BTCUSDT --samples 5 --interval 200ms",
    operands: "",
    flags: &[
        flag(
            "config",
            "FILE",
            "",
            "Take what is not typed from this file (TOML): flags are keys, with underscores; see docs/oracle.toml.",
        ),
        flag(
            "check",
            "",
            "",
            "Print the configuration as it takes effect, and what its roster survives; start nothing.",
        ),
        flag(
            "collectors",
            "N",
            "5",
            "How many collectors (slots); where there are more sources, one for each.",
        ),
        flag("samples", "N", "10", "Samples per round and collector."),
        flag(
            "interval",
            "DURATION",
            "1s",
            "From one sample to the next: 250ms, 1s, 2m.",
        ),
        FEED,
        list(
            "source",
            "EXCHANGE:SYMBOL",
            "binance",
            "What is watched: one or several, 'kraken,coinbase', dealt over the collectors; without a symbol the feed's market. 'embedded:BTCUSDT' replays recorded trades.",
        ),
        flag(
            "sources",
            "ROSTER",
            "",
            "diverse: coinbase, kraken, bitstamp, bitfinex, binance, okx and bybit; embedded-diverse: the same of the embedded exchange.",
        ),
        list(
            "accept-quote",
            "CURRENCY",
            "",
            "Take sources in this currency for the feed's own: 'USDC,USDT'. Without --source, and with --sources, USDC and USDT stand for USD.",
        ),
        flag(
            "min-exchanges",
            "N",
            "1",
            "The fewest distinct exchanges among the prices from which one may be published.",
        ),
        flag(
            "rule",
            "RULE",
            "trimmed-mean",
            "trimmed-mean, median or mean.",
        ),
        SAMPLE_RULE,
        flag(
            "control-port",
            "PORT",
            "8000",
            "TCP port of the control channel; 0 takes a free one. Where all collectors are started here and no address is named, a free port serves if 8000 is in use.",
        ),
        flag(
            "data-port",
            "PORT",
            "8080",
            "TCP port of the data channel; 0 takes a free one. 8080 is replaced in the same way.",
        ),
        flag(
            "bind",
            "ADDRESS",
            "127.0.0.1",
            "Address that both ports are opened on.",
        ),
        CA_FILE,
        PROXY,
        flag(
            "ready-timeout",
            "DURATION",
            "10s",
            "How long collectors may take to be ready; then a quorum starts without the rest.",
        ),
        flag(
            "remote",
            "N",
            "0",
            "The last N slots are not started here: their collectors come from elsewhere, with an enrolment file each.",
        ),
        flag(
            "enrolment-dir",
            "DIR",
            "",
            "Where the enrolment files of remote collectors are written (slot-N.enrolment, secret, mode 0600).",
        ),
        ENDPOINT,
        flag(
            "aggregator-key",
            "FILE",
            "",
            "Sign rounds with this key, made by 'rsoracle keygen', instead of a fresh one.",
        ),
        flag(
            "collector-keys",
            "DIR",
            "",
            "Local collectors sign with DIR/slot-N.key instead of fresh keys; what is missing is made.",
        ),
        flag(
            "write-roster",
            "FILE",
            "",
            "Write whom to trust for this price, once all keys are known.",
        ),
        flag(
            "every",
            "DURATION",
            "",
            "Rounds without end, one at every multiple of this on the clock.",
        ),
        flag("rounds", "N", "", "End after so many rounds; with --every."),
        flag(
            "deviation",
            "PERCENT",
            "",
            "Publish only when the price differs by this from the last published one, as 0.5%.",
        ),
        flag(
            "heartbeat",
            "DURATION",
            "",
            "With --deviation: publish also when the last published price is this old.",
        ),
        flag(
            "max-move",
            "PERCENT",
            "",
            "Withhold a price further than this from the last published one.",
        ),
        flag(
            "max-spread",
            "PERCENT",
            "",
            "Withhold a price when those used differ by more than this.",
        ),
        flag(
            "journal",
            "FILE",
            "",
            "Append every report to this file, on the disk before it is published; its key is kept beside it.",
        ),
        flag(
            "retire-key",
            "FILE",
            "",
            "The key that signed the journal until now; --aggregator-key names the new one.",
        ),
        flag(
            "latest",
            "FILE",
            "",
            "Always holds the newest published report, replaced at once.",
        ),
        MAX_AGE,
        MAX_SILENCE,
        PING_EVERY,
        CONNECTION_AGE,
        flag("json", "", "", "Print reports, a line of JSON each."),
        flag(
            "quiet",
            "",
            "",
            "No progress on standard error, only errors.",
        ),
    ],
};

/// `rsoracle collect`
pub static COLLECT: Command = Command {
    name: "collect",
    job: "one collector: samples its source when the aggregator says, signs the average, sends it",
    notes: "'rsoracle run' starts its collectors itself. A remote one is started by hand, with its enrolment on standard\n\
            input: 64 bytes, the one-time secret and the aggregator's public key, as 'run --enrolment-dir' writes them.\n\
            It ends when the aggregator does.",
    example: "rsoracle collect --slot 4 --source binance:BTCUSDC --control 192.0.2.7:8000 --data 192.0.2.7:8080 < slot-4.enrolment",
    operands: "",
    flags: &[
        flag(
            "slot",
            "N",
            "",
            "Index in the aggregator's roster, from 0; required.",
        ),
        SOURCE,
        FEED,
        flag(
            "control",
            "ADDRESS:PORT",
            "127.0.0.1:8000",
            "The aggregator's control channel.",
        ),
        flag(
            "data",
            "ADDRESS:PORT",
            "127.0.0.1:8080",
            "The aggregator's data channel.",
        ),
        SAMPLE_RULE,
        CA_FILE,
        PROXY,
        ENDPOINT,
        flag(
            "key",
            "FILE",
            "",
            "Sign with this key, made by 'rsoracle keygen', instead of a fresh one.",
        ),
        MAX_AGE,
        MAX_SILENCE,
        PING_EVERY,
        CONNECTION_AGE,
        flag(
            "stay",
            "",
            "",
            "Wait for as long as the exchange turns this address away, instead of ending.",
        ),
    ],
};

/// `rsoracle exchange`
pub static EXCHANGE: Command = Command {
    name: "exchange",
    job: "the embedded exchange: speaks as each exchange that can be watched does, from recorded trades",
    notes: "Binance's WS-API is at /ws-api/v3, the streams at /binance-stream, /coinbase, /kraken, /bitstamp, /bitfinex, /okx\n\
            and /bybit. There the tape's base is sold for USD, USDC and USDT.\n\
            Faults: [DIALECT/]NAME[:VALUE][@K|@K..]; DIALECT/: only there, as in kraken/drop; @K: only a connection's K-th\n\
            request, or in a stream its K-th price, @K..: from the K-th on, neither: every one.\n\
            \x20 drop            close the connection instead of answering\n\
            \x20 hang            never say anything on this connection again, not even pongs\n\
            \x20 mute            streams: never say a price on this connection again, but all else\n\
            \x20 garbage         answer with text that is not JSON\n\
            \x20 wrong-id        answer with another id; not in streams\n\
            \x20 wrong-symbol    answer with another symbol\n\
            \x20 price:TEXT      answer with this text as the price (NaN, 0, -1, 1e400, nothing, abc)\n\
            \x20 scale:FACTOR    answer with the price times this factor: a lie\n\
            \x20 stale:DURATION  streams: tell times that lie so far back\n\
            \x20 old-first:DURATION\n\
            \x20                 streams: the same of the first price only, as of an old snapshot\n\
            \x20 large           answer with a message of 20 MB\n\
            \x20 reconnect       announce the end of the connection as this exchange does, if it does, and end it a second later\n\
            \x20 maintenance     streams: announce maintenance and give no prices (kraken, bitfinex), or close\n\
            \x20 status:429:DURATION, status:418:DURATION\n\
            \x20                 answer with this error, 'retryAfter' that far ahead; not in streams\n\
            \x20 upgrade:CODE, upgrade:CODE:SECONDS\n\
            \x20                 refuse the websocket upgrade with this HTTP status (451, 403, 418, 429, 503), 'Retry-After' so long\n\
            \x20 ping            send a ping with a payload before answering, and answer only once it was echoed\n\
            \x20 slow:DURATION   answer this much later",
    example: "rsoracle exchange --listen 127.0.0.1:9443 --fault garbage@3",
    operands: "",
    flags: &[
        flag(
            "listen",
            "ADDRESS:PORT",
            "127.0.0.1:9443",
            "Where to listen; port 0 takes a free one.",
        ),
        flag(
            "tape",
            "FILE",
            "",
            "Replay this price tape instead of the built-in one.",
        ),
        flag("speed", "FACTOR", "1", "How fast the tape runs."),
        flag(
            "keep-alive",
            "DURATION",
            "",
            "Instead of the exchanges' own periods: heartbeats and pings so often, idle clients closed after three times that.",
        ),
        flag(
            "rate",
            "N",
            "",
            "Streams tell the tape's price N times a second, not only when it changes.",
        ),
        list("fault", "FAULT", "", "Misbehave on request; see above."),
        flag(
            "cert",
            "FILE",
            "",
            "Certificate chain (PEM): speak TLS. Needs --key.",
        ),
        flag(
            "key",
            "FILE",
            "",
            "Private key of the certificate (PEM, PKCS #8).",
        ),
        flag(
            "clock-offset",
            "DURATION",
            "0ms",
            "How far its clock is ahead of this machine's; -3s is behind.",
        ),
        flag(
            "poll",
            "DURATION",
            "2ms",
            "Longest nap between two looks at the connections; 0ms never naps.",
        ),
        flag(
            "until-eof",
            "",
            "",
            "End when standard input, a socket, is closed: for a parent that may die.",
        ),
    ],
};

/// `rsoracle keygen`
pub static KEYGEN: Command = Command {
    name: "keygen",
    job: "makes a secret key in a new file that only you can read, and prints its public key",
    notes: "It overwrites nothing. Whoever has the file can sign in its owner's name: keep it where only the process that signs\n\
            runs. Others get the public key, in a roster file.",
    example: "rsoracle keygen aggregator.key",
    operands: "FILE",
    flags: &[],
};

/// `rsoracle keys`
pub static KEYS: Command = Command {
    name: "keys",
    job: "prints the public keys of key files, a line each",
    notes: "",
    example: "rsoracle keys keys/slot-0.key keys/slot-1.key",
    operands: "FILE…",
    flags: &[],
};

/// `rsoracle resolve`
pub static RESOLVE: Command = Command {
    name: "resolve",
    job: "asks the system for the addresses of a name; collectors start it, since asking cannot be cut short",
    notes: "",
    example: "rsoracle resolve ws-api.binance.com:443",
    operands: "HOST:PORT",
    flags: &[],
};

/// `rsoracle manual`
pub static MANUAL: Command = Command {
    name: "manual",
    job: "writes manual pages and shell completions (bash, zsh, fish) into a directory, as they lie under /usr/share",
    notes: "What is there already is replaced.",
    example: "rsoracle manual /usr/local/share",
    operands: "DIR",
    flags: &[],
};

/// All commands that take flags or operands, in the order of the help text.
pub static COMMANDS: [&Command; 10] = [
    &RUN, &VERIFY, &HISTORY, &DOCTOR, &COLLECT, &EXCHANGE, &KEYGEN, &KEYS, &RESOLVE, &MANUAL,
];
