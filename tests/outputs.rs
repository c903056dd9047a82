//! What becomes of standard output and standard error that nobody reads, or that takes nothing.

mod support;

use rsoracle::keys::create;
use rsoracle_proof::seal::hex;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::*;

/// open(2)
const O_NONBLOCK: i32 = 0o4000;

/// The same pipe or file once more, without waiting. The flags of `end` stay as they are.
fn at_once(end: &impl AsRawFd, write: bool) -> File {
    let mut options = OpenOptions::new();
    let options = options.read(!write).write(write).custom_flags(O_NONBLOCK);
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    options.open(path).expect("a pipe can be opened again")
}

/// A pipe that is full to the last byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut fill = at_once(&writer, true);
    for piece in [&[b'x'; 4096][..], b"x"] {
        while fill.write(piece).is_ok() {}
    }
    (reader, writer)
}

/// Reads what is there now.
fn taken(mut end: impl Read) -> String {
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        match end.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let text = String::from_utf8(text).expect("text");
    text.trim_start_matches('x').to_owned()
}

/// Killed and reaped when dropped.
struct Started(Child);

impl Started {
    fn spawn(command: &mut Command) -> Started {
        Started(command.stdin(Stdio::null()).spawn().expect("it starts"))
    }

    fn code(&mut self) -> Option<i32> {
        eventually("it ends", || self.0.try_wait().expect("a child")).code()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rounds without end on recorded prices.
fn rounds(more: &[&str]) -> Command {
    let mut command = rsoracle();
    command.args(["run", "--source", "embedded:BTCUSDT", "--every", "200ms"]);
    command
        .args(["--samples", "1", "--interval", "20ms"])
        .args(more);
    command
}

fn lines(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.matches('\n').count()
}

/// Waits until the journal is this many lines longer.
fn journal_grows(path: &Path, by: usize) {
    let before = lines(path);
    eventually("the journal grows", || {
        (lines(path) >= before + by).then_some(())
    });
}

/// Whether the flags of an open file say O_NONBLOCK.
fn is_non_blocking(end: &impl AsRawFd) -> bool {
    let path = format!("/proc/self/fdinfo/{}", end.as_raw_fd());
    let text = std::fs::read_to_string(path).expect("proc(5)");
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = i32::from_str_radix(flags.expect("flags").trim(), 8);
    flags.expect("an octal number") & O_NONBLOCK != 0
}

#[test]
fn rounds_go_on_while_nobody_reads_standard_error_and_the_lines_dropped_are_counted() {
    let journal = scratch("journal.jsonl");
    let (reader, writer) = full_pipe();
    let shared = writer.try_clone().expect("a copy");
    let mut command = rounds(&["--journal", journal.to_str().unwrap()]);
    command.stdout(Stdio::null()).stderr(writer);
    let _running = Started::spawn(&mut command);
    journal_grows(&journal, 3);
    assert!(
        !is_non_blocking(&shared),
        "others that write to this pipe still wait for its reader"
    );
    let reader = at_once(&reader, false);
    let mut text = String::new();
    let note = eventually("it says how many lines are missing", || {
        text.push_str(&taken(&reader));
        let (_, note) = text.split_once("aggregator: lines missing here")?;
        note.split_once('\n').map(|(note, _)| note.to_owned())
    });
    let count = note.rsplit(' ').next().and_then(|count| count.parse().ok());
    assert!(count.is_some_and(|count: u32| count >= 3), "{note}");
    // Afterwards every line arrives.
    eventually("the next round is reported", || {
        text.push_str(&taken(&reader));
        let (_, after) = text.rsplit_once("lines missing here")?;
        (after.matches("round of ").count() >= 2).then_some(())
    });
}

#[test]
fn starts_that_are_skipped_because_nobody_reads_results_are_told_with_that_cause() {
    let log = scratch("log");
    let (reader, writer) = full_pipe();
    // No file keeps the results.
    let mut command = rounds(&[]);
    command.stdout(writer).stderr(File::create(&log).unwrap());
    let _running = Started::spawn(&mut command);
    let behind = |text: &str, part: &str| {
        let found = text.split_once(part);
        found.map(|(_, behind)| behind.to_owned())
    };
    let published = eventually("a price", || {
        let text = std::fs::read_to_string(&log).ok()?;
        behind(&text, ", published, ").map(|behind| text.len() - behind.len())
    });
    std::thread::sleep(Duration::from_secs(4));
    taken(at_once(&reader, false));
    let cause = eventually("a skipped start with its cause", || {
        let text = std::fs::read_to_string(&log).ok()?;
        behind(&text[published..], " starts: ").filter(|line| line.contains('\n'))
    });
    let why = "nobody read standard output for ";
    assert!(cause.starts_with(why), "{cause}");
}

#[test]
fn rounds_go_on_while_standard_error_is_a_full_socket() {
    let journal = scratch("journal.jsonl");
    let (near, far) = UnixStream::pair().expect("sockets");
    let own = far.try_clone().expect("a copy");
    own.set_nonblocking(true).expect("a socket");
    while (&own).write(&[b'x'; 4096]).is_ok() {}
    own.set_nonblocking(false).expect("a socket");
    let mut command = rounds(&["--journal", journal.to_str().unwrap()]);
    command.stdout(Stdio::null()).stderr(OwnedFd::from(far));
    let _running = Started::spawn(&mut command);
    journal_grows(&journal, 3);
    assert!(!is_non_blocking(&own));
    near.set_nonblocking(true).expect("a socket");
    let mut text = String::new();
    eventually("it says how many lines are missing", || {
        text.push_str(&taken(&near));
        text.contains("aggregator: lines missing here")
            .then_some(())
    });
}

#[test]
fn a_collector_answers_though_nobody_reads_its_standard_error() {
    let (_faulty, url) = exchange(&["--fault", "garbage@3.."]);
    let place = |name: &str| scratch(name).to_str().expect("a path in UTF-8").to_owned();
    let (own, theirs, roster) = (place("slot-0.key"), place("own.key"), place("roster.toml"));
    let key = create(&own).expect("a key file");
    let aggregator_key = create(&theirs).expect("a key file");
    let text = support::peer::roster(&[key], 20, "50ms");
    std::fs::write(&roster, text).expect("a file");
    let aggregator = start(&[
        "aggregate",
        "--roster",
        &roster,
        "--aggregator-key",
        &theirs,
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--rounds",
        "1",
        "--ready-timeout",
        "1h",
    ]);
    let (control, data) = aggregator.channels();
    let ports = format!("{},{}", control.port(), data.port());
    let place = format!("127.0.0.1:{ports}@{}", hex(aggregator_key.bytes()));
    let (_reader, writer) = full_pipe();
    let mut command = rsoracle();
    command.args(["collect", "--roster", &roster, "--key", &own]);
    command.args(["--aggregator", &place, "--endpoint", &url]);
    command.stdout(Stdio::null()).stderr(writer);
    let _collector = Started::spawn(&mut command);
    let done = aggregator.finish();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let answered = done.stderr.contains("collector 0 (embedded): abstains: ");
    assert!(answered, "{}", done.stderr);
}

#[test]
fn rounds_with_a_journal_go_on_while_nobody_reads_standard_output() {
    let journal = scratch("journal.jsonl");
    let (reader, writer) = full_pipe();
    let errors = scratch("stderr");
    let mut command = rounds(&["--json", "--journal", journal.to_str().unwrap()]);
    let log = File::create(&errors).expect("a file");
    command.stdout(writer).stderr(log);
    let _running = Started::spawn(&mut command);
    let said = |what: &str| {
        let text = std::fs::read_to_string(&errors).unwrap_or_default();
        text.matches(what).count()
    };
    journal_grows(&journal, 4);
    let silence = "to standard output: nobody reads it; reports are still";
    eventually("it says that nobody reads", || {
        (said(silence) == 1).then_some(())
    });
    let reader = at_once(&reader, false);
    let mut text = String::new();
    eventually("results are printed again", || {
        text.push_str(&taken(&reader));
        (said("standard output takes results again") == 1 && text.contains('\n')).then_some(())
    });
    // What was begun was ended: a reader finds whole lines only, and each is in the journal.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let kept = std::fs::read_to_string(&journal).unwrap();
    for line in whole.lines() {
        assert!(kept.lines().any(|kept| kept == line), "{line}");
    }
}

#[test]
fn rounds_that_nothing_else_keeps_end_with_their_reader() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    for lost in [Stdio::from(writer), full_device()] {
        let errors = scratch("stderr");
        let mut command = rounds(&[]);
        command.stdout(lost).stderr(File::create(&errors).unwrap());
        let code = Started::spawn(&mut command).code();
        let text = std::fs::read_to_string(&errors).unwrap();
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("to standard output, and no file keeps it: "),
            "{text}"
        );
    }
}

fn full_device() -> Stdio {
    let full = OpenOptions::new().write(true).open("/dev/full");
    Stdio::from(full.expect("full(4)"))
}

#[test]
fn every_command_that_cannot_print_says_so_and_fails() {
    let dir = scratch("some.key").parent().unwrap().to_owned();
    let key = dir.join("some.key").to_str().unwrap().to_owned();
    let other = dir.join("other.key").to_str().unwrap().to_owned();
    let manual = dir.join("share").to_str().unwrap().to_owned();
    let journal = dir.join("journal.jsonl").to_str().unwrap().to_owned();
    assert_eq!(run(&["keygen", &key]).code, Some(0));
    let round = ["run", "--source", "embedded:BTCUSDT", "--samples", "1"];
    let made = run(&[&round[..], &["--journal", &journal]].concat());
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let (_exchange, url) = exchange(&[]);
    let commands: [&[&str]; 14] = [
        &["help"],
        &["--version"],
        &["run", "--help"],
        &["run", "--check", "--source", "embedded:BTCUSDT"],
        &round,
        &["keygen", &other],
        &["keys", &key],
        &["verify", &journal],
        &["verify", &journal, "--json"],
        &["history", &journal],
        &["history", &journal, "--json"],
        &["doctor", "embedded:BTCUSDT", "--endpoint", &url],
        &["resolve", "localhost:80"],
        &["manual", &manual],
    ];
    for args in commands {
        let errors = scratch("stderr");
        let mut command = rsoracle();
        command.args(args).stdout(full_device());
        command.stderr(File::create(&errors).unwrap());
        let code = Started::spawn(&mut command).code();
        let text = std::fs::read_to_string(&errors).unwrap();
        assert_eq!(code, Some(1), "{args:?}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(
            last.contains("to standard output") && last.contains(": No space"),
            "{args:?}: {text}"
        );
        // A reader that has seen enough (`| head`) is told nothing. The exit code is there for those who ask (pipefail).
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        if args[0] != "run" && args[0] != "keygen" {
            let mut command = rsoracle();
            command
                .args(args)
                .stdout(writer)
                .stderr(File::create(&errors).unwrap());
            assert_eq!(Started::spawn(&mut command).code(), Some(1), "{args:?}");
            assert_eq!(std::fs::read_to_string(&errors).unwrap(), "", "{args:?}");
        }
    }
}
