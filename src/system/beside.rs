//! Keeps a journal from being taken for another one.

use rsoracle_verify::error::Error;
use rsoracle_verify::segments::{closed, part_of};

/// What programs of this project keep beside a journal, by the ending of its name. Lines are appended to some of these files too.
const BESIDE: [&str; 9] = [
    ".newest.others",
    ".newest",
    ".proofs",
    ".torn",
    ".key",
    ".roster",
    ".next",
    ".rotate",
    ".part2",
];

/// Refuses a path whose file belongs to another journal: one of its closed segments, or a file beside it.
pub(crate) fn check_own(path: &str, attempt: &str) -> Result<(), Error> {
    let file = std::fs::canonicalize(path);
    let file = file.map_or_else(|_| path.to_owned(), |file| file.display().to_string());
    let exists = |journal: &str| std::fs::symlink_metadata(journal).is_ok();
    let segment = part_of(&file).filter(|(journal, own)| {
        let is_other = |number: &u64| number != own;
        exists(journal) || closed(journal).is_ok_and(|(all, _)| all.iter().any(is_other))
    });
    let beside = BESIDE.iter().find_map(|ending| file.strip_suffix(ending));
    let of = match (segment, beside.filter(|journal| exists(journal))) {
        (Some((journal, _)), _) => format!("it is a closed segment of the journal {journal}"),
        (None, Some(journal)) => format!("it belongs to the journal {journal}"),
        (None, None) => return Ok(()),
    };
    Err(Error::new(attempt, of)
        .advise("name the journal itself, or a file with another name; nothing was changed"))
}
