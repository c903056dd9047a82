//! `rsoracle verify`: verifies reports from files or standard input, offline, and says what was checked and what was not.
//!
//! Several files are read in step, by the starts of their rounds, so that the reports of one round can be pooled.
//!
//! Invariant: memory is bounded by the longest lines of each file, not by its length or its number of feeds. Whom to trust comes
//! only from the roster file; without one, the verdict says that the signers are unknown. No file is changed, and the network is
//! not used.

use crate::error::{
    EXIT_FAILURE, EXIT_NO_PRICE, EXIT_OK, EXIT_STALE, EXIT_UNKNOWN_SIGNERS, EXIT_UNREADABLE, Error,
};
use crate::files;
use crate::inspection::{Inspection, Verdict, print};
use crate::log::say;
use crate::pool::Comparison;
use crate::processes::share;
use crate::settings::Settings;
use rsoracle_proof::limits::TOML_BYTES_MAX;
use rsoracle_proof::roster::RosterFile;
use rsoracle_proof::succession::Succession;

/// Most files that are read in step, and compared. If there are more, they are read one after the other.
const FILES_MAX: usize = 32;

/// Verifies all files; returns the exit code. Long files are shared with processes of this same program.
pub fn run(config: &Settings) -> Result<u8, Error> {
    if share()? {
        // A process that shares the work has no verdict.
        return Ok(EXIT_FAILURE);
    }
    let rosters = match succession(&config.rosters) {
        Ok(rosters) => rosters,
        Err((code, error)) => {
            say("verify", error);
            return Ok(code);
        }
    };
    let (mut worst, mut all_read) = (Verdict::Trusted, true);
    let many = config.files.len() > FILES_MAX;
    if many {
        say(
            "verify",
            format!("more than {FILES_MAX} files are not compared with each other"),
        );
    }
    for paths in config.files.chunks(if many { 1 } else { FILES_MAX }) {
        let open = |path| Inspection::open(config, rosters.as_ref(), path, paths.len());
        // An unreadable file does not prevent the others from being verified.
        let told = |path| open(path).map_err(|error| say("verify", error)).ok();
        let mut files: Vec<Inspection> = paths.iter().filter_map(|path| told(path)).collect();
        let comparison = compare(&mut files);
        all_read &= files.len() == paths.len() && files.iter().all(|file| !file.failed);
        let is_pooled = files.len() > 1;
        for file in files.iter_mut().filter(|file| !file.failed) {
            worst = worst.max(file.verdict(is_pooled));
        }
        let text = comparison.text(config.json);
        if !text.is_empty() && !print("verify", &text) || comparison.has_lies() {
            worst = Verdict::Invalid;
        }
    }
    Ok(match worst {
        Verdict::Invalid => EXIT_FAILURE,
        _ if !all_read => EXIT_UNREADABLE,
        Verdict::Empty => EXIT_NO_PRICE,
        Verdict::Stale => EXIT_STALE,
        Verdict::SignersUnknown => EXIT_UNKNOWN_SIGNERS,
        Verdict::Trusted => EXIT_OK,
    })
}

/// Reads all files, in step by the starts of their rounds, and compares their reports.
fn compare<'a>(files: &mut [Inspection<'a>]) -> Comparison<'a> {
    let mut comparison = Comparison::new(files.iter().map(|file| file.name).collect());
    files.iter_mut().for_each(Inspection::advance);
    while let Some(start_us) = files.iter().filter_map(Inspection::start_us).min() {
        if files.len() > 1 {
            let mut reports = Vec::new();
            for (at, file) in files.iter().enumerate() {
                reports.extend(file.reports_of(start_us).map(|one| (at, one)));
            }
            comparison.take(reports);
        }
        let there = files
            .iter_mut()
            .filter(|file| file.start_us() == Some(start_us));
        there.for_each(Inspection::advance);
    }
    comparison.disordered = files.iter().map(|file| file.disordered).collect();
    comparison
}

/// The roster of the first file, which is trusted, and those of all others, each of which must follow the one before it; `None` if
/// there are no files. An error has the exit code of `verify`.
pub fn succession(paths: &[String]) -> Result<Option<Succession>, (u8, Error)> {
    let unreadable = |error| (EXIT_UNREADABLE, error);
    let Some((first, others)) = paths.split_first() else {
        return Ok(None);
    };
    let first = read_roster(first).map_err(unreadable)?;
    let mut rosters = Succession::new(first.roster, first.from_us.unwrap_or(0));
    for path in others {
        let next = read_roster(path).map_err(unreadable)?;
        rosters.follow(next).map_err(|why| {
            let attempt = format!("cannot follow the roster {path}");
            (EXIT_FAILURE, Error::new(attempt, why))
        })?;
    }
    Ok(Some(rosters))
}

fn read_roster(path: &str) -> Result<RosterFile, Error> {
    let attempt = format!("cannot use the roster {path}");
    let advice = "--roster takes a roster file, such as 'rsoracle run --write-roster FILE' writes";
    let bytes =
        files::read(path, TOML_BYTES_MAX as u64, &attempt).map_err(|error| error.advise(advice))?;
    let wrong = |why: &str| Error::new(&attempt, why).advise(advice);
    if let Some(why) = files::no_roster(&bytes) {
        return Err(wrong(why));
    }
    let text = files::text(bytes).map_err(wrong)?;
    RosterFile::parse(&text).map_err(|wrong| Error::new(&attempt, wrong).advise(advice))
}
