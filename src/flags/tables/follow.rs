//! The table of the command that takes reports from several sources.

use super::relay::{CREDS, NKEY};
use super::{CA_FILE, flag, list};
use crate::flags::args::Command;

/// `rsoracle follow`
pub static FOLLOW: Command = Command {
    name: "follow",
    job: "takes reports from several servers, NATS streams and files, verifies each against the roster, and prints the price of each round",
    notes: "A SOURCE is a server such as 'rsoracle serve' (http://HOST:PORT, https://HOST), a stream of NATS JetStream \
            (nats://HOST:PORT/STREAM, or tls:// for TLS in any case; without a name, RSORACLE) or a journal, which may grow. The reports of a round from several sources are pooled: the price is what all their answers give. A source that is late, \
            down or lies is named on standard error, and costs the others nothing. What was printed is never revised.\n\
            It begins with the newest report of each source or, with --journal, after the last one in its journal, and runs until \
            standard output is closed.\n\
            Exit codes with --once: 0 every feed has a fresh price, 3 one has none, or only a stale one, 1 a collector lied, or \
            nothing could be verified because of an error, 2 usage.",
    example: "rsoracle follow https://a.example http://10.0.0.2:8090 --roster roster.toml",
    operands: "SOURCE…",
    groups: &[],
    flags: &[
        list(
            "roster",
            "FILE",
            "",
            "The roster that you trust, from a channel that you trust. Required. Each further roster must be endorsed by the collectors of the one before it; the feeds and the schedule are those of the last.",
        ),
        list(
            "feed",
            "NAME",
            "",
            "Follow this feed only, such as BTC/USD; lists have commas. Without it, all feeds of the roster.",
        ),
        flag(
            "journal",
            "FILE",
            "",
            "Keep every report as it was received, for 'rsoracle verify'. Of several sources, each has a file FILE.SOURCE. Where reports are missing, a new file begins (FILE.part2). Proofs of lies go to FILE.proofs; with --once nothing else is written.",
        ),
        flag(
            "max-age",
            "DURATION",
            "",
            "A price older than this is marked as stale, and named on standard error. With --once the default is a round's length and two periods, and five seconds more.",
        ),
        flag("json", "", "", "Print JSON, one object a line."),
        flag(
            "once",
            "",
            "",
            "Print the newest price of each feed and end, with an exit code for scripts.",
        ),
        CA_FILE,
        CREDS,
        NKEY,
        flag(
            "proxy",
            "URL",
            "",
            "Connect to https servers through this HTTP proxy. It overrides HTTPS_PROXY and NO_PROXY. Other users can read command lines: put a URL with a password (http://USER:PASSWORD@HOST:PORT) into HTTPS_PROXY instead.",
        ),
    ],
};
