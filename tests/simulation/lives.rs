//! The lives of a key: the processes that sign with it, one after the other, as they are handed rosters, lose their clock and die.

use super::chance::Chance;
use super::oracle;
use super::script::KeyRing;
use super::stage::terms;
use rsoracle::collector::rosters::Rosters;
use rsoracle_proof::terms::Terms;

/// The slot whose key it is.
const SLOT: u16 = 0;

/// What happened in all lives, to check that everything that may happen did.
#[derive(Debug, Default)]
pub struct Lived {
    pub signed: u32,
    pub deaths: u32,
    pub changes: u32,
    pub idle: u32,
}

/// One key.
struct Life<'a> {
    chance: &'a mut Chance,
    keys: &'a KeyRing,
    now_us: u64,
    /// When the process read its key.
    born_us: u64,
    rosters: Rosters,
    /// Rosters that the process was handed, each with the first start that it holds for, its terms, and the digests of those
    /// that the key can sign.
    handed: Vec<(u64, Terms, Vec<[u8; 32]>)>,
    /// The last start that the key signed.
    signed_us: u64,
}

/// Plays the processes of one key. None of them signs a start that the key has signed, or that is not its roster's.
pub fn live(chance: &mut Chance, keys: &KeyRing, lived: &mut Lived) {
    let mut life = Life {
        chance,
        keys,
        now_us: 1_790_000_000_000_000,
        born_us: 0,
        rosters: Rosters::new(0),
        handed: Vec::new(),
        signed_us: 0,
    };
    life.be_born();
    for _ in 0..40 {
        let most_us = life.chance.pick(&[10_000, 1_000_000, 60_000_000]);
        life.now_us += life.chance.below(most_us);
        match life.chance.below(10) {
            0 => {
                lived.changes += 1;
                life.change();
            }
            // A process by itself may see any clock. Between two processes, the clock is not set back.
            1 => life.round(lived, true),
            2 => {
                lived.deaths += 1;
                life.be_born();
            }
            _ => life.round(lived, false),
        }
    }
}

impl Life<'_> {
    /// A process begins, with the present roster.
    fn be_born(&mut self) {
        self.born_us = self.now_us;
        self.rosters = Rosters::new(self.now_us);
        self.handed.clear();
        self.hand(0);
    }

    /// The roster changes for starts to come.
    fn change(&mut self) {
        let lead_us = self.chance.pick(&[0, 40_000, 5_000_000, 100_000_000]);
        self.hand(self.now_us + lead_us);
    }

    fn hand(&mut self, from_us: u64) {
        let terms = terms(self.chance, self.keys);
        let (key, slot) = (self.keys.public(usize::from(SLOT)), usize::from(SLOT));
        let source = terms.seats[slot].source.clone();
        let (mut feeds, mut own) = (vec![Ok(terms.clone())], vec![terms.digest()]);
        for feed in 0..self.chance.below(3) {
            let mut more = terms.clone();
            more.feed = format!("FEED-{feed}");
            match self.chance.below(4) {
                0 => more.seats[slot].key = None,
                1 => more.seats[slot].source.push('X'),
                2 => more.schedule.first_start_us += 1,
                _ => own.push(more.digest()),
            }
            feeds.push(Ok(more));
        }
        let unfit = |terms: &Result<Terms, String>| {
            let terms = terms.as_ref().expect("all are whole");
            terms.slot_of(&key).is_some() && !own.contains(&terms.digest())
        };
        let unfit = feeds.iter().filter(|terms| unfit(terms)).count();
        let wrong = self.rosters.take(feeds, from_us, &key, &[source]);
        assert_eq!(wrong.len(), unfit, "{wrong:?}");
        self.handed.push((from_us, terms, own));
    }

    /// The process waits for its next round and takes part in it, unless there is none.
    fn round(&mut self, lived: &mut Lived, clock_moves: bool) {
        let mut looked_us = self.now_us;
        if clock_moves {
            let off_us = self.chance.pick(&[3_600_000_000, 20_000_000, 1_000_000]);
            looked_us -= off_us;
        }
        let Some((task, start_us)) = self.rosters.next(looked_us) else {
            lived.idle += 1;
            return;
        };
        self.now_us = self.now_us.max(start_us);
        self.rosters.begin(start_us);
        let mut handed = self.handed.iter().rev();
        let held = handed.find(|(from_us, ..)| *from_us <= start_us);
        let (_, terms, own) = held.expect("a roster holds for it");
        assert_eq!(task.digests(), *own, "the roster of {start_us}");
        let schedule = &terms.schedule;
        assert!(oracle::is_start(schedule, start_us), "{start_us}");
        let over_us = start_us + oracle::length_us(schedule);
        assert!(over_us > looked_us, "{start_us} is over");
        assert!(start_us >= self.born_us, "{start_us}: before this process");
        assert!(start_us > self.signed_us, "{start_us} is signed again");
        // It may die before it signs, and after.
        if self.chance.percent(80) {
            self.signed_us = start_us;
            // A reply takes time, if only a microsecond.
            self.now_us += self.chance.pick(&[1, schedule.length_us()]);
            lived.signed += 1;
        }
        if self.chance.percent(10) {
            lived.deaths += 1;
            self.be_born();
        }
    }
}
