//! More collectors than the system keeps waiting at a door (128): all get in, and nobody honest is counted as refused.

mod support;

use support::*;

/// All must answer within a second and a half, which a busy machine may not manage in every round: the first in which it does
/// is looked at.
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
    let refused = "is in no slot of the round";
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
