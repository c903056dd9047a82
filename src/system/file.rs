//! Replaces files atomically.
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

/// How many bytes at the end of a file are read at first.
pub(crate) const TAIL_BYTES: u64 = 256 << 10;
/// Factor by which that grows each time it was not enough.
pub(crate) const TAIL_LONGER: u64 = 4;

/// Atomically replaces the file at `path`, or creates it. The text goes to `PATH.ID.tmp` (with the process id), which is
/// synced to disk and then renamed. A failure leaves the old file unchanged.
///
/// A path that is not a regular file (a device, a symbolic link) is refused, since the rename would replace it. So is a
/// secret key.
pub fn replace(path: &str, text: &str) -> Result<(), Error> {
    swap(path, text, true)
}

/// Like [`replace`], but does not wait for the disk: after a power failure, the old file may be back.
pub(crate) fn replace_soon(path: &str, text: &str) -> Result<(), Error> {
    swap(path, text, false)
}

fn swap(path: &str, text: &str, now: bool) -> Result<(), Error> {
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
    let replaced = write_anew(&beside, text, now).and_then(|()| std::fs::rename(&beside, path));
    if replaced.is_err() {
        // It may not exist: that depends on what failed.
        let _ = std::fs::remove_file(&beside);
    }
    replaced.map_err(|error| {
        Error::new(&attempt, error)
            .advise("the file is unchanged; check that its disk has room and that this user may create files in its directory")
    })?;
    match now {
        true => sync_directory(path).map_err(|error| Error::new(attempt, error)),
        false => Ok(()),
    }
}

/// Creates a file, which is whole and on the disk from the beginning. If there is one it stays as it is: `AlreadyExists`.
pub(crate) fn create(path: &str, text: &str) -> io::Result<()> {
    let beside = format!("{path}.{}.tmp", std::process::id());
    let linked = write_anew(&beside, text, true).and_then(|()| std::fs::hard_link(&beside, path));
    // It may not exist: that depends on what failed.
    let _ = std::fs::remove_file(&beside);
    linked.and_then(|()| sync_directory(path))
}

/// Creates a file with this text and, if `now`, syncs it to disk. A leftover of a killed process with the same id is removed
/// first.
fn write_anew(path: &str, text: &str, now: bool) -> io::Result<()> {
    check_size(text.len() as u64)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    if now { file.sync_all() } else { Ok(()) }
}

/// The soft limit of this process that /proc/self/limits has under this name; `None` if there is none, or it is unknown.
pub(crate) fn soft_limit(name: &str) -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Refuses to let a file grow to `bytes` bytes if that is more than the limit (`ulimit -f`): the system would end this process
/// without a word (SIGXFSZ).
pub(crate) fn check_size(bytes: u64) -> io::Result<()> {
    match soft_limit("Max file size") {
        Some(most) if bytes > most => Err(io::Error::other(format!(
            "it would have {bytes} bytes, and may have {most} (ulimit -f)"
        ))),
        _ => Ok(()),
    }
}

/// Removes the files `PATH.ID.tmp` that killed processes left of [`replace`]: those whose process is gone, and those of an
/// earlier process with this one's id. A failure is ignored, since it does no harm.
fn clean_up(path: &Path, directory: &Path) {
    let begin = format!("{}.", path.file_name().unwrap_or_default().display());
    let runs = |id: u32| Path::new(&format!("/proc/{id}")).exists();
    let own = std::process::id();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(&begin));
        let id = id.and_then(|id| id.strip_suffix(".tmp")?.parse().ok());
        if id.is_some_and(|id| id == own || (runs(own) && !runs(id))) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The first bytes of every secret key file.
pub(crate) const SECRET_BEGINS: &str = "rsoracle secret key ";

/// Whether this is a secret key file, which must never be replaced.
fn holds_secret(path: &str) -> bool {
    let mut begins = [0; SECRET_BEGINS.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begins));
    read.is_ok() && begins == SECRET_BEGINS.as_bytes()
}

/// Checks early whether [`replace`] is likely to succeed, before there is anything to write, and removes what killed processes
/// left of it.
pub(crate) fn make_replaceable(path: &str) -> Result<(), Error> {
    check_replaceable(path)?;
    clean_up(Path::new(path), folder_of(path));
    Ok(())
}

/// The folder of a path.
pub(crate) fn folder_of(path: &str) -> &Path {
    match Path::new(path).parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The same check, which changes nothing.
pub(crate) fn check_replaceable(path: &str) -> Result<(), Error> {
    let attempt = format!("cannot replace {path}");
    let failed = |cause: String| Err(Error::new(&attempt, cause).advise("name another file"));
    match (
        std::fs::symlink_metadata(path),
        std::fs::metadata(folder_of(path)),
    ) {
        (Ok(there), _) if !there.is_file() => failed("it is not a regular file".to_owned()),
        (Ok(_), _) if holds_secret(path) => failed("it is a secret key".to_owned()),
        (_, Err(error)) => failed(error.to_string()),
        (_, Ok(there)) if !there.is_dir() => failed("its parent is not a directory".to_owned()),
        (Err(error), _) if error.kind() != ErrorKind::NotFound => failed(error.to_string()),
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

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        in_a_folder("left", |dir| {
            let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
            // No process has an id beyond the largest that Linux allows, and process 1 always runs.
            let own = format!("latest.json.{}.tmp", std::process::id());
            let kept = [
                "latest.json",
                "latest.json.1.tmp",
                "latest.json.4194305.tmp.old",
                "latest.json.x.tmp",
                "other.json.4194305.tmp",
            ];
            let gone = ["latest.json.4194305.tmp", "latest.json.4194306.tmp", &own];
            for name in kept.iter().chain(&gone) {
                std::fs::write(path(name), "text").unwrap();
            }
            make_replaceable(&path("latest.json")).unwrap();
            assert_eq!(names(dir), kept);
        });
    }

    #[test]
    fn a_file_that_need_not_be_on_the_disk_at_once_is_replaced_too() {
        in_a_folder("soon", |dir| {
            let path = dir.join("newest");
            for text in ["old", "new"] {
                replace_soon(path.to_str().unwrap(), text).unwrap();
                assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            }
            assert_eq!(names(dir), ["newest"]);
        });
    }
}
