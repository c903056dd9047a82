//! Files that an operator names, read within a bound, replaced in one step.
//!
//! Invariants: no file, however large or endless, takes more memory than its bound; who reads a file that is replaced
//! finds all of the old text or all of the new, whenever the power fails.
//! What this does not do: lock. Of two processes that replace the same file the later one wins.

use rsoracle_verify::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whom a file that we make is for: its owner writes, everyone reads (what the umask forbids aside).
pub const MODE: u32 = 0o644;

/// Puts a file with this text in the place of the one at `path`, if any, in one step: by a file beside it, `PATH.ID.tmp`
/// with the process id, that is renamed once it is on the disk. A failure leaves the old file as it was.
///
/// What is not a regular file (a device, a symbolic link) is refused: the rename would put a file in its place.
pub fn replace(path: &str, text: &str) -> Result<(), Error> {
    let attempt = format!("cannot replace {path}");
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(Error::new(attempt, "it is not a regular file").advise("name another"));
        }
        Ok(_) if holds_secret(path) => {
            return Err(Error::new(attempt, "it is a secret key").advise("name another"));
        }
        _ => {}
    }
    let beside = format!("{path}.{}.tmp", std::process::id());
    let replaced = write_anew(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if replaced.is_err() {
        // Whether there is one to remove depends on how far we came.
        let _ = std::fs::remove_file(&beside);
    }
    replaced.map_err(|error| {
        Error::new(&attempt, error)
            .advise("it is as it was; its directory must have room, and let this user make files")
    })?;
    sync_directory(path).map_err(|error| Error::new(attempt, error))
}

/// Makes the directory that a file at `path` goes to, and those above it, where they are not there yet.
pub fn make_directory_of(path: &str) -> Result<(), Error> {
    let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).map_err(|error| {
        let attempt = format!("cannot make the directory {}", directory.display());
        Error::new(attempt, error).advise("name one that this user may write to")
    })
}

/// A new file with this text, on the disk; one that a killed process of the same id left goes first.
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

/// How every file of a secret key begins.
pub const SECRET_BEGINS: &str = "rsoracle secret key ";

/// Whether a file is one that must never be replaced.
fn holds_secret(path: &str) -> bool {
    let mut begins = [0; SECRET_BEGINS.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begins));
    read.is_ok() && begins == SECRET_BEGINS.as_bytes()
}

/// Whether [`replace`] is likely to succeed, to know it before there is anything to write.
pub fn check_replaceable(path: &str) -> Result<(), Error> {
    let attempt = format!("cannot replace {path}");
    let failed = |cause: String| Err(Error::new(&attempt, cause).advise("name another"));
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
        (_, Ok(there)) if !there.is_dir() => failed("its directory is none".to_owned()),
        _ => Ok(()),
    }
}

/// Makes the name of an existing file as durable as its bytes.
pub fn sync_directory(path: &str) -> io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder of its own for a test; removed at the end.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Runs a test in a folder of its own.
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
    fn a_file_is_replaced_whole_and_whoever_has_the_old_one_open_keeps_it() {
        in_a_folder("replaced", |dir| {
            let path = dir.join("latest.json");
            let name = path.to_str().unwrap();
            replace(name, "old").unwrap();
            let mut open = File::open(&path).unwrap();
            // A process of the same id was killed in the middle of it, in a container, say.
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
    fn what_is_no_file_is_not_replaced_and_a_failure_leaves_nothing_behind() {
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
                "no room for a longer name beside it"
            );
            assert_eq!(names(dir), ["folder", "link"]);
        });
    }
}
