//! Where a run goes on: the end of the journal, and what shows that it is the end.
//!
//! The newest report is also kept beside the journal, in [`newest_path`], which is replaced after the report was appended and
//! before its price is published. A journal that ends before that report has lost its end (it was restored from a backup, or
//! removed), and whoever continued it would sign numbers a second time.
//!
//! Invariant: no line is used unless it was verified as `rsoracle verify` does it. A run that is killed at any moment leaves a
//! journal that may be continued.

use crate::aggregator::settings::Run;
use crate::system::now::wall_us;
use rsoracle_proof::report::{Content, Report, Verifier};
use rsoracle_proof::seal::PublicKey;
use rsoracle_verify::error::Error;
use rsoracle_verify::files;
use rsoracle_verify::lines::JOURNAL_LINE_BYTES_MAX;
use std::fs::File;
use std::io::ErrorKind;

/// The beginning of a report of protocol 1.
const PROTOCOL_1: &str = "{\"rsoracle_report\":1,";

/// The file beside a journal with its newest report, whether that was published or not.
pub(super) fn newest_path(journal: &str) -> String {
    format!("{journal}.newest")
}

/// The end of a journal, read forward from some line.
#[derive(Default)]
pub(super) struct End {
    pub(super) verifier: Verifier,
    /// The newest report and its line.
    pub(super) newest: Option<(Report, String)>,
    /// The newest published report: the start of its round, and its line.
    pub(super) published: Option<(u64, String)>,
    /// The keys that handed over to another one.
    retired: Vec<PublicKey>,
}

impl End {
    /// Takes and verifies the next line.
    pub(super) fn take(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with(PROTOCOL_1) {
            return Err(
                "it holds reports of protocol 1, which this program does not continue".to_owned(),
            );
        }
        let before = self.aggregator();
        let check = self.verifier.check(line, wall_us());
        if let Some(flaw) = check.flaws.into_iter().next() {
            return Err(flaw);
        }
        match check.content {
            Content::Report(report) => {
                if report.decision.publishes() {
                    self.published = Some((report.round.start_us, line.to_owned()));
                }
                self.newest = Some((*report, line.to_owned()));
            }
            Content::KeyChange => self.retired.extend(before),
            Content::Proof(_) | Content::Unknown => return Err("it is not a report".to_owned()),
        }
        Ok(())
    }

    /// Whether these lines are enough to go on: they have the newest report and, unless the file of `--latest` has it, the
    /// newest published one. Fails if the journal must not be continued with this key. `whole`: these are all lines.
    pub(super) fn suffices(
        &self,
        config: &Run,
        key: PublicKey,
        whole: bool,
    ) -> Result<bool, Error> {
        let journal = config.journal.as_deref().expect("it is being opened");
        let latest = config.latest.as_deref();
        let shown = |number| {
            latest
                .and_then(held)
                .is_some_and(|held| held.number == number)
        };
        let known = |report: &Report| {
            latest.is_none()
                || self.published.is_some()
                || report.published().is_none_or(|last| shown(last.number))
        };
        if !whole
            && !self
                .newest
                .as_ref()
                .is_some_and(|(report, _)| known(report))
        {
            return Ok(false);
        }
        let beside = newest_path(journal);
        self.compare(journal, &beside, |signer| !self.hands_over(signer, key))?;
        latest.map_or(Ok(()), |latest| {
            self.compare(journal, latest, |signer| signer == key)
        })?;
        Ok(true)
    }

    /// The line of the newest published report, if the file of `--latest` may have it: even after a change of keys, that file
    /// does not go back.
    pub(super) fn unwritten(&self, config: &Run) -> Option<String> {
        let latest = config.latest.as_deref().and_then(held);
        let goes_on = |start_us| latest.is_none_or(|latest| latest.round.start_us <= start_us);
        let (start_us, line) = self.published.as_ref()?;
        goes_on(*start_us).then(|| line.clone())
    }

    fn aggregator(&self) -> Option<PublicKey> {
        let feed = self.verifier.feeds().next()?;
        self.verifier.aggregator(feed)
    }

    /// Whether `signer` signs nothing more in this journal: it has handed over to another key, or does so now to `key`, or the
    /// journal begins now with `key`.
    fn hands_over(&self, signer: PublicKey, key: PublicKey) -> bool {
        let last = self.aggregator().unwrap_or(signer);
        self.retired.contains(&signer) || (last == signer && signer != key)
    }

    /// Refuses the journal if it has lost the report in the file at `path`, whose signer `counts`.
    fn compare(
        &self,
        journal: &str,
        path: &str,
        counts: impl Fn(PublicKey) -> bool,
    ) -> Result<(), Error> {
        if let Err(error) = File::open(path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(refused(journal, format!("{path} cannot be read: {error}")));
        }
        let Some(held) = held(path).filter(|held| counts(held.aggregator)) else {
            return Ok(());
        };
        let what = match self.newest.as_ref().map(|(newest, _)| newest) {
            Some(newest) if newest.number > held.number => return Ok(()),
            Some(newest) if newest.signature == held.signature => return Ok(()),
            Some(newest) if newest.number == held.number => "its last report is another".to_owned(),
            Some(newest) => format!("it ends at report {}", newest.number),
            None => "it is empty".to_owned(),
        };
        let cause = format!(
            "{what}, but its key has signed report {}, which {path} holds: the journal has lost its end, and its numbers would be signed a second time",
            held.number
        );
        Err(refused(journal, cause).advise(format!(
            "restore the copy of the journal that ends latest; if no copy has the lost reports, hand over to a new key (--aggregator-key NEW --retire-key OLD) or begin another journal with a key of its own; only if nobody has used the lost reports, remove {path}"
        )))
    }
}

fn refused(journal: &str, cause: String) -> Error {
    Error::new(format!("cannot continue the journal {journal}"), cause)
}

/// The valid report that a file holds; `None` if it holds anything else, or does not exist.
pub(super) fn held(path: &str) -> Option<Report> {
    let bytes = files::read(path, JOURNAL_LINE_BYTES_MAX as u64 + 1, path).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?;
    // It was signed, whatever the clock says now.
    let check = Verifier::default().check(text, u64::MAX);
    match check.content {
        Content::Report(report) if check.flaws.is_empty() => Some(*report),
        _ => None,
    }
}
