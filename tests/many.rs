//! More collectors than the system keeps waiting at a door (128): all get in, and nobody honest is counted as refused.

mod support;

use support::*;

#[test]
fn a_hundred_and_fifty_collectors_all_get_in_and_all_count() {
    let done = run(&[
        "run",
        "--collectors",
        "150",
        "--source",
        "embedded:BTCUSDT",
        "--samples",
        "1",
        "--interval",
        "1s",
        "--ready-timeout",
        "60s",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
        "--quiet",
    ]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.contains("\"signatures_verified\":150"),
        "{}",
        done.stderr
    );
    assert!(
        !done.stdout.contains("is in no slot of the round"),
        "a preamble was judged before the hello that came before it"
    );
}
