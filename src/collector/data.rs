//! A collector's data channel: a preamble that names the collector's key, then one observation per round.
//!
//! Invariant: the aggregator never sends on this channel, so anything that can be read means that it ended. A channel
//! that ended is opened again for the next observation.

use super::control::reach;
use super::settings::Collect;
use crate::keys::secret::SecretKey;
use crate::system::inbox::waits;
use crate::system::limits::{CONNECT_SLICE_MS, HANDSHAKE_MS_MAX};
use crate::system::net::Look;
use crate::wire::Preamble;
use rsoracle_proof::record::Observation;
use rsoracle_verify::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The data channel of one collector.
pub struct DataChannel {
    address: SocketAddr,
    preamble: [u8; Preamble::BYTES],
    tcp: TcpStream,
}

impl DataChannel {
    /// Connects, and sends the preamble that names this collector's key.
    pub fn open(config: &Collect, key: &SecretKey, look: Look) -> Result<DataChannel, Error> {
        let preamble = Preamble {
            slot: config.slot,
            key: *key.public().bytes(),
        };
        let (address, preamble) = (config.data, preamble.encode());
        Ok(DataChannel {
            address,
            preamble,
            tcp: connect(address, &preamble, look)?,
        })
    }

    /// Sends an observation; reconnects first if the connection has ended.
    pub fn send(&mut self, bytes: &[u8; Observation::BYTES], look: Look) -> Result<(), Error> {
        if self.stands() && self.tcp.write_all(bytes).is_ok() {
            return Ok(());
        }
        self.tcp = connect(self.address, &self.preamble, look)?;
        self.tcp
            .write_all(bytes)
            .map_err(|error| Error::new("cannot send the observation", error))
    }

    /// Whether the connection is still open.
    pub(super) fn stands(&self) -> bool {
        let ended = self.tcp.set_nonblocking(true).is_err()
            || !self.tcp.peek(&mut [0]).is_err_and(|error| waits(&error));
        !ended && self.tcp.set_nonblocking(false).is_ok()
    }
}

fn connect(address: SocketAddr, preamble: &[u8], look: Look) -> Result<TcpStream, Error> {
    let attempt = format!("cannot open the data channel to {address}");
    let failed =
        |error| Error::new(&attempt, error).advise("check --data, and that the aggregator runs");
    let until = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
    let look = || look().map_err(std::io::Error::other);
    let mut tcp = reach(&address, until, look).map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let slice = Duration::from_millis(CONNECT_SLICE_MS);
    tcp.set_write_timeout(Some(slice)).map_err(failed)?;
    tcp.write_all(preamble).map_err(failed)?;
    Ok(tcp)
}
