//! Strangers on both ports: silent ones, slow ones, floods, and frames that are valid only in part.

use crate::Chance;
use crate::support::peer::Peer;
use rsoracle::wire::{DataFrame, Hello, Ping, Preamble};
use std::fmt;
use std::net::SocketAddr;

const CROWD_MAX: usize = 120;

pub struct Strangers {
    control: SocketAddr,
    data: SocketAddr,
    /// Each with what it still has to say, a bit in each turn.
    crowd: Vec<(Peer, Vec<u8>)>,
    came: u32,
    bytes: u64,
}

impl Strangers {
    pub fn new(control: SocketAddr, data: SocketAddr) -> Strangers {
        Strangers {
            control,
            data,
            crowd: Vec::new(),
            came: 0,
            bytes: 0,
        }
    }

    pub fn turn(&mut self, chance: &mut Chance) {
        self.crowd.retain_mut(|(peer, _)| !peer.ended());
        for (peer, words) in &mut self.crowd {
            // Short messages are sent byte by byte, long ones as fast as possible.
            let now = if words.len() < 200 {
                words.len().min(1)
            } else {
                words.len().min(16_384)
            };
            let said: Vec<u8> = words.drain(..now).collect();
            self.bytes += peer.send_some(&said) as u64;
        }
        if self.crowd.len() < CROWD_MAX {
            let port = if chance.below(2) == 0 {
                self.control
            } else {
                self.data
            };
            if let Some(peer) = Peer::try_connect(port) {
                self.crowd.push((peer, words(chance)));
                self.came += 1;
            }
        }
        // Now and then, one leaves.
        if chance.below(20) == 0 && !self.crowd.is_empty() {
            let which = chance.below(self.crowd.len());
            self.crowd.swap_remove(which);
        }
    }

    pub fn leave(&mut self) {
        self.crowd.clear();
    }
}

/// What a stranger sends.
fn words(chance: &mut Chance) -> Vec<u8> {
    let mut hello = vec![0; Hello::BYTES];
    hello[..8].copy_from_slice(b"RSOR\x02\x02\0\0");
    let mut preamble = vec![0; Preamble::BYTES];
    preamble[..8].copy_from_slice(b"RSOR\x02\x08\0\0");
    for byte in hello[8..].iter_mut().chain(&mut preamble[8..]) {
        *byte = chance.below(256) as u8;
    }
    let clock = chance.below(256) as u64;
    let ping = Ping { clock_us: clock }.encode();
    match chance.below(8) {
        0 => Vec::new(),
        1 => hello,
        2 => preamble,
        3 => {
            let frame = (0..DataFrame::BYTES).map(|_| chance.below(256) as u8);
            [preamble, frame.collect()].concat()
        }
        4 => (0..1_000_000).map(|n| n as u8).collect(),
        5 => hello.repeat(1_000),
        6 => ping.repeat(1_000),
        _ => b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".repeat(100),
    }
}

impl fmt::Display for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} strangers, {} kB of them taken",
            self.came,
            self.bytes / 1_000
        )
    }
}
