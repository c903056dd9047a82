//! What an operator changes of an exchange's own rules: one description, from the flags to the session.

use rsoracle_verify::duration::duration_text;
use std::time::Duration;

/// How old a source's price may be, how long its connection may keep silent, how often it is pinged; none where its
/// exchange's own rule holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A price that is older is none.
    pub max_age: Option<Duration>,
    /// A connection on which nothing came for longer is replaced.
    pub max_silence: Option<Duration>,
    /// From one ping to the next.
    pub ping_every: Option<Duration>,
}

impl Overrides {
    /// The flags, as they are also called in a file's `[source.KIND]`.
    pub const FLAGS: [&str; 3] = ["max-age", "max-silence", "ping-every"];

    /// From the flags' values, in their order.
    pub fn new([max_age, max_silence, ping_every]: [Option<Duration>; 3]) -> Overrides {
        Overrides {
            max_age,
            max_silence,
            ping_every,
        }
    }

    /// As flags of a collector.
    pub fn flags(&self) -> impl Iterator<Item = String> {
        let values = [self.max_age, self.max_silence, self.ping_every];
        let given = Overrides::FLAGS.into_iter().zip(values);
        given.filter_map(|(name, value)| {
            let us = value?.as_micros() as u64;
            Some(format!("--{name}={}", duration_text(us)))
        })
    }
}
