//! Follows the files of a journal while it grows: which segment a file was closed as, and which file goes on after a segment.
//!
//! Invariant: none is passed over, also if several are closed meanwhile.

use rsoracle_verify::files::{BEGIN_BYTES, no_journal};
use rsoracle_verify::segments::{Id, id, path_of, seen};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

/// The number of the closed segment that is this file.
pub fn number_of(journal: &str, file: Id) -> io::Result<Option<u64>> {
    let mut numbers = seen(journal)?.0.into_iter().rev();
    let is_file = |number: &u64| {
        std::fs::metadata(path_of(journal, *number)).is_ok_and(|found| id(&found) == file)
    };
    Ok(numbers.find(is_file))
}

/// The file that goes on after the closed segment with this number (0: the first one), and its number if it is closed too.
pub fn after(journal: &str, number: u64) -> io::Result<(File, Option<u64>)> {
    loop {
        let open = File::open(journal);
        let open_id = open.as_ref().ok().map(|open| open.metadata());
        let open_id = open_id.transpose()?.map(|found| id(&found));
        let next = seen(journal)?.0.into_iter().find(|next| *next > number);
        let Some(next) = next else {
            return Ok((open?, None));
        };
        match File::open(path_of(journal, next)) {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            file => {
                let file = file?;
                let is_open = Some(id(&file.metadata()?)) == open_id;
                return Ok((file, Some(next).filter(|_| !is_open)));
            }
        }
    }
}

/// Fails if a file is known to be no journal by its beginning.
pub(crate) fn check_sort(file: &File) -> io::Result<()> {
    let mut begin = [0; BEGIN_BYTES];
    let count = file.read_at(&mut begin, 0)?;
    no_journal(&begin[..count]).map_or(Ok(()), |why| Err(io::Error::other(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_closed_is_still_the_open_one() {
        let name = format!("rsoracle-closing-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let journal = folder.join("j").to_str().unwrap().to_owned();
        std::fs::write(path_of(&journal, 1), "one\n").unwrap();
        std::fs::write(&journal, "two\n").unwrap();
        std::fs::hard_link(&journal, path_of(&journal, 2)).unwrap();
        assert_eq!(after(&journal, 0).unwrap().1, Some(1));
        assert_eq!(after(&journal, 1).unwrap().1, None);
        let (file, number) = after(&journal, 2).unwrap();
        assert_eq!(number, None);
        let file = id(&file.metadata().unwrap());
        assert_eq!(number_of(&journal, file).unwrap(), Some(2));
        assert_eq!(number_of(&journal, (0, 0)).unwrap(), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
