//! More collectors than a listener's queue holds (128): all of them join, and no honest one is counted as refused.

mod support;

use support::*;

/// All must answer within a second and a half. A busy machine may not manage that in every round, so the first round in which
/// it does is checked.
#[test]
fn a_hundred_and_fifty_collectors_all_get_in_and_all_count() {
    let running = start(&[
        "run",
        "--collectors",
        "150",
        "--source",
        "embedded:BTCUSDT",
        "--samples",
        "1",
        "--interval",
        "1s",
        "--every",
        "5s",
        "--ready-timeout",
        "4m",
        "--control-port",
        "0",
        "--data-port",
        "0",
        "--json",
    ]);
    eventually("a round in which all count", || {
        let counted = "\"signatures_verified\":150";
        running.stdout().contains(counted).then_some(())
    });
    let refused = "is in no slot of the roster";
    assert!(
        !running.stdout().contains(refused),
        "a preamble was judged before the hello that came before it"
    );
    let said = running.stderr();
    assert!(
        !said.contains("started again"),
        "all got in at once: {said}"
    );
}
