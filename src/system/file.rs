//! Replaces files atomically, and makes their directories.
//!
//! Invariant: a reader of a replaced file finds the whole old text or the whole new text, even after a power failure. There
//! is no lock: if two processes replace the same file, the later one wins.

use rsoracle_verify::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Permissions of a new file, before the umask: the owner writes, everyone reads.
pub(crate) const MODE: u32 = 0o644;

/// Atomically replaces the file at `path`, or creates it. The text goes to `PATH.ID.tmp` (with the process id), which is
/// synced to disk and then renamed. A failure leaves the old file unchanged.
///
/// A path that is not a regular file (a device, a symbolic link) is refused, since the rename would replace it. So is a
/// secret key.
pub fn replace(path: &str, text: &str) -> Result<(), Error> {
    let attempt = format!("cannot replace {path}");
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(Error::new(attempt, "it is not a regular file").advise("name another file"));
        }
        Ok(_) if holds_secret(path) => {
            return Err(Error::new(attempt, "it is a secret key").advise("name another file"));
        }
        _ => {}
    }
    let beside = format!("{path}.{}.tmp", std::process::id());
    let replaced = write_anew(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if replaced.is_err() {
        // It may not exist: that depends on what failed.
        let _ = std::fs::remove_file(&beside);
    }
    replaced.map_err(|error| {
        Error::new(&attempt, error)
            .advise("the file is unchanged; check that its disk has room and that this user may create files in its directory")
    })?;
    sync_directory(path).map_err(|error| Error::new(attempt, error))
}

/// Creates the directory of `path` and its parents, unless they exist.
pub fn make_directory_of(path: &str) -> Result<(), Error> {
    let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(|error| {
        let attempt = format!("cannot create the directory {}", directory.display());
        Error::new(attempt, error).advise("name a directory that this user may write to")
    })
}

/// Creates a file with this text and syncs it to disk. A leftover of a killed process with the same id is removed first.
fn write_anew(path: &str, text: &str) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The first bytes of every secret key file.
pub(crate) const SECRET_BEGINS: &str = "rsoracle secret key ";

/// Whether this is a secret key file, which must never be replaced.
fn holds_secret(path: &str) -> bool {
    let mut begins = [0; SECRET_BEGINS.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begins));
    read.is_ok() && begins == SECRET_BEGINS.as_bytes()
}

/// Checks early whether [`replace`] is likely to succeed, before there is anything to write.
pub(crate) fn check_replaceable(path: &str) -> Result<(), Error> {
    let attempt = format!("cannot replace {path}");
    let failed = |cause: String| Err(Error::new(&attempt, cause).advise("name another file"));
    let directory = match Path::new(path).parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match (
        std::fs::symlink_metadata(path),
        std::fs::metadata(directory),
    ) {
        (Ok(there), _) if !there.is_file() => failed("it is not a regular file".to_owned()),
        (Ok(_), _) if holds_secret(path) => failed("it is a secret key".to_owned()),
        (_, Err(error)) => failed(error.to_string()),
        (_, Ok(there)) if !there.is_dir() => failed("its parent is not a directory".to_owned()),
        _ => Ok(()),
    }
}

/// Syncs the directory of an existing file, so that the file's name is as durable as its bytes.
pub(crate) fn sync_directory(path: &str) -> io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A test's temporary folder; dropping it removes the folder.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Runs a test in a new temporary folder.
    fn in_a_folder(name: &str, test: impl FnOnce(&Path)) {
        let name = format!("rsoracle-file-{}-{name}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        test(&folder.0);
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_atomically_and_open_handles_keep_the_old_text() {
        in_a_folder("replaced", |dir| {
            let path = dir.join("latest.json");
            let name = path.to_str().unwrap();
            replace(name, "old").unwrap();
            let mut open = File::open(&path).unwrap();
            // The leftover of a killed process with the same id, which is likely in a container.
            let stale = format!("{name}.{}.tmp", std::process::id());
            std::fs::write(stale, "half").unwrap();
            replace(name, "new and longer").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"new and longer");
            let mut text = String::new();
            open.read_to_string(&mut text).unwrap();
            assert_eq!(text, "old");
            assert_eq!(names(dir), ["latest.json"]);
        });
    }

    #[test]
    fn only_regular_files_are_replaced_and_a_failure_leaves_nothing_behind() {
        in_a_folder("refused", |dir| {
            let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
            std::fs::create_dir(path("folder")).unwrap();
            std::os::unix::fs::symlink("elsewhere", path("link")).unwrap();
            for name in ["folder", "link", "missing/latest.json"] {
                let error = replace(&path(name), "text").unwrap_err().to_string();
                assert!(
                    error.contains(&format!("cannot replace {}", path(name))),
                    "{error}"
                );
            }
            assert_eq!(names(dir), ["folder", "link"]);
            let long = path(&"x".repeat(250));
            assert!(
                replace(&long, "text").is_err(),
                "the temporary file's name is too long"
            );
            assert_eq!(names(dir), ["folder", "link"]);
        });
    }
}
