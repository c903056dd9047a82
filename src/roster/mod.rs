//! Rosters between people (`rsoracle roster`): makes drafts, signs seats, assembles rosters, checks and shows them. The
//! aggregator uses only `text` of this room, to write its own roster.
//!
//! Invariant: whoever assembles a roster cannot change a signed seat: its signature would no longer be valid. Which feeds there are
//! and in which order is their word, so a check shows the holder of a key the source of each feed. What is written here is only what the proof crate's own parser reads. Secret keys are read to sign a seat or to find the slot of a key, and
//! are never written.
//!
//! Uses: collector, exchange, flags, keys, proof, source, system, verify. Used by: aggregator, cli, main.

pub mod change;
mod check;
pub(crate) mod page;
mod seat;
pub mod settings;
pub mod text;

pub use check::charge;

use crate::keys::file as key_file;
use crate::system::file;
use crate::system::limits::TOML_BYTES_MAX;
use crate::system::now::wall_us;
use change::Step;
use check::{Read, examine, read};
use page::{digests, show};
use rsoracle_proof::roster::RosterFile;
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::toml::Wrong;
use rsoracle_verify::error::{EXIT_FAILURE, Error};
use rsoracle_verify::files;
use rsoracle_verify::log::printable;
use rsoracle_verify::print;
use settings::{Action, RosterSettings};
use std::path::Path;

/// The name of this command in messages.
const ROLE: &str = "roster";

/// Does what `rsoracle roster` was told. Returns the exit code.
pub fn run(settings: &RosterSettings) -> Result<u8, Error> {
    let text = match &settings.action {
        Action::New(roster) => text::render(roster),
        Action::Seat { key, sources } => seat::sign(&key_file::read(key)?, sources),
        Action::Assemble {
            draft,
            seats,
            number,
            previous,
        } => assemble(draft, seats, *number, *previous)?,
        Action::Change {
            rosters: [old, new],
            from_us,
            endorsements,
        } => {
            let (text, page) = change(old, new, *from_us, endorsements)?;
            return told(settings, &text, &page);
        }
        Action::Endorse {
            rosters: [old, new],
            key,
            state,
        } => {
            let (step, secret) = (step(old, new)?, key_file::read(key)?);
            let text = step.endorse(&secret, &places(key, state.as_deref()), wall_us())?;
            return told(settings, &text, &step.page().0);
        }
        Action::Check {
            path,
            after,
            key,
            accepted,
        } => {
            let own = key.as_deref().map(key_of).transpose()?;
            let text = file_text(path, &format!("cannot check the roster {path}"))?;
            let step = after.as_deref().map(|old| step(old, path)).transpose()?;
            let (page, verdict, sound) =
                examine(&text, step.as_ref(), own.as_ref(), accepted, wall_us());
            let page = format!("{page}{}: {verdict}\n", printable(path));
            let code = if sound { 0 } else { EXIT_FAILURE };
            return Ok(code.max(u8::from(!print(ROLE, &page))));
        }
        Action::Show { path } => {
            let read = load(path)?;
            read.tenure() + &show(&read.roster, &read.signed(), read.seen_us(wall_us()))
        }
    };
    let page = match read(&text) {
        Ok(read) => digests(&read.roster),
        // A draft or a seat.
        Err(_) => String::new(),
    };
    told(settings, &text, &page)
}

/// The roster of a draft and of seats, in these files.
fn assemble(
    draft: &str,
    seats: &[String],
    number: Option<u64>,
    previous: Option<[u8; 32]>,
) -> Result<String, Error> {
    let read_seat = |path: &String| {
        let attempt = format!("cannot use the seat {path}");
        let seat = seat::parse(&file_text(path, &attempt)?);
        let seat = seat.map_err(|wrong| Error::new(attempt, wrong))?;
        Ok((path.clone(), seat))
    };
    let seats = seats.iter().map(read_seat);
    let seats = seats.collect::<Result<Vec<_>, Error>>()?;
    let attempt = format!("cannot assemble a roster from the draft {draft}");
    let text = seat::assemble(&file_text(draft, &attempt)?, &seats, number, previous);
    text.map_err(|why| Error::new(attempt, why))
}

/// The file of the roster `new` with endorsements from files, and the change in words, with what it lacks.
fn change(
    old: &str,
    new: &str,
    from_us: Option<u64>,
    endorsements: &[String],
) -> Result<(String, String), Error> {
    let read_endorsement = |path: &String| {
        let attempt = format!("cannot use the endorsement {path}");
        let read = change::parse(&file_text(path, &attempt)?);
        let (change, endorsement) = read.map_err(|wrong| Error::new(attempt, wrong))?;
        Ok((path.clone(), change, endorsement))
    };
    let more = endorsements.iter().map(read_endorsement);
    let more = more.collect::<Result<Vec<_>, Error>>()?;
    let attempt = format!("cannot make a change to the roster {new}");
    let done = step(old, new)?.endorsed(&file_text(new, &attempt)?, from_us, more);
    let (text, step) = done.map_err(|why| Error::new(attempt, why))?;
    let (page, missing) = step.page();
    Ok((text, page + &change::lacking(&missing)))
}

/// The beginnings of the names of files that may keep which change a key endorsed: in the folder of state, and beside the key.
fn places(key: &str, state: Option<&str>) -> Vec<String> {
    let key = std::fs::canonicalize(key).unwrap_or_else(|_| key.into());
    let name = key.file_name().unwrap_or_default();
    let in_state = state.map(|dir| Path::new(dir).join(name));
    let all = in_state.iter().chain([&key]);
    all.map(|path| path.display().to_string()).collect()
}

/// Prints what was made. If it goes into a file, prints instead what is to be said about it. Returns the exit code.
fn told(settings: &RosterSettings, text: &str, page: &str) -> Result<u8, Error> {
    let Some(path) = &settings.out else {
        return Ok(u8::from(!print(ROLE, text)));
    };
    file::replace(path, text)?;
    Ok(u8::from(!print(ROLE, page)))
}

/// The change from one roster to another.
fn step(old: &str, new: &str) -> Result<Step, Error> {
    let file = |path: &str| {
        let attempt = format!("cannot use the roster {path}");
        let file = RosterFile::parse(&file_text(path, &attempt)?);
        file.map_err(|wrong| Error::new(attempt, wrong))
    };
    let step = Step::new(file(old)?, file(new)?);
    step.map_err(|why| Error::new(format!("cannot use the roster {new}"), why))
}

/// The text of a small file.
fn file_text(path: &str, attempt: &str) -> Result<String, Error> {
    let bytes = files::read(path, TOML_BYTES_MAX as u64, attempt)?;
    let wrong = |why: &str| Error::new(attempt, why);
    if let Some(why) = files::no_roster(&bytes) {
        return Err(wrong(why));
    }
    files::text(bytes).map_err(wrong)
}

/// The roster in a file.
fn load(path: &str) -> Result<Read, Error> {
    let attempt = format!("cannot use the roster {path}");
    let failed = |wrong: Wrong| Error::new(&attempt, wrong);
    read(&file_text(path, &attempt)?).map_err(failed)
}

/// The public key of a key file.
fn key_of(path: &str) -> Result<PublicKey, Error> {
    Ok(key_file::read(path)?.public())
}
