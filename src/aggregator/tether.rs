//! The aggregator's end of a tether: the socket pair whose other end is the standard input of a collector that it starts.
//!
//! Invariant: no call waits, and a child that does not read makes us hold two messages at most.

use crate::system::inbox::waits;
use rsoracle_proof::seal::PublicKey;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// Our end. The child ends when it is dropped.
pub struct Tether {
    near: UnixStream,
    /// The child's public key, as far as it has come.
    key: Vec<u8>,
    /// What is being sent, and how much of it was.
    sending: (Rc<Vec<u8>>, usize),
    /// The roster to send after that, as a message.
    next: Option<Rc<Vec<u8>>>,
}

impl Tether {
    /// Makes a tether, and returns the child's end too. The child will first get the aggregator's key.
    pub fn new(aggregator: &PublicKey) -> io::Result<(Tether, OwnedFd)> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        let tether = Tether {
            near,
            key: Vec::new(),
            sending: (Rc::new(aggregator.bytes().to_vec()), 0),
            next: None,
        };
        Ok((tether, far.into()))
    }

    /// The public key that the child shows: once, when it has arrived.
    pub fn shown(&mut self) -> Option<[u8; 32]> {
        let missing = 32 - self.key.len();
        if missing == 0 {
            return None;
        }
        let mut bytes = [0; 32];
        // That the child has ended is noticed elsewhere.
        let count = self.near.read(&mut bytes[..missing]).unwrap_or(0);
        self.key.extend_from_slice(&bytes[..count]);
        self.key.first_chunk().copied()
    }

    /// Hands down a roster. It replaces one that has not begun to be sent.
    pub fn hand(&mut self, message: &Rc<Vec<u8>>) {
        self.next = Some(message.clone());
        self.push();
    }

    /// Sends what the child takes now.
    pub fn push(&mut self) {
        loop {
            let (bytes, sent) = &mut self.sending;
            if *sent == bytes.len() {
                let Some(next) = self.next.take() else { return };
                self.sending = (next, 0);
                continue;
            }
            match self.near.write(&bytes[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if waits(&error) => return,
                // The child is gone.
                Err(_) => {
                    self.next = None;
                    *sent = bytes.len();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::secret::SecretKey;
    use crate::wire::tether;

    #[test]
    fn a_child_that_does_not_read_gets_the_newest_roster_later() {
        let key = SecretKey::from_seed(&mut [1; 32]).public();
        let (mut tether, far) = Tether::new(&key).unwrap();
        let mut far = UnixStream::from(far);
        let message = |from_us: u64| tether::message(from_us, &[vec![from_us as u8; 300_000]]);
        for from_us in 1..=9 {
            tether.hand(&Rc::new(message(from_us)));
        }
        let mut bytes = Vec::new();
        far.set_nonblocking(true).unwrap();
        loop {
            let error = far.read_to_end(&mut bytes).unwrap_err();
            assert!(waits(&error), "{error}");
            let before = bytes.len();
            tether.push();
            if far.read_to_end(&mut bytes).is_err() && bytes.len() == before {
                break;
            }
        }
        let all = [key.bytes().to_vec(), message(1), message(9)].concat();
        assert!(bytes == all, "{} bytes, not {}", bytes.len(), all.len());
        assert_eq!(tether.shown(), None);
        far.write_all(&[7; 31]).unwrap();
        assert_eq!(tether.shown(), None);
        far.write_all(&[7; 2]).unwrap();
        assert_eq!((tether.shown(), tether.shown()), (Some([7; 32]), None));
        drop(far);
        tether.hand(&Rc::new(message(10)));
    }
}
