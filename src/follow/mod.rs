//! `rsoracle follow`: takes reports from several servers, NATS streams and files, verifies every one against the roster, and prints the price
//! that all reports of a round give.
//!
//! Invariant: one thread and no key. A source can be late, silent, down or lie, and costs nobody else anything: no report is
//! believed that does not pass every check against the roster, and what was printed is never revised. Memory is bounded by the
//! longest report that the roster allows, whatever sources send.
//! Uses: exchange, flags, nats, proof, system, verify. Used by: main.

mod access;
pub mod body;
mod book;
mod complaints;
pub mod events;
mod file;
mod follower;
mod intake;
pub mod limits;
mod nats;
mod output;
mod rounds;
mod server;
mod settings;
mod supply;

pub use settings::FollowSettings;

use crate::system::stream::say;
use follower::Follower;
use rsoracle_verify::error::Error;
use rsoracle_verify::segments::unlisted;
use settings::Place;

/// Follows the sources; with `--once`, until the newest prices are known. Returns the exit code.
pub fn run(settings: &FollowSettings) -> Result<u8, Error> {
    let mut follower = Follower::new(settings)?;
    for (_, place) in &settings.sources {
        if let Place::File(path) = place
            && let Some(note) = unlisted(path)
        {
            say("follow", note);
        }
    }
    follower.run()
}
