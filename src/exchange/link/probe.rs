//! What `doctor` asks of a connection: the exchange's certificate, and how long a ping takes.

use super::{Ended, Link};
use crate::system::channel::Channel;
use std::time::Instant;
use tungstenite::Message;

impl Link {
    /// The exchange's certificate in DER; `None` without TLS.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Channel::Tls(tls) = self.ws.get_ref() else {
            return None;
        };
        tls.peer_certificate().ok()??.to_der().ok()
    }

    /// Sends a ping frame. After its pong was read, [`Link::ponged_at`] says when.
    pub fn ping(&mut self) -> Result<(), Ended> {
        self.ponged_at = None;
        self.ws.get_mut().inner().shut();
        let ping = Message::Ping(b"rsoracle"[..].into());
        self.ws.send(ping).map_err(super::ended)?;
        self.fire()
    }

    /// When the pong to the last ping was read; `None` before that.
    pub(crate) fn ponged_at(&self) -> Option<Instant> {
        self.ponged_at
    }
}
