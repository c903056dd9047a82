//! Makes the directories of files.

use super::file::folder_of;
use rsoracle_verify::error::Error;

/// Creates the directory of `path` and its parents, unless they exist.
pub fn make_for(path: &str) -> Result<(), Error> {
    check_for(path)?;
    let directory = folder_of(path);
    std::fs::create_dir_all(directory).map_err(|error| {
        let attempt = format!("cannot create the directory {}", directory.display());
        Error::new(attempt, error).advise("name a directory that this user may write to")
    })
}

/// Checks that nothing else is in the way of that directory, and changes nothing.
pub(crate) fn check_for(path: &str) -> Result<(), Error> {
    let directory = folder_of(path);
    match directory.ancestors().find(|there| there.exists()) {
        Some(there) if !there.is_dir() => {
            let attempt = format!("cannot create the directory {}", directory.display());
            let cause = format!("{} is not a directory", there.display());
            Err(Error::new(attempt, cause).advise("name a directory"))
        }
        _ => Ok(()),
    }
}
