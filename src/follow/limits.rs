//! Bounds and deadlines of `follow`, besides those that it shares with other rooms.

pub use crate::exchange::limits::*;

/// Most sources of `follow`.
pub(crate) const FOLLOW_SOURCES_MAX: usize = 32;
/// Most connections of `follow`: it has one for each server and feed.
pub(crate) const FOLLOW_STREAMS_MAX: usize = 512;
/// What a report has besides its collectors' answers, in bytes at most.
pub(crate) const REPORT_BYTES: usize = 16 * 1024;
/// What it has of each collector besides the samples, in bytes at most.
pub(crate) const REPORT_BYTES_PER_SLOT: usize = 2 * 1024;
/// What it has of each sample, in bytes at most.
pub(crate) const REPORT_BYTES_PER_SAMPLE: usize = 128;
/// How long a round waits for the reports of further sources, in milliseconds after its first report and after its end.
pub const ROUND_WAIT_MS: u64 = 2_000;
/// Most rounds of a feed that wait. Beyond that, sources that are further ahead are not read.
pub(crate) const ROUNDS_OPEN_MAX: usize = 64;
/// Most rounds of a feed whose reports are kept after they were printed: a late one can show a lie.
pub(crate) const ROUNDS_KEPT_MAX: usize = 16;
/// Longest silence of a server that is followed, in milliseconds. 'rsoracle serve' sends a comment every 15 s.
pub(crate) const SERVER_SILENCE_MS_MAX: u64 = 45_000;
/// Most bytes of one connection since its last new report, besides those of [`FOLLOW_LINES_IDLE_MAX`] lines. Then it is closed.
pub(crate) const FOLLOW_BYTES_IDLE_MAX: u64 = 4 * 1024 * 1024;
/// The same in lines as long as a report can be.
pub(crate) const FOLLOW_LINES_IDLE_MAX: u64 = 64;
/// Longest pause before a server that was lost is called again, in milliseconds, the first time ...
pub(crate) const FOLLOW_RETRY_FIRST_MS_MAX: u64 = 100;
/// ... the second time, after which it doubles (jitter can make it twice as long) ...
pub(crate) const FOLLOW_RETRY_MS_MIN: u64 = 250;
/// ... and at most.
pub(crate) const FOLLOW_RETRY_MS_MAX: u64 = 30_000;
/// A connection that lasted this long, in milliseconds, counts as a good one.
pub(crate) const FOLLOW_GOOD_MS: u64 = 30_000;
/// Most reports before the newest one that `follow --once` asks a source for, so that there is a round that all have.
pub(crate) const ONCE_BACK: u64 = 8;
/// Longest time of `follow --once`, in milliseconds.
pub(crate) const ONCE_MS_MAX: u64 = 20_000;
/// Bytes of a file that are read before the next source is.
pub(crate) const FOLLOW_FILE_BYTES: usize = 1024 * 1024;
/// Most files of one source's journal. Each further one begins where a report could not be got.
pub(crate) const JOURNAL_PARTS_MAX: usize = 1_000;
