//! A journal in a folder that may not be listed: whoever reads it says that closed segments are not read, and whoever writes it
//! refuses the folder.

mod signed;
mod support;

use rsoracle_proof::seal::hex;
use rsoracle_verify::segments::path_of;
use signed::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::*;

/// User and group as which root runs the program, since root may list every folder.
const NOBODY: u32 = 65_534;

/// A journal with 4, 3 and 2 reports, beside its key, in a folder of the user who runs the program.
struct Kept {
    /// The folder that holds everything. It is none of the build, which another user may not be allowed to enter.
    all: PathBuf,
    journal: String,
    is_root: bool,
}

impl Kept {
    fn new(name: &str) -> Kept {
        let name = format!("rsoracle-unlisted-{name}-{}", std::process::id());
        let all = std::env::temp_dir().join(name);
        let folder = all.join("kept");
        fs::create_dir_all(&folder).expect("a folder");
        fs::set_permissions(&all, Permissions::from_mode(0o755)).unwrap();
        let journal = folder.join("j.jsonl").to_str().unwrap().to_owned();
        let mut oracle = Oracle::new(5, "kraken:BTC/USD");
        fs::write(
            all.join("roster.toml"),
            rsoracle::roster::text::render(&roster_of(&oracle.terms)),
        )
        .unwrap();
        let mut line = |number| {
            let start_us = START_US + number * GRID_US;
            oracle.line(start_us, &[Says::Price(100.0); 5]) + "\n"
        };
        for (path, numbers) in [
            (path_of(&journal, 1), 1..5),
            (path_of(&journal, 2), 5..8),
            (journal.clone(), 8..10),
        ] {
            fs::write(path, numbers.map(&mut line).collect::<String>()).unwrap();
        }
        let key = format!("{journal}.key");
        fs::write(&key, format!("rsoracle secret key 1 {}\n", hex(&[1; 32]))).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        if is_root {
            let inside = fs::read_dir(&folder).unwrap();
            let paths = inside.map(|entry| entry.unwrap().path());
            for path in paths.chain([folder]) {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("root gives it to another user");
            }
            copy_program(rsoracle().get_program(), all.join("rsoracle"));
        }
        let kept = Kept {
            all,
            journal,
            is_root,
        };
        kept.permit(0o311);
        kept
    }

    fn folder(&self) -> &Path {
        Path::new(&self.journal).parent().unwrap()
    }

    fn permit(&self, mode: u32) {
        fs::set_permissions(self.folder(), Permissions::from_mode(mode)).unwrap();
    }

    fn beside(&self, name: &str) -> String {
        self.all.join(name).to_str().unwrap().to_owned()
    }

    /// Starts the program as a user who is not root.
    fn start(&self, args: &[&str]) -> Running {
        let mut command = rsoracle();
        if self.is_root {
            command = Command::new(self.all.join("rsoracle"));
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(args).stdin(Stdio::null());
        start_command(command)
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.start(args).finish()
    }

    /// What is in the folder: names and lengths.
    fn inside(&self) -> Vec<(PathBuf, u64)> {
        self.permit(0o755);
        let entries = fs::read_dir(self.folder()).unwrap().map(Result::unwrap);
        let mut inside: Vec<_> = entries
            .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
            .collect();
        self.permit(0o311);
        inside.sort();
        inside
    }

    /// Why its folder is not listed.
    fn cause(&self) -> String {
        let folder = self.folder().display();
        format!("the folder {folder} may not be listed: Permission denied (os error 13)")
    }

    /// What a reader says of it.
    fn note(&self) -> String {
        let (journal, cause) = (&self.journal, self.cause());
        format!(
            "cannot look for closed segments of the journal {journal}: {cause}; older segments, if there are any, are not read\n"
        )
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.permit(0o755);
        let _ = fs::remove_dir_all(&self.all);
    }
}

#[test]
fn verify_and_history_say_once_that_closed_segments_are_not_read() {
    let kept = Kept::new("files");
    for (command, code, found) in [
        ("verify", 5, ": 2 reports, number 8 to 9"),
        ("history", 0, "2 rounds"),
    ] {
        let done = kept.run(&[command, &kept.journal]);
        assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
        assert_eq!(done.stderr, format!("{command}: {}", kept.note()));
        assert!(done.stdout.contains(found), "{}", done.stdout);
    }
    // A closed segment by its own name is all that was asked for.
    let done = kept.run(&["verify", &path_of(&kept.journal, 2)]);
    assert_eq!((done.code, &*done.stderr), (Some(5), ""));
    assert!(done.stdout.contains(": 3 reports, number 5 to 7"));
    // A folder that may be listed shows all of it.
    kept.permit(0o755);
    for (command, code, found) in [
        ("verify", 5, ": 9 reports, number 1 to 9"),
        ("history", 0, "9 rounds"),
    ] {
        let done = kept.run(&[command, &kept.journal]);
        assert_eq!((done.code, &*done.stderr), (Some(code), ""), "{command}");
        assert!(done.stdout.contains(found), "{}", done.stdout);
    }
}

#[test]
fn serve_relay_and_follow_say_once_that_closed_segments_are_not_read() {
    let kept = Kept::new("running");
    let nats = format!("nats://{}", nobodys_address());
    let roster = kept.beside("roster.toml");
    let journal = kept.journal.as_str();
    for (args, later) in [
        (
            &["serve", "--journal", journal, "--listen", "127.0.0.1:0"][..],
            "serving ",
        ),
        (&["relay", "--journal", journal, "--nats", &nats], ""),
        (&["follow", journal, "--roster", &roster], ""),
    ] {
        let running = kept.start(args);
        let line = running.stderr_line("cannot look for closed segments");
        assert_eq!(format!("{line}\n"), format!("{}: {}", args[0], kept.note()));
        running.stderr_line(later);
        running.signal("KILL");
        let said = running.finish().stderr;
        assert_eq!(said.matches("may not be listed").count(), 1, "{said}");
    }
}

#[test]
fn whoever_writes_a_journal_refuses_a_folder_that_may_not_be_listed() {
    let kept = Kept::new("written");
    let (before, roster) = (kept.inside(), kept.beside("roster.toml"));
    let journal = kept.journal.as_str();
    let aggregate = ["aggregate", "--roster", &roster, "--journal", journal];
    let ports = ["--control-port", "0", "--data-port", "0"];
    let aggregate = [&aggregate[..], &ports].concat();
    let check = [&aggregate[..], &["--check"]].concat();
    for (args, attempt) in [
        (&aggregate[..], "cannot open the journal"),
        (&check, "cannot open the journal"),
        (
            &["journal", "rotate", journal],
            "cannot close the segment of the journal",
        ),
    ] {
        let done = kept.run(args);
        let says = format!("{attempt} {journal}: {}", kept.cause());
        assert_eq!(done.code, Some(1), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(&says), "{args:?}: {}", done.stderr);
        assert_eq!(kept.inside(), before, "{args:?}");
    }
    let own = kept.folder().join("own.jsonl").display().to_string();
    let done = kept.run(&["follow", journal, "--roster", &roster, "--journal", &own]);
    let says = format!("cannot go on with the journal {own}: {}", kept.cause());
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(&says), "{}", done.stderr);
}
