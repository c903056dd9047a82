//! The `rsoracle` program: runs the command that the command line names, and ends with its exit code.

use rsoracle::cli::{self, manual};
use rsoracle::collector::settings::Engagement;
use rsoracle::flags::args::{self, Given, Usage};
use rsoracle::flags::tables::{
    AGGREGATE, COLLECT, COMMANDS, DOCTOR, EXCHANGE, FOLLOW, HISTORY, JOURNAL_COMMAND, KEYGEN, KEYS,
    MANUAL, RELAY, RESOLVE, ROSTER, RUN, SERVE, VERIFY,
};
use rsoracle::flags::values;
use rsoracle::system::limits::TOML_BYTES_MAX;
use rsoracle::system::now::wall_us;
use rsoracle::system::{directory, file, resolve, screen, stream};
use rsoracle::{
    aggregator, collector, doctor, embedded, follow, history, keys, relay, roster, serve,
};
use rsoracle_proof::schedule::Tenure;
use rsoracle_proof::succession::Succession;
use rsoracle_proof::terms::Roster;
use rsoracle_verify::error::{EXIT_FAILURE, EXIT_UNREADABLE, EXIT_USAGE, Error};
use rsoracle_verify::files;
use std::process::ExitCode;

/// Why a command failed.
enum Failure {
    Usage(Usage),
    Error(String, Error),
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Failure {
        Failure::Usage(usage)
    }
}

fn main() -> ExitCode {
    keep_memory_out_of_core_dumps();
    let words: Option<Vec<String>> = std::env::args_os()
        .skip(1)
        .map(|word| word.into_string().ok())
        .collect();
    let done = match words {
        Some(words) => dispatch(&words),
        None => Err(Usage("an argument is not valid UTF-8".to_owned()).into()),
    };
    ExitCode::from(match done {
        Ok(code) => code,
        Err(Failure::Usage(usage)) => {
            stream::say("rsoracle", usage);
            EXIT_USAGE
        }
        Err(Failure::Error(role, error)) => {
            stream::say(&role, error);
            EXIT_FAILURE
        }
    })
}

/// Keeps all memory of this process and its children out of core dumps, which would write keys to disk (core(5)). Without /proc
/// this does nothing; a limit on core files (`ulimit -c 0`) does the same.
fn keep_memory_out_of_core_dumps() {
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
}

fn dispatch(words: &[String]) -> Result<u8, Failure> {
    let Some((command, rest)) = words.split_first() else {
        return Err(Usage("which command? 'rsoracle help' lists them".to_owned()).into());
    };
    let wants_help = rest.iter().any(|word| word == "--help" || word == "-h");
    match command.as_str() {
        name if wants_help && COMMANDS.iter().any(|command| command.name == name) => {
            show("help", &help_page(Some(command))?)
        }
        "run" => run(rest),
        "aggregate" => aggregate(rest),
        "collect" => collect(rest),
        "roster" if rest.is_empty() => Err(Usage(roster::settings::which_action()).into()),
        "roster" => {
            let given = args::parse(&ROSTER, rest)?;
            let settings = roster::settings::RosterSettings::from_flags(&given, wall_us())?;
            roster::run(&settings).map_err(|error| Failure::Error("roster".to_owned(), error))
        }
        "exchange" => {
            let settings = embedded::ExchangeSettings::from_flags(&args::parse(&EXCHANGE, rest)?)?;
            embedded::run(&settings)
                .map(|()| 0)
                .map_err(|error| Failure::Error("exchange".to_owned(), error))
        }
        "follow" => follow(rest),
        "verify" => {
            let settings = cli::verify::read(&args::parse(&VERIFY, rest)?)?;
            rsoracle_verify::run(&settings).or_else(|error| {
                stream::say("verify", error);
                Ok(EXIT_UNREADABLE)
            })
        }
        "history" => {
            let settings = history::HistorySettings::from_flags(&args::parse(&HISTORY, rest)?)?;
            history::run(&settings).or_else(|error| {
                stream::say("history", error);
                Ok(EXIT_UNREADABLE)
            })
        }
        "journal" => {
            let given = args::parse(&JOURNAL_COMMAND, rest)?;
            show_or_fail("journal", cli::rotate::rotate(cli::rotate::read(&given)?))
        }
        "serve" => serve(rest),
        "relay" => relay(rest),
        "doctor" => {
            let settings = doctor::DoctorSettings::from_flags(&args::parse(&DOCTOR, rest)?)?;
            doctor::run(&settings).map_err(|error| Failure::Error("doctor".to_owned(), error))
        }
        "keygen" => {
            let given = args::parse(&KEYGEN, rest)?;
            show_or_fail("keygen", keys::keygen(&given.operands()[0]))
        }
        "keys" => {
            let given = args::parse(&KEYS, rest)?;
            show_or_fail("keys", keys::keys(given.operands()))
        }
        "resolve" => resolve(rest),
        "manual" => {
            let given = args::parse(&MANUAL, rest)?;
            show_or_fail("manual", write_manual(&given.operands()[0]))
        }
        "help" | "--help" | "-h" => show("help", &help_page(rest.first())?),
        "--version" | "-V" => show("rsoracle", &version()),
        other => Err(Usage(format!(
            "unknown command '{other}'; 'rsoracle help' lists the commands"
        ))
        .into()),
    }
}

fn run(words: &[String]) -> Result<u8, Failure> {
    let failed = |error| Failure::Error("aggregator".to_owned(), error);
    let mut given = args::parse(&RUN, words)?;
    if let Some(path) = values::path(&given, "config")? {
        // A missing file is wrong usage, which a supervisor should not try again.
        let attempt = format!("cannot read the configuration {path}");
        let advice = "--config names a file such as docs/oracle.toml, or the output of 'rsoracle run --check'";
        let text = read_file(&path, &attempt, advice);
        let text = text.map_err(|error| Usage(error.to_string()))?;
        cli::file::read(&mut given, &path, &text)?;
    }
    let configuration = cli::run::read(&given)?;
    if given.has("check") {
        return show("run", &cli::file::render(&given, &configuration));
    }
    cli::way::check(&configuration).map_err(failed)?;
    aggregator::run(std::slice::from_ref(&configuration.run)).map_err(failed)
}

fn aggregate(words: &[String]) -> Result<u8, Failure> {
    let given = args::parse(&AGGREGATE, words)?;
    let (mut runs, mut paths) = (Vec::new(), Vec::new());
    for it in engagements(&given)? {
        let (is_over, path) = (!counts(&it), it.path.clone());
        match cli::run::aggregate(&given, it) {
            // One that is over may count after all, if this machine's clock is wrong. It refuses nothing.
            run if is_over && (given.has("check") || run.is_err()) => {}
            run => {
                runs.push(run?);
                paths.push(path);
            }
        }
    }
    let failed = |error| Failure::Error("aggregator".to_owned(), error);
    if given.has("check") {
        return show_or_fail("aggregator", cli::gather::gather(&runs, &paths));
    }
    aggregator::run(&runs).map_err(failed)
}

fn collect(words: &[String]) -> Result<u8, Failure> {
    let given = args::parse(&COLLECT, words)?;
    let mut engagements = match cli::collect::is_by_hand(&given)? {
        true => engagements(&given)?,
        false => Vec::new(),
    };
    if given.all("roster").count() > 1
        && let Some(path) = values::path(&given, "key")?
        && let Ok(key) = keys::file::read(&path)
        && !engagements
            .iter()
            .any(|it| counts(it) && it.roster.slot_of(&key.public()).is_some())
    {
        // A supervisor should not try again.
        let sentence = format!(
            "no roster that counts has a slot for the key of {path}: nothing is left to sign"
        );
        return Err(Usage(sentence).into());
    }
    if given.has("check") {
        engagements.retain(counts);
    }
    let config = cli::collect::read(&given, engagements)?;
    let role = config.role();
    if given.has("check") {
        return show_or_fail(&role, roster::charge(&config));
    }
    let done = collector::run(&config).map(|()| 0);
    done.map_err(|error| Failure::Error(role, error))
}

fn serve(words: &[String]) -> Result<u8, Failure> {
    let settings = serve::ServeSettings::from_flags(&args::parse(&SERVE, words)?)?;
    settings.check_roster()?;
    let done = serve::run(&settings).map(|()| 0);
    done.map_err(|error| Failure::Error("serve".to_owned(), error))
}

fn relay(words: &[String]) -> Result<u8, Failure> {
    let settings = relay::RelaySettings::from_flags(&args::parse(&RELAY, words)?)?;
    let done = relay::run(&settings).map(|()| 0);
    done.map_err(|error| Failure::Error("relay".to_owned(), error))
}

fn resolve(words: &[String]) -> Result<u8, Failure> {
    let given = args::parse(&RESOLVE, words)?;
    let (text, error) = resolve::answer(&given.operands()[0]);
    let code = show("resolve", &text)?;
    error.map_or(Ok(code), |error| {
        Err(Failure::Error("resolve".to_owned(), error))
    })
}

fn follow(words: &[String]) -> Result<u8, Failure> {
    let given = args::parse(&FOLLOW, words)?;
    let settings = follow::FollowSettings::from_flags(&given, rosters_in(&given)?)?;
    follow::run(&settings).map_err(|error| Failure::Error("follow".to_owned(), error))
}

/// The rosters in the files of `--roster`, each of which follows the one before it.
fn rosters_in(given: &Given) -> Result<Succession, Usage> {
    given.required("roster")?;
    let paths: Vec<String> = given.all("roster").map(str::to_owned).collect();
    // As with a configuration: wrong usage, which a supervisor should not try again.
    let wrong = |(_, error): (u8, Error)| Usage(error.to_string());
    let rosters = rsoracle_verify::succession(&paths).map_err(wrong)?;
    Ok(rosters.expect("a file was given"))
}

/// The rosters of `--roster` with their files.
fn engagements(given: &Given) -> Result<Vec<Engagement>, Usage> {
    let rosters = rosters_in(given)?;
    let all = given.all("roster").zip(rosters.all());
    let engagement = |(path, (roster, tenure)): (&str, (&Roster, Tenure))| Engagement {
        path: path.to_owned(),
        roster: roster.clone(),
        tenure,
    };
    Ok(all.map(engagement).collect())
}

/// Whether a roster counts or will count.
fn counts(it: &Engagement) -> bool {
    it.tenure.until_us.is_none_or(|us| wall_us() < us)
}

/// The text of a configuration file.
fn read_file(path: &str, attempt: &str, advice: &str) -> Result<String, Error> {
    let bytes = files::read(path, TOML_BYTES_MAX as u64, attempt);
    let text = files::text(bytes.map_err(|error| error.advise(advice))?);
    text.map_err(|why| Error::new(attempt, why).advise(advice))
}

/// Writes manual pages and completions into `dir`; returns their paths, one per line.
fn write_manual(dir: &str) -> Result<String, Error> {
    let mut paths = String::new();
    for (place, text) in manual::files() {
        let path = format!("{dir}/{place}");
        directory::make_for(&path)?;
        file::replace(&path, &text)?;
        paths.push_str(&format!("{path}\n"));
    }
    Ok(paths)
}

/// Version, commit and target. The build passes the commit (.ci/commit); without it the commit is unknown.
fn version() -> String {
    let commit = option_env!("RSORACLE_COMMIT").filter(|commit| !commit.is_empty());
    let libc = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    format!(
        "rsoracle {} ({}, {}-{}-{libc})\n",
        env!("CARGO_PKG_VERSION"),
        commit.unwrap_or("unknown commit"),
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
}

fn help_page(topic: Option<&String>) -> Result<String, Usage> {
    let columns = screen::columns();
    let Some(topic) = topic else {
        let mut page = String::from("rsoracle: a distributed price oracle\n\nCommands:\n");
        let others = [
            ("help [COMMAND]", "every flag with its unit and default"),
            ("--version", "version, commit and target"),
        ];
        let commands = COMMANDS.map(|command| (args::call(command), command.job));
        let others = others.map(|(call, job)| (call.to_owned(), job));
        for (call, job) in commands.into_iter().chain(others) {
            let mut first = format!("  rsoracle {call:<18}");
            if first.chars().count() > 29 {
                page.push_str(&format!("{first}\n"));
                first = " ".repeat(29);
            }
            page.push_str(&args::wrapped(&first, 30, job, columns));
        }
        page.push_str("\nExample:\n  rsoracle run --source embedded:BTCUSDT\n");
        return Ok(page);
    };
    let command = COMMANDS.into_iter().find(|command| command.name == topic);
    let page = command.map(|command| args::help(command, columns));
    page.ok_or_else(|| {
        Usage(format!(
            "unknown command '{topic}'; 'rsoracle help' lists the commands"
        ))
    })
}

/// Prints a command's result, or passes on its error with the command's name.
fn show_or_fail(role: &str, done: Result<String, Error>) -> Result<u8, Failure> {
    let text = done.map_err(|error| Failure::Error(role.to_owned(), error))?;
    show(role, &text)
}

/// Prints to standard output. Returns the exit code.
fn show(role: &str, text: &str) -> Result<u8, Failure> {
    Ok(u8::from(!rsoracle_verify::print(role, text)))
}
