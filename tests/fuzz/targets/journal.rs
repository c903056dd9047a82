//! A journal's file, with complete lines and a torn end: no byte is lost, a file that is not understood is not changed, and
//! commands that read journals read any file to its end.
#![no_main]

use rsoracle::flags::args;
use rsoracle::flags::tables::{HISTORY, VERIFY};
use rsoracle::cli;
use rsoracle::aggregator::journal::Journal;
use rsoracle_verify::lines::Lines;
use rsoracle_proof::report::Verifier;
use rsoracle::history;
use std::path::Path;
use std::sync::LazyLock;

/// In memory if the system has such a file system, since a journal waits for its disk.
static PATH: LazyLock<String> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let name = format!("rsoracle-fuzz-{}", std::process::id());
    folder
        .join(name)
        .to_str()
        .expect("a path in UTF-8")
        .to_owned()
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (path, torn) = (PATH.as_str(), format!("{}.torn", *PATH));
    cut(bytes);
    std::fs::write(path, bytes).expect("the file is written");
    let take = |verifier: &mut Verifier, line: &str| {
        let flaws = verifier.check(line, u64::MAX).flaws;
        flaws.into_iter().next().map_or(Ok(()), Err)
    };
    let opened = Journal::open(path, &take, &|_, whole| Ok(whole));
    let [left, mut moved] = [path, &torn].map(|path| std::fs::read(path).unwrap_or_default());
    // A torn end becomes a line.
    assert!(moved.pop().is_none_or(|last| last == b'\n'));
    assert_eq!([&left[..], &moved].concat(), bytes);
    match opened {
        Err(_) => assert_eq!(left, bytes),
        Ok((mut journal, _, torn)) => {
            assert!(left.is_empty() || left.ends_with(b"\n"));
            assert_eq!(torn, moved.len());
            journal.append(&["{}"]).expect("one more line");
            assert_eq!(
                std::fs::read(path).unwrap_or_default(),
                [&left[..], b"{}\n"].concat()
            );
        }
    }
    let shown = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let given = args::parse(&HISTORY, &shown(&[path])).expect("a file");
    let _ = history::run(&history::HistorySettings::from_flags(&given).expect("a file"));
    let given = args::parse(&VERIFY, &shown(&[path])).expect("a file");
    let _ = rsoracle_verify::run(&cli::verify::read(&given).expect("a file"));
    let _ = (std::fs::remove_file(path), std::fs::remove_file(torn));
});

/// Checks that the lines of a file have all its bytes.
fn cut(bytes: &[u8]) {
    let mut lines = Lines::new(bytes, "the file");
    let mut whole = Vec::new();
    let mut number = 0;
    while let Ok(Some(line)) = lines.next_line() {
        number += 1;
        assert_eq!(line.number, number);
        let expected = bytes[whole.len()..]
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        match line.text {
            Ok(text) => assert_eq!(text.as_bytes(), expected),
            Err(_) => assert!(expected.contains(&0) || std::str::from_utf8(expected).is_err()),
        }
        whole.extend(expected);
        if line.whole {
            whole.push(b'\n');
        }
    }
    assert_eq!(whole, bytes);
}
