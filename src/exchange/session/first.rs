//! The first prices of a session: connects, and waits until the exchange shows that it serves a symbol.
//!
//! Invariant: one symbol with a price is enough. A refusal is an error once it leaves no symbol with a chance.

use super::ExchangeSession;
use crate::exchange::limits::*;
use crate::exchange::link::Ended;
use crate::exchange::{Refusal, Said};
use crate::system::net::{Look, Patience};
use crate::system::now::wall_us;
use rsoracle_verify::error::Error;
use std::time::{Duration, Instant};

/// The ids of the requests for first prices begin so.
pub(crate) const FIRST: &str = "first-";

fn no_first(stale_us: Option<u64>) -> String {
    match stale_us {
        Some(us) => format!(
            "no recent price within {FIRST_PRICE_MS_MAX} ms; the last one is from {}",
            rsoracle_proof::utc::utc_text(us)
        ),
        None => format!("no price within {FIRST_PRICE_MS_MAX} ms"),
    }
}

impl ExchangeSession<'_> {
    /// Connects, unless it is connected, and waits until one symbol has a price that is not stale.
    pub fn first_price(&mut self, look: Look) -> Result<(), Error> {
        if self.link.is_none() {
            let until = Instant::now() + Duration::from_millis(OPEN_MS_MAX);
            self.connect(until, look)?;
        }
        // By a wrong clock, a price looks old, or from the future.
        if self.offset.agrees() == Some(false) {
            return Err(Error::new("cannot use any price", self.offset.remark()).passing());
        }
        self.wait_for_price(look, &mut |_| {})
    }

    /// Requests a price of every symbol, unless prices are streamed.
    fn ask_all(&mut self) -> Result<(), Ended> {
        let request = |symbol| self.request(&format!("{FIRST}{symbol}"), symbol);
        let requests: Vec<String> = (0..self.symbols.len()).filter_map(request).collect();
        let Some(link) = self.link.as_mut().filter(|_| !requests.is_empty()) else {
            return Ok(());
        };
        link.prepare(requests)?;
        link.fire()
    }

    /// Waits on the open connection until one symbol has a price that is not stale. `listen` gets every message until then.
    pub(crate) fn wait_for_price(
        &mut self,
        look: Look,
        listen: &mut dyn FnMut(&Said),
    ) -> Result<(), Error> {
        let symbols = self.symbols.join(", ");
        let attempt = format!(
            "cannot get a first price of {symbols} from {}",
            self.endpoint().url
        );
        let failed = |cause: String| Error::new(&attempt, cause).passing();
        let until = Instant::now() + Duration::from_millis(FIRST_PRICE_MS_MAX);
        let (mut stale, mut came, mut ask_at) = (None, false, Some(Instant::now()));
        // Why the newest message has no price. As in a round, only this message is lost: the next one may have a price.
        let mut without: Option<Error> = None;
        loop {
            look()?;
            // The timeout also applies while messages come all the time.
            let now = Instant::now();
            if now >= until {
                let advice =
                    "see whether this market trades, and whether this machine's clock is right";
                let none = || failed(no_first(stale)).advise(advice);
                return Err(without.unwrap_or_else(none));
            }
            if ask_at.is_some_and(|at| at <= now) {
                ask_at = None;
                self.ask_all().map_err(|ended| failed(ended.text))?;
            }
            let slice = until.min(now + Duration::from_millis(SLICE_MS));
            // After a message, only look whether another one is there already.
            let said = self.hear(if came {
                Patience::Never
            } else {
                Patience::Until(slice)
            });
            let said = said.map_err(|ended| failed(ended.text))?;
            came = said.is_some();
            said.iter().for_each(&mut *listen);
            without = match said {
                Some(Said::Price { id: Some(id), .. }) if !id.as_str().starts_with(FIRST) => {
                    Some(failed("the reply has another id".to_owned()))
                }
                Some(Said::Price {
                    symbol, time_us, ..
                }) => {
                    if self.newest(symbol, wall_us()).is_ok() {
                        return Ok(());
                    }
                    stale = time_us;
                    None
                }
                Some(Said::Fault { miss, text, .. }) => Some(failed(format!("{miss}: {text}"))),
                Some(Said::Refusal(refusal)) => Some(self.refusal(&refusal, &attempt, &symbols)?),
                Some(_) | None => continue,
            };
            ask_at = Some(now + Duration::from_millis(FIRST_PRICE_AGAIN_MS));
        }
    }

    /// What a refusal means for the first price, as an error: returned as `Err` if no symbol has a chance on this connection.
    fn refusal(&self, refusal: &Refusal, attempt: &str, symbols: &str) -> Result<Error, Error> {
        let refused = refusal.symbol.map_or(symbols, |at| self.symbols[at]);
        let error = refusal.error(attempt, refused);
        let chance = error.passing || !self.all_refused();
        match chance && self.is_open() && !self.is_quiet_at(wall_us()) {
            true => Ok(error),
            false => Err(error),
        }
    }
}
