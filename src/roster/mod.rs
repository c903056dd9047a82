//! Rosters between people (`rsoracle roster`): makes drafts, signs seats, assembles rosters, checks and shows them. The
//! aggregator uses only `text` of this room, to write its own roster.
//!
//! Invariant: whoever assembles a roster cannot change a signed seat: its signature would no longer be valid. Which feeds there are
//! and in which order is their word, so a check shows the holder of a key the source of each feed. What is written here is only what the proof crate's own parser reads. Secret keys are read to sign a seat or to find the slot of a key, and
//! are never written.
//!
//! Uses: collector, exchange, flags, keys, proof, source, system, verify. Used by: aggregator, cli, main.

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
use check::{Read, examine, read};
use page::{digests, show};
use rsoracle_proof::seal::PublicKey;
use rsoracle_proof::toml::Wrong;
use rsoracle_verify::error::{EXIT_FAILURE, Error};
use rsoracle_verify::files;
use rsoracle_verify::log::printable;
use rsoracle_verify::print;
use settings::{Action, RosterSettings};

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
        } => {
            let read_seat = |path: &String| {
                let attempt = format!("cannot use the seat {path}");
                let seat = seat::parse(&file_text(path, &attempt)?);
                Ok((
                    path.clone(),
                    seat.map_err(|wrong| Error::new(attempt, wrong))?,
                ))
            };
            let seats = seats
                .iter()
                .map(read_seat)
                .collect::<Result<Vec<_>, Error>>()?;
            let attempt = format!("cannot assemble a roster from the draft {draft}");
            let text = file_text(draft, &attempt)?;
            let text = seat::assemble(&text, &seats, *number, *previous);
            text.map_err(|why| Error::new(attempt, why))?
        }
        Action::Check {
            path,
            key,
            accepted,
        } => {
            let own = key.as_deref().map(key_of).transpose()?;
            let text = file_text(path, &format!("cannot check the roster {path}"))?;
            let (page, verdict, sound) = examine(&text, own.as_ref(), accepted, wall_us());
            let page = format!("{page}{}: {verdict}\n", printable(path));
            let code = if sound { 0 } else { EXIT_FAILURE };
            return Ok(code.max(u8::from(!print(ROLE, &page))));
        }
        Action::Show { path } => {
            let read = load(path)?;
            show(&read.roster, &read.signed(), wall_us())
        }
    };
    let Some(path) = &settings.out else {
        return Ok(u8::from(!print(ROLE, &text)));
    };
    file::replace(path, &text)?;
    let told = match read(&text) {
        Ok(read) => digests(&read.roster),
        // A draft or a seat.
        Err(_) => String::new(),
    };
    Ok(u8::from(!print(ROLE, &told)))
}

/// The text of a small file.
fn file_text(path: &str, attempt: &str) -> Result<String, Error> {
    let bytes = files::read(path, TOML_BYTES_MAX as u64, attempt)?;
    files::text(bytes).map_err(|why| Error::new(attempt, why))
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
