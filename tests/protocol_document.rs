//! Compares docs/PROTOCOL.md with the code: every vector, table, reason and bound, in both directions. Checks its signatures
//! and digests with programs that share no code with ours.

mod openssl;
mod support;
mod vectors;

use openssl::*;
use rsoracle::aggregator::limits::*;
use rsoracle::collector::limits::*;
use rsoracle::exchange;
use rsoracle::exchange::Way;
use rsoracle::exchange::json;
use rsoracle::flags::values::{CONTROL_PORT, DATA_PORT, source_for};
use rsoracle::source::KINDS;
use rsoracle_proof::price;
use rsoracle_proof::reason::{Abstention, Miss, Reject};
use rsoracle_proof::report::Verifier;
use rsoracle_proof::roster::Roster;
use rsoracle_proof::round::Round;
use rsoracle_proof::seal::hex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use vectors::{DECIMALS, Story};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn document() -> String {
    file("docs/PROTOCOL.md")
}

/// The lines `name = hex` of the document's blocks that are marked `vectors`.
fn documented_vectors(document: &str) -> BTreeMap<String, String> {
    let mut vectors = BTreeMap::new();
    let mut inside = false;
    for line in document.lines() {
        match line {
            "```vectors" => inside = true,
            "```" => inside = false,
            line if inside => {
                let (name, value) = line.split_once(" = ").expect("name = hex");
                let before = vectors.insert(name.to_owned(), value.to_owned());
                assert_eq!(before, None, "{name} stands twice");
            }
            _ => {}
        }
    }
    vectors
}

/// The cells of the table below the heading that begins with `heading`, without the title row.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = document.lines();
    let found = lines
        .any(|line| line.trim_start_matches('#').trim_start() == heading && line.starts_with('#'));
    assert!(found, "no heading '{heading}'");
    let cells = |line: &str| {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    lines
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(cells)
        .collect()
}

#[test]
fn every_vector_of_the_document_is_what_the_library_makes_and_none_is_missing() {
    let documented = documented_vectors(&document());
    let mut made = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, bytes) in Story::play().vectors() {
        let line = hex(&bytes);
        if documented.get(&name) != Some(&line) {
            wrong.push(format!("{name} = {line}"));
        }
        assert_eq!(
            made.insert(name.clone(), line),
            None,
            "{name} is made twice"
        );
    }
    let unknown: Vec<&String> = documented
        .keys()
        .filter(|name| !made.contains_key(*name))
        .collect();
    assert!(
        wrong.is_empty() && unknown.is_empty(),
        "not made by the library: {unknown:?}; the document should say:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_rosters_of_the_document_are_rosters() {
    let document = document();
    let blocks = document.split("```toml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().expect("its end"));
    let rosters = blocks.filter(|block| block.contains("[feed."));
    let rosters: Vec<Roster> = rosters
        .map(|it| Roster::parse(it).expect("a roster"))
        .collect();
    let [one, two] = &rosters[..] else {
        panic!("{} rosters", rosters.len());
    };
    assert_eq!((one.feeds.len(), two.feeds.len()), (1, 2));
    // Slots and n are as the document says below the second.
    assert_eq!((two.seat_of(0, 1), two.seat_of(1, 1)), (Some(1), Some(0)));
    assert_eq!((two.feeds[0].n(), two.feeds[1].n()), (2, 1));
}

#[test]
fn the_table_of_the_little_round_says_what_happens_in_it() {
    let document = document();
    let rows: Vec<String> = table(&document, "The round in words")
        .iter()
        .map(|cells| format!("| {} |", cells.join(" | ")))
        .collect();
    assert_eq!(rows, Story::play().rows());
}

#[test]
fn the_table_of_decimal_digits_is_how_the_library_writes_numbers() {
    let written = |number: f64| [format!("{:016x}", number.to_bits()), price::exact(number)];
    let rows = table(&document(), "Decimal digits");
    assert_eq!(rows, DECIMALS.map(written));
}

#[test]
fn every_table_of_offsets_cuts_the_bytes_into_their_fields() {
    let document = document();
    let layouts = Story::play().layouts();
    let mut headings = BTreeSet::new();
    for layout in &layouts {
        let width = layout.bytes.len();
        let heading = format!("{}: {width} bytes", layout.heading);
        let mut at = 0;
        let rows = table(&document, &heading);
        for (row, (field, value)) in rows.iter().zip(&layout.fields) {
            let number = |cell: &str| cell.parse::<usize>().expect("a number");
            let (offset, width) = (number(&row[0]), number(&row[1]));
            assert_eq!((offset, row[2].as_str()), (at, *field), "{heading}");
            let part = layout.bytes.get(offset..offset + width);
            assert_eq!(part, Some(&value[..]), "{heading}, {field}");
            at += width;
        }
        assert_eq!((rows.len(), at), (layout.fields.len(), width), "{heading}");
        headings.insert(heading);
    }
    let documented: BTreeSet<String> = document
        .lines()
        .filter(|line| line.starts_with("###") && line.ends_with(" bytes"))
        .map(|line| line.trim_start_matches('#').trim().to_owned())
        .collect();
    assert_eq!(documented, headings);
}

#[test]
fn the_three_tables_of_reasons_are_those_of_the_code_word_for_word() {
    let document = document();
    let rows = |heading| -> Vec<(String, String, String)> {
        let row = |cells: Vec<String>| (cells[0].clone(), cells[1].clone(), cells[2].clone());
        table(&document, heading).into_iter().map(row).collect()
    };
    macro_rules! check {
        ($name:ident) => {
            let made: Vec<_> = $name::ALL
                .iter()
                .map(|r| {
                    (
                        r.code().to_string(),
                        format!("{r:?}"),
                        r.sentence().to_owned(),
                    )
                })
                .collect();
            assert_eq!(rows(stringify!($name)), made);
        };
    }
    check!(Reject);
    check!(Miss);
    check!(Abstention);
}

#[test]
fn the_kinds_of_source_are_those_of_the_code_with_their_markets() {
    let row = |cells: Vec<String>| [0, 2, 4].map(|column: usize| cells[column].replace('`', ""));
    let rows: Vec<[String; 3]> = table(&document(), "Sources").into_iter().map(row).collect();
    let made = KINDS.each_ref().map(|kind| {
        let source = source_for(kind.name, "BTC/USD").expect("a kind");
        let stale = match exchange::dialect(&source).way {
            Way::Poll(_) => String::new(),
            Way::Stream(_) => format!("{} s", exchange::dialect(&source).pace.max_age.as_secs()),
        };
        [kind.name.to_owned(), source.symbol().to_owned(), stale]
    });
    assert_eq!(rows, made);
}

/// Bounds that are not visible to peers: how the program treats its exchange, its children, its files and its screen.
const INNER_BOUNDS: &[&str] = &[
    "HANDSHAKE_MS_MAX",
    "LEAD_MS_MIN",
    "LEAD_US_PER_COLLECTOR",
    "LEAD_MS_MAX",
    "CONNECTION_AGES",
    "CONNECTION_AGE_STEP",
    "RESOLVE_AGAIN_MS_MAX",
    "RESOLVE_MS_MAX",
    "HTTP_HEAD_BYTES_MAX",
    "BODY_BYTES_MAX",
    "BODY_MS_MAX",
    "FIRST_PRICE_AGAIN_MS",
    "SILENT_MS",
    "RESTART_AGAIN_MS_MIN",
    "OUTPUT_END_MS_MAX",
    "JOURNAL_LINE_BYTES_MAX",
    "RESTART_MS_MIN",
    "RESTART_MS_MAX",
    "RESTART_ROUNDS_GOOD",
    "JSON_DEPTH_MAX",
    "JSON_SPANS_MAX",
    "JSON_ITEMS_MAX",
    "MESSAGE_BYTES_MAX",
    "TOML_BYTES_MAX",
    "PEM_BYTES_MAX",
    "CERTIFICATE_FILES_MAX",
    "ACCEPTS_PER_SWEEP",
    "SLICE_MS",
    "RETRY_MS_MAX",
    "AWAY_MS_MIN",
    "LIMITED_MS",
    "CONNECT_MS_MAX",
    "TLS_MS_MAX",
    "UPGRADE_MS_MAX",
    "OPEN_MS_MAX",
    "PROXY_MS_MAX",
    "CERTIFICATE_BYTES_MAX",
    "CLOCK_OFF_US_MAX",
    "FIRST_PRICE_MS_MAX",
    "RESUBSCRIBE_AGES",
    "FIRST_RETRY_MS_MAX",
    "GOOD_PAUSES",
    "CUT_SHORT_MAX",
    "RETRY_LATE_MS_MAX",
    "COMPLAINTS_MAX",
    "COMPLAINTS_MS",
    "STREAM_QUIET_US",
    "RETRY_AFTER_MS_MAX",
    "RECONNECT_MS",
    "LAST_WORDS_MS_MAX",
    "CHILD_END_MS_MAX",
    "QUIET_US",
    "LOG_LINE_BYTES_MAX",
    "DISPLAY_LINES_MAX",
    "SERVED_LINE_BYTES_MAX",
    "TILE_REPORTS",
    "REQUEST_HEAD_BYTES_MAX",
    "REQUEST_FIELDS_MAX",
    "WAIT_US_MAX",
    "SERVE_CONNECTIONS_MAX",
    "PASSED_FILE_BYTES_MAX",
    "ROUND_WAIT_MS",
];

#[test]
fn the_table_of_bounds_holds_every_bound_that_a_peer_can_see() {
    macro_rules! bounds {
        ($($name:ident)*) => { BTreeMap::from([$((stringify!($name).to_owned(), $name as f64)),*]) };
    }
    let made: BTreeMap<String, f64> = bounds! {
        CONTROL_PORT DATA_PORT COLLECTORS_MAX FEEDS_MAX SAMPLES_MAX INTERVAL_US_MIN INTERVAL_US_MAX ROUND_US_MAX PERIOD_US_MIN
        CLEAR_PART CLEAR_US_MIN CLEAR_US_MAX CLOSING_US_MIN CLOSING_US_MAX TRAVEL_US_MIN REPLY_MS_MAX
        VALID_PERCENT_MIN FEED_BYTES_MAX SOURCE_BYTES_MAX PPM_MAX TIME_US_MAX PRICE_MIN PRICE_MAX PRICE_TEXT_BYTES_MAX
        HELLO_MS_MAX FRAME_MS_MAX STRANGERS_MAX PING_MS SILENCE_MS_MAX AHEAD_US_MAX CONNECT_SLICE_MS DATA_IDLE_MS_MAX
        CLOCK_PARTS_US_MAX CLOCK_PARTS_US_PER_S FUTURE_US_MAX
    };
    let row = |cells: Vec<String>| {
        let value = cells[1].parse::<f64>().expect("a number");
        (cells[0].trim_matches('`').to_owned(), value)
    };
    let rows = table(&document(), "Bounds and deadlines");
    assert_eq!(rows.len(), made.len());
    let documented: BTreeMap<String, f64> = rows.into_iter().map(row).collect();
    assert_eq!(documented, made);
    let source = [
        file("src/proof/limits.rs"),
        file("src/system/limits.rs"),
        file("src/aggregator/limits.rs"),
        file("src/collector/limits.rs"),
        file("src/exchange/limits.rs"),
        file("src/follow/limits.rs"),
        file("src/serve/limits.rs"),
        file("src/verify/lines.rs"),
    ];
    let names = source
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'))
        .map(|(name, _)| name);
    for name in names {
        let known = made.contains_key(name) != INNER_BOUNDS.contains(&name);
        assert!(
            known,
            "{name}: a row in docs/PROTOCOL.md, or an inner bound?"
        );
    }
}

/// The lines of the document's blocks that are marked `kind`.
fn documented_lines(document: &str, kind: &str) -> Vec<String> {
    let begin = format!("```{kind}");
    let mut lines = document.lines();
    let mut all = Vec::new();
    while lines.any(|line| line == begin) {
        all.extend(lines.next().map(str::to_owned));
        assert_eq!(lines.next(), Some("```"), "a report is one line");
    }
    all
}

#[test]
fn the_lines_of_the_document_are_those_of_the_library_byte_for_byte_and_check() {
    let story = Story::play();
    let made = story.lines();
    let documented = documented_lines(&document(), "json");
    assert!(
        documented == made,
        "the document should say:\n{}",
        made.join("\n")
    );
    let mut verifier = Verifier::default();
    for line in &documented {
        assert_eq!(json::check(line), Ok(()));
        let flaws = verifier.check(line, story.next.round.start_us).flaws;
        assert_eq!(flaws, [""; 0], "{line}");
    }
}

#[test]
fn one_answer_under_two_signatures_is_a_duplicate_and_no_proof() {
    let story = Story::play();
    let line = story.no_proof().line();
    let documented = documented_lines(&document(), "refused");
    assert_eq!(
        documented,
        [line.as_str()],
        "the document, then the library"
    );
    let flaws = Verifier::default()
        .check(&line, story.next.round.start_us)
        .flaws;
    assert_eq!(flaws, ["both answers are the same"]);
    let mut round = Round::new(story.terms.clone(), story.report.round.start_us);
    round.parts[0] = story.report.round.parts[0].clone();
    let records = round.parts[0].records.clone();
    let heard = round.observe(0, &records, &story.signed_again().encode());
    assert_eq!(heard, Err(Reject::Duplicate));
}

/// The keys of every object in a line, in order, each with the path of its object: `policy.deviation`.
fn keys_of_objects(line: &str) -> Vec<Vec<String>> {
    let (mut open, mut all): (Vec<(String, Vec<String>)>, _) = (Vec::new(), Vec::new());
    let mut key = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '"' => {
                let (text, behind) = rest.split_once('"').expect("no escapes");
                rest = behind;
                if let (Some(_), Some((path, keys))) = (rest.strip_prefix(':'), open.last_mut()) {
                    key = format!("{path}{text}");
                    keys.push(key.clone());
                }
            }
            '{' => {
                let path = if open.is_empty() { "" } else { "." };
                open.push((format!("{key}{path}"), Vec::new()));
            }
            '}' => {
                let (path, keys) = open.pop().expect("it was opened");
                key = path.trim_end_matches('.').to_owned();
                all.push(keys);
            }
            _ => {}
        }
    }
    all
}

#[test]
fn the_table_of_keys_holds_every_key_of_a_report_in_order() {
    let rows = table(&document(), "The line, key by key");
    let documented: Vec<String> = rows
        .iter()
        .flat_map(|row| row[0].split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    let mut story = Story::play();
    let mut lines = vec![story.report.line(), story.next.line()];
    // What the document's example lacks: an age, and a second answer.
    let part = &mut story.report.round.parts[0];
    part.records[0].age_us = Some(1);
    part.equivocated = part.signed_answer();
    lines.push(story.report.line());
    let mut seen = BTreeSet::new();
    for keys in lines.iter().flat_map(|line| keys_of_objects(line)) {
        let place = |key: &String| documented.iter().position(|name| name == key);
        let places: Vec<Option<usize>> = keys.iter().map(place).collect();
        let known = places.iter().all(Option::is_some);
        assert!(known && places.is_sorted(), "{keys:?}: {places:?}");
        seen.extend(keys);
    }
    assert_eq!(seen, documented.into_iter().collect());
}

#[test]
fn openssl_takes_the_documents_signatures_and_makes_the_same() {
    let vectors = documented_vectors(&document());
    let get = |name: &str| bytes(vectors.get(name).unwrap_or_else(|| panic!("no {name}")));
    let last_64 = |frame: Vec<u8>| frame[frame.len() - 64..].to_vec();
    for (who, what, signature) in [
        ("slot0", "slot0.hello", "slot0.hello"),
        ("slot0", "slot0.observation", "slot0.observation"),
        ("slot4", "slot4.observation", "slot4.observation"),
        ("slot0", "two.change", "two.change.signature"),
        ("aggregator", "report", "report.signature"),
        ("aggregator", "next", "next.signature"),
    ] {
        let public = get(&format!("{who}.public"));
        let (mut message, signature) = (get(&format!("{what}.signed")), last_64(get(signature)));
        assert!(openssl_takes(&public, &message, &signature), "{what}");
        let made = openssl_signs(&get(&format!("{who}.seed")), &message);
        assert_eq!(hex(&made), hex(&signature), "{what}");
        message[40] ^= 1;
        assert!(!openssl_takes(&public, &message, &signature), "{what}");
    }
    let message = get("slot0.observation.signed");
    let again = get("slot0.again.signature");
    assert!(openssl_takes(&get("slot0.public"), &message, &again));
}

#[test]
fn sha512sum_makes_the_documents_digests() {
    let vectors = documented_vectors(&document());
    let digests = vectors
        .iter()
        .filter_map(|(name, digest)| Some((name.strip_suffix(".digest")?, digest)));
    let mut count = 0;
    for (name, digest) in digests {
        let digested = kept("digested", &bytes(&vectors[&format!("{name}.digested")]));
        let output = Command::new("sha512sum").arg(digested).output();
        let text = String::from_utf8(output.expect("sha512sum runs").stdout).expect("text");
        assert_eq!(text.get(..64), Some(digest.as_str()), "{name}");
        count += 1;
    }
    assert_eq!(
        count, 9,
        "terms and a roster, twice, and the samples of five collectors"
    );
}
