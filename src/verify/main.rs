//! The `rsoracle-verify` program: verifies reports, and does nothing else.

use rsoracle_verify::error::{EXIT_UNREADABLE, EXIT_USAGE};
use rsoracle_verify::{Settings, log, print, run};
use std::collections::BTreeMap;
use std::process::ExitCode;

const HELP: &str = "\
rsoracle-verify FILE…: verifies reports offline: their form, signatures and prices, and who signed them

Flags:
  --roster FILE              The roster that you trust: feed, rules, schedule, keys and sources. May be repeated: each further
                             one must be endorsed by the collectors of the one before it, and counts from its time on.
  --head SIGNATURE           Signature of a report that you know to be the newest of its feed, in 128 hexadecimal digits:
                             detects a truncated journal. May be repeated.
  --max-age DURATION         Refuse a file in which the last price of any feed is older than this.
  --published                The files hold published reports only, as 'run --every … --json' prints them: numbers may skip.
  --json                     Print one JSON object per file, and one about the pool, instead of sentences.
  --help, --version

'-' is standard input.
If the files are of several aggregators, the reports of each round are pooled: it says where they differ and why, and the
price that all answers give. A collector that gave them different answers lied. The proof is printed, and the exit code is 1.
Exit codes, and which one counts for several files: 1 invalid, 4 a file cannot be read, 3 no report in it yet, 6 last price
older than --max-age, 5 consistent, but signers unknown, 0 valid and signed by the roster's collectors. 2 is wrong usage.
";

/// What the command line asks for.
enum Job {
    Check(Settings),
    Text(String),
}

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.into_string());
    let words: Result<Vec<String>, _> = words.collect();
    let words = words.map_err(|_| "an argument is not valid UTF-8".to_owned());
    ExitCode::from(match words.and_then(|words| read(&words)) {
        Ok(Job::Check(settings)) => run(&settings).unwrap_or_else(|error| {
            log::say("verify", error);
            EXIT_UNREADABLE
        }),
        Ok(Job::Text(text)) => u8::from(!print("rsoracle-verify", &text)),
        Err(sentence) => {
            log::say("rsoracle-verify", sentence);
            EXIT_USAGE
        }
    })
}

/// Parses the command line.
fn read(words: &[String]) -> Result<Job, String> {
    let (mut files, mut given) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (word, None),
        };
        let value = match name {
            "--help" | "-h" => return Ok(Job::Text(HELP.to_owned())),
            "--version" | "-V" => {
                let version = env!("CARGO_PKG_VERSION");
                return Ok(Job::Text(format!("rsoracle-verify {version}\n")));
            }
            "--published" | "--json" if inline.is_some() => {
                return Err(format!("{name} takes no value"));
            }
            "--published" | "--json" => Some(""),
            "--roster" | "--head" | "--max-age" => inline.or_else(|| rest.next()),
            flag if flag != "-" && (flag.starts_with('-') || flag.is_empty()) => {
                return Err(format!("'{flag}' is not a flag; --help lists the flags"));
            }
            _ => {
                files.push(word.to_owned());
                continue;
            }
        };
        let values = given.entry(name).or_default();
        values.push(value.ok_or_else(|| format!("{name} lacks its value"))?);
        if !matches!(name, "--head" | "--roster") && values.len() > 1 {
            return Err(format!("{name} is given twice; give it once"));
        }
    }
    if files.is_empty() {
        return Err("FILE… is missing: rsoracle-verify FILE…".to_owned());
    }
    let mut all = |name| given.remove(name).unwrap_or_default();
    let switches = ["--published", "--json"].map(|name| !all(name).is_empty());
    let [rosters, heads] = ["--roster", "--head"].map(&mut all);
    Settings::new(files, rosters, heads, all("--max-age").pop(), switches).map(Job::Check)
}
