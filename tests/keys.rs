//! Key files: they are created, must be private, and outlive a run; and their public keys are written to rosters.

mod support;
mod witness;

use nanoserde::DeJson;
use rsoracle::keys::secret::SecretKey;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::seal::{PublicKey, hex, unhex};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::*;
use witness::*;

/// The keys in a run's JSON.
#[derive(DeJson)]
struct Keys {
    aggregator_key: String,
    price: Option<f64>,
    collectors: Vec<Slot>,
}

#[derive(DeJson)]
struct Slot {
    key: Option<String>,
    source: String,
}

impl Keys {
    fn of(done: &Finished) -> Keys {
        Keys::deserialize_json(&done.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?}; {}", done.stdout, done.stderr))
    }

    fn collectors(&self) -> Vec<&str> {
        assert!(
            self.collectors.iter().all(|slot| slot.key.is_some()),
            "everyone came"
        );
        let keys = self.collectors.iter();
        keys.filter_map(|slot| slot.key.as_deref()).collect()
    }
}

/// A fresh directory.
fn directory() -> PathBuf {
    scratch("x").parent().unwrap().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Makes a key file. Returns it and its public key.
fn keygen(name: &str) -> (PathBuf, String) {
    let path = scratch(name);
    let done = run(&["keygen", text(&path)]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let key = done.stdout.strip_suffix('\n').expect("a line").to_owned();
    (path, key)
}

/// The secret of a key file, in hexadecimal.
fn secret_of(path: &Path) -> String {
    let line = fs::read_to_string(path).unwrap();
    let secret = line
        .strip_prefix("rsoracle secret key 1 ")
        .expect("the form");
    secret.strip_suffix('\n').expect("a whole line").to_owned()
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

/// Runs a round of one sample of recorded prices, on free ports, with these arguments, until it ends.
fn short_run(args: &[&str]) -> Finished {
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--json"]);
    command.args(["--samples", "1", "--ready-timeout", "2m"]);
    command.args(args);
    start_command(command).finish()
}

/// The keys in a roster, as the JSON has them.
fn roster_keys(roster: &Roster) -> Vec<String> {
    let keys = roster.feeds[0].seats.iter().map(|seat| seat.key);
    keys.map(|key| hex(key.expect("a key").bytes())).collect()
}

/// Runs a command that must fail before it starts anything. Returns the only line that it prints.
fn refused(args: &[&str]) -> String {
    let (command, mark) = if args[0] == "run" {
        let mut long = vec!["--source", "embedded:BTCUSDT", "--ready-timeout", "1h"];
        long.extend(&args[1..]);
        marked_run(&long)
    } else {
        let mut command = rsoracle();
        command.args(args);
        (command, "RSORACLE_TEST_RUN=none".to_owned())
    };
    let done = start_command(command).finish();
    let seen = (done.code, done.stdout.as_str(), done.stderr.lines().count());
    assert_eq!(seen, (Some(1), "", 1), "{args:?}: {}", done.stderr);
    assert_eq!(bearers(&mark), [], "nobody is left");
    done.stderr
}

#[test]
fn a_new_key_is_its_owners_alone_and_never_overwritten() {
    let (path, key) = keygen("a.key");
    let about = fs::metadata(&path).unwrap();
    assert_eq!(about.permissions().mode() & 0o7777, 0o600);
    let before = fs::read(&path).unwrap();
    assert_eq!(before.len(), 87);
    let mut seed = unhex(&secret_of(&path)).expect("64 digits");
    assert_eq!(hex(SecretKey::from_seed(&mut seed).public().bytes()), key);

    let sentence = refused(&["keygen", text(&path)]);
    for part in [text(&path), "File exists", "never overwritten"] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    assert_eq!(fs::read(&path).unwrap(), before, "it is what it was");
    let link = scratch("link.key");
    symlink(&path, &link).unwrap();
    assert!(refused(&["keygen", text(&link)]).contains("File exists"));
    assert_eq!(fs::read(&path).unwrap(), before, "nor over a link");
    assert_ne!(keygen("b.key").1, key, "the next is another");

    let sentence = refused(&["keygen", "/nonexistent/a.key"]);
    assert!(sentence.contains("an existing directory"), "{sentence}");
}

#[test]
fn keys_prints_public_keys_and_nothing_if_one_cannot_be_read() {
    let ((a, key_a), (b, key_b)) = (keygen("a.key"), keygen("b.key"));
    let done = run(&["keys", text(&a), text(&b)]);
    let lines = format!("{key_a}  {}\n{key_b}  {}\n", a.display(), b.display());
    assert_eq!((done.code, done.stdout), (Some(0), lines));
    // Of a single file, as keygen does.
    let done = run(&["keys", text(&a)]);
    assert_eq!((done.code, done.stdout), (Some(0), format!("{key_a}\n")));
    let sentence = refused(&["keys", text(&a), "/nonexistent.key"]);
    assert!(sentence.contains("/nonexistent.key"), "{sentence}");
    assert!(sentence.contains("rsoracle keygen"), "{sentence}");
}

#[test]
fn a_key_that_others_may_read_or_write_is_refused() {
    let (path, key) = keygen("a.key");
    for bits in [0o640, 0o620, 0o604, 0o602, 0o610, 0o601, 0o644, 0o666] {
        mode(&path, bits);
        let advice = format!("chmod 600 {}", path.display());
        for sentence in [
            refused(&["keys", text(&path)]),
            refused(&["run", "--aggregator-key", text(&path)]),
        ] {
            assert!(sentence.contains(&advice), "{bits:o}: {sentence}");
            assert!(
                sentence.contains(&format!("(mode {bits:04o})")),
                "{sentence}"
            );
        }
    }
    mode(&path, 0o400);
    assert!(run(&["keys", text(&path)]).stdout.starts_with(&key));
}

#[test]
fn a_credential_of_a_service_may_have_the_mask_of_its_access_list_and_no_more() {
    let (path, key) = keygen("a.key");
    let ask = |dir: &Path| {
        let mut command = rsoracle();
        command.args(["keys", text(&path)]);
        command.env("CREDENTIALS_DIRECTORY", dir);
        start_command(command).finish()
    };
    let own = path.parent().unwrap();
    mode(&path, 0o440);
    assert!(ask(own).stdout.starts_with(&key));
    let elsewhere = ask(own.parent().unwrap());
    assert!(elsewhere.stderr.contains("(mode 0440)"));
    for bits in [0o460, 0o450, 0o444, 0o441, 0o442] {
        mode(&path, bits);
        let done = ask(own);
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{bits:o}");
    }
}

#[test]
fn a_file_that_is_not_exactly_a_key_is_refused_and_not_quoted() {
    let (path, _) = keygen("a.key");
    let line = fs::read_to_string(&path).unwrap();
    let secret = secret_of(&path);
    for text_of_it in [
        String::new(),
        secret.clone(),
        line.trim_end().to_owned(),
        format!("{line}\n"),
        format!(" {line}"),
        format!("{}\r", line.trim_end()),
        line.replace("key 1", "key 2"),
        line.replace(&secret, &"A".repeat(64)),
        line.replace(&secret, &"g".repeat(64)),
        line.replace(&secret, &secret[1..]),
        line.replace("rsoracle", "Rsoracle"),
    ] {
        fs::write(&path, &text_of_it).unwrap();
        let sentence = refused(&["keys", text(&path)]);
        assert!(
            sentence.contains("it is not one line"),
            "{text_of_it:?}: {sentence}"
        );
        assert!(!sentence.contains(&secret[1..]), "the secret is quoted");
    }
    let sentence = refused(&["keys", text(&directory())]);
    assert!(sentence.contains("not a regular file"), "{sentence}");
    assert!(refused(&["keys", "/dev/zero"]).contains("not a regular file"));
}

#[test]
fn what_is_no_key_is_not_made_private_and_what_editors_leave_in_a_key_is_named() {
    for args in [
        &["keys", "/etc/passwd"][..],
        &["run", "--aggregator-key", "/etc/passwd"],
    ] {
        let sentence = refused(args);
        assert!(sentence.contains("it is not one line"), "{sentence}");
        assert!(!sentence.contains("chmod"), "{sentence}");
    }
    let (path, _) = keygen("a.key");
    let line = fs::read_to_string(&path).unwrap();
    let utf_16: Vec<u8> = line.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, what) in [
        (
            line.replace('\n', "\r\n").into_bytes(),
            "it ends with a carriage return",
        ),
        (
            line.replace('\n', "\r").into_bytes(),
            "it ends with a carriage return",
        ),
        (
            format!("\u{feff}{line}").into_bytes(),
            "it begins with a byte order mark",
        ),
        ([&[0xff, 0xfe], &utf_16[..]].concat(), "it is UTF-16"),
    ] {
        fs::write(&path, bytes).unwrap();
        let sentence = refused(&["keys", text(&path)]);
        assert!(sentence.contains(what), "{what}: {sentence}");
        assert!(sentence.contains("line ends of Unix (LF)"), "{sentence}");
        assert!(!sentence.contains("rsoracle keygen"), "{sentence}");
    }
}

#[test]
fn a_folder_in_which_others_can_replace_keys_is_told() {
    let dir = directory();
    let args = ["--collectors", "2", "--collector-keys", text(&dir)];
    for (bits, is_open) in [
        (0o777, true),
        (0o770, true),
        (0o1777, false),
        (0o755, false),
    ] {
        mode(&dir, bits);
        let done = short_run(&[&args[..], &["--quiet"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let warning = format!(
            "others can replace keys: {} belongs to user {} and has mode {bits:04o};",
            dir.display(),
            fs::metadata(&dir).unwrap().uid()
        );
        let lines = done.stderr.lines();
        let told = lines.filter(|line| line.contains(&warning)).count();
        assert_eq!(told, usize::from(is_open), "{bits:o}: {}", done.stderr);
    }
    // The aggregator's key is beside its journal.
    let journal = directory().join("j");
    mode(journal.parent().unwrap(), 0o777);
    let done = short_run(&["--collectors", "1", "--journal", text(&journal)]);
    assert!(done.stderr.contains("has mode 0777;"), "{}", done.stderr);
}

#[test]
#[ignore = "needs root"]
fn a_key_of_another_user_is_told() {
    let dir = directory();
    let args = ["--collectors", "1", "--collector-keys", text(&dir)];
    let run = || short_run(&[&args[..], &["--quiet"]].concat()).stderr;
    assert_eq!(run(), "");
    std::os::unix::fs::chown(dir.join("slot-0.key"), Some(4321), None).unwrap();
    let told = run();
    let warning = format!(
        "others can replace keys: {}/slot-0.key belongs to user 4321",
        dir.display()
    );
    assert!(told.contains(&warning), "{told}");
    std::os::unix::fs::chown(dir.join("slot-0.key"), Some(0), None).unwrap();
    std::os::unix::fs::chown(&dir, Some(4321), None).unwrap();
    let told = run();
    assert!(
        told.contains(&format!("{} belongs to user 4321", dir.display())),
        "{told}"
    );
}

/// As Kubernetes mounts a secret: root's, and readable for the group of the process (fsGroup). Nobody else can read it then,
/// and the process could not if its mode were 0600.
#[test]
#[ignore = "needs root"]
fn root_may_give_a_key_to_the_group_of_a_process_and_to_no_one_else() {
    use std::os::unix::process::CommandExt;
    // The build's own folders may be closed to other users.
    let dir = std::env::temp_dir().join(format!("rsoracle-given-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let binary = dir.join("rsoracle");
    copy_program(rsoracle().get_program(), &binary);
    let (path, key) = keygen("a.key");
    let given = dir.join("a.key");
    fs::copy(path, &given).unwrap();
    let ask = |owner: u32, bits: u32| {
        std::os::unix::fs::chown(&given, Some(owner), Some(4322)).unwrap();
        mode(&given, bits);
        let mut command = std::process::Command::new(&binary);
        command.args(["keys", text(&given)]).uid(4321).gid(4322);
        start_command(command).finish()
    };
    assert!(ask(0, 0o440).stdout.starts_with(&key));
    let advice = "or root's with mode 0440 (in Kubernetes: defaultMode 0440 and fsGroup)";
    for (owner, bits) in [(0, 0o444), (0, 0o460), (0, 0o640 | 0o1), (4323, 0o440)] {
        let done = ask(owner, bits);
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{bits:o}");
        assert!(done.stderr.contains(advice), "{}", done.stderr);
        assert!(!done.stderr.contains("chmod"), "{}", done.stderr);
    }
    // The owner itself can do without the group.
    assert!(ask(4321, 0o440).stderr.contains("run chmod 600"));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_bad_key_file_ends_a_run_before_anything_starts() {
    let dir = directory();
    let slot = dir.join("slot-1.key");
    fs::write(&slot, "no key").unwrap();
    mode(&slot, 0o600);
    let keys = ["run", "--collector-keys", text(&dir)];
    assert!(refused(&keys).contains("slot-1.key: it is not one line"));
    fs::remove_file(&slot).unwrap();
    fs::copy(dir.join("slot-0.key"), &slot).unwrap();
    let sentence = refused(&keys);
    assert!(
        sentence.contains("slot-1.key: its key is also collector 0's"),
        "{sentence}"
    );
    let sentence = refused(&["run", "--aggregator-key", text(&dir.join("none.key"))]);
    assert!(sentence.contains("none.key: No such file"), "{sentence}");
    let same = dir.join("slot-0.key");
    let sentence = refused(&[&keys[..], &["--aggregator-key", text(&same)]].concat());
    assert!(
        sentence.contains("slot-0.key: its key is also the aggregator's"),
        "{sentence}"
    );
    let sentence = refused(&["run", "--collector-keys", "/nonexistent"]);
    assert!(sentence.contains("/nonexistent/slot-0.key"), "{sentence}");
    for (roster, cause) in [
        ("/nonexistent/roster.toml", "No such file"),
        (text(&dir), "not a regular file"),
    ] {
        let sentence = refused(&["run", "--write-roster", roster]);
        assert!(
            sentence.contains(&format!("{roster}: ")) && sentence.contains(cause),
            "{sentence}"
        );
    }
    let known = keygen("known.key").1;
    let aggregator = format!("127.0.0.1:1,2@{known}");
    let known = PublicKey::decode(&unhex(&known).expect("64 digits"));
    let (roster, key) = (dir.join("roster.toml"), dir.join("none.key"));
    let of_one = peer::roster(&[known.expect("a key")], 1, "1s");
    fs::write(&roster, of_one).unwrap();
    let by_hand = ["collect", "--roster", text(&roster)];
    let named = ["--aggregator", &aggregator, "--key", text(&key)];
    let sentence = refused(&[&by_hand[..], &named].concat());
    assert!(sentence.contains("none.key: No such file"), "{sentence}");
}

#[test]
fn an_identity_outlives_a_run_and_the_roster_names_it() {
    let dir = directory();
    let (aggregator, aggregator_key) = keygen("aggregator.key");
    let roster = dir.join("roster.toml");
    fs::write(&roster, "an older one").unwrap();
    let args = [
        "--aggregator-key",
        text(&aggregator),
        "--collector-keys",
        text(&dir),
        "--write-roster",
        text(&roster),
    ];
    let first = short_run(&args);
    let written = fs::read_to_string(&roster).unwrap();
    let second = short_run(&args);
    assert_eq!(
        (first.code, second.code),
        (Some(0), Some(0)),
        "{}",
        first.stderr
    );
    let made = format!("made new keys for 5 of 5 collectors in {}", dir.display());
    assert!(first.stderr.contains(&made), "{}", first.stderr);
    assert!(
        !second.stderr.contains("made new keys for"),
        "{}",
        second.stderr
    );

    let (one, two) = (Keys::of(&first), Keys::of(&second));
    assert!(one.price.is_some() && two.price.is_some());
    assert_eq!(one.aggregator_key, aggregator_key);
    assert_eq!(two.aggregator_key, aggregator_key);
    assert_eq!(one.collectors(), two.collectors());
    let files: Vec<PathBuf> = (0..5)
        .map(|slot| dir.join(format!("slot-{slot}.key")))
        .collect();
    let listed = run(&[
        &["keys"],
        &files.iter().map(|file| text(file)).collect::<Vec<_>>()[..],
    ]
    .concat());
    let listed: Vec<&str> = listed.stdout.lines().map(|line| &line[..64]).collect();
    assert_eq!(one.collectors(), listed);

    // Only the start of the round differs.
    let without_start = |text: &str| {
        let other = |line: &&str| !line.starts_with("first_start = ");
        text.lines().filter(other).collect::<Vec<_>>().join("\n")
    };
    let rewritten = fs::read_to_string(&roster).unwrap();
    assert_eq!(without_start(&rewritten), without_start(&written));
    assert_ne!(rewritten, written);
    let roster = Roster::parse(&written).expect("it is read back");
    assert_eq!(roster_keys(&roster), one.collectors());
    let terms = &roster.feeds[0];
    for (seat, slot) in terms.seats.iter().zip(&one.collectors) {
        assert_eq!(seat.source, slot.source);
    }
    let numbers = (terms.f(), terms.quorum(), terms.exchanges_min);
    assert_eq!((terms.feed.as_str(), numbers), ("BTC/USD", (1, 3, 1)));
    assert_eq!((roster.number, roster.previous), (1, None));
    let names = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !names
            .into_iter()
            .any(|name| name.to_string_lossy().contains(".new")),
        "nothing is left beside it"
    );
}

#[test]
fn a_roster_of_a_single_round_says_that_it_fits_this_round_only() {
    let roster = scratch("roster.toml");
    let done = short_run(&["--collectors", "1", "--write-roster", text(&roster)]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr
            .contains("it is valid for this round only, whose start is one of its terms"),
        "{}",
        done.stderr
    );
    let read = Roster::parse(&fs::read_to_string(&roster).unwrap()).unwrap();
    assert_eq!(roster_keys(&read), Keys::of(&done).collectors());
}

/// Runs a round of four collectors, and kills the last one as soon as its process exists.
fn round_without_the_last(args: &[&str]) -> Finished {
    let mut killer = Command::new("sh")
        .args(["-c", "read id; kill -KILL $id"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut told = killer.stdin.take().expect("a pipe");
    let (mut command, _) = marked_run(&["--source", "embedded:BTCUSDT", "--json"]);
    command.args(["--samples", "1", "--ready-timeout", "15s"]);
    command.args(["--collectors", "4"]).args(args);
    let mut running = start_command(command);
    // The first child is the exchange. Without a pause, since a collector takes a millisecond to show its key.
    let last = loop {
        if let Some(last) = running.children().get(4) {
            break *last;
        }
        assert!(!running.ended(), "it starts four");
    };
    writeln!(told, "{last}").expect("sh reads");
    killer.wait().expect("sh ends");
    running.finish()
}

#[test]
fn where_a_key_is_unknown_there_is_a_price_but_no_roster_and_the_exit_code_says_so() {
    eventually(
        "a collector that is killed before it has shown its key",
        || {
            let roster = scratch("roster.toml");
            let done = round_without_the_last(&["--write-roster", text(&roster)]);
            assert!(Keys::of(&done).price.is_some(), "{}", done.stderr);
            if done.code == Some(0) {
                // It was quicker.
                assert!(roster.exists(), "{}", done.stderr);
                return None;
            }
            assert_eq!(done.code, Some(1), "{}", done.stderr);
            let why = "collector 3 (embedded) did not start, so its key is unknown; run again once it starts";
            assert!(done.stderr.contains(why), "{}", done.stderr);
            assert!(!roster.exists());
            Some(())
        },
    );
}

#[test]
fn no_secret_is_in_arguments_environment_or_output() {
    let dir = directory();
    let (aggregator, _) = keygen("aggregator.key");
    let (mut command, mark) = marked_run(&["--source", "embedded:BTCUSDT", "--collectors", "2"]);
    command.args(["--samples", "1000", "--ready-timeout", "1h"]);
    command.args([
        "--aggregator-key",
        text(&aggregator),
        "--collector-keys",
        text(&dir),
    ]);
    let running = start_command(command);
    running.stderr_line(" of 1000: 2 prices");
    let path = |slot| dir.join(format!("slot-{slot}.key"));
    let secrets = [aggregator, path(0), path(1)].map(|path| secret_of(&path));
    let everyone = bearers(&mark);
    assert_eq!(everyone.len(), 4, "aggregator, exchange, two collectors");
    for slot in 0..2 {
        let arguments = arguments(running.collector(slot));
        let key = path(slot);
        assert!(
            arguments
                .windows(2)
                .any(|pair| pair == ["--key", text(&key)]),
            "{arguments:?}"
        );
    }
    let mut seen: Vec<Vec<u8>> = vec![running.stderr().into(), running.stdout().into()];
    for id in everyone {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{id}/{file}")).unwrap();
            assert!(!bytes.is_empty(), "{id} {file}");
            seen.push(bytes);
        }
    }
    for secret in secrets {
        let raw: [u8; 32] = unhex(&secret).expect("64 digits");
        for bytes in &seen {
            for needle in [secret.as_bytes(), &raw[..]] {
                let found = bytes.windows(needle.len()).any(|part| part == needle);
                assert!(!found, "a secret in {}", String::from_utf8_lossy(bytes));
            }
        }
    }
}
