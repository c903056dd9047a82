//! The operator's overrides of an exchange's time limits. One description serves flags, configuration file and session.

use std::time::Duration;

/// How old a source's price may be, how long its connection may be silent, how often it is pinged. `None` keeps the
/// exchange's own rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// A price older than this is stale.
    pub max_age: Option<Duration>,
    /// A connection that was silent for longer is replaced.
    pub max_silence: Option<Duration>,
    /// Time between two pings.
    pub ping_every: Option<Duration>,
}

impl Overrides {
    /// The names of the flags, which are also the keys in `[source.KIND]` of a configuration file.
    pub(crate) const FLAGS: [&str; 3] = ["max-age", "max-silence", "ping-every"];

    /// Takes the values of [`Overrides::FLAGS`], in the same order.
    pub fn new([max_age, max_silence, ping_every]: [Option<Duration>; 3]) -> Overrides {
        Overrides {
            max_age,
            max_silence,
            ping_every,
        }
    }

    /// The overrides as flags of `rsoracle collect`.
    pub fn flags(&self) -> impl Iterator<Item = String> {
        let values = [self.max_age, self.max_silence, self.ping_every];
        let given = Overrides::FLAGS.into_iter().zip(values);
        given.filter_map(|(name, value)| Some(format!("--{name}={}us", value?.as_micros())))
    }
}
