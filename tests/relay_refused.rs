//! `rsoracle relay` and a scripted NATS server that refuses what it is sent, as clusters do now and then.

mod nats;
mod signed;
mod support;

use nats::scripted::{Scripted, error};
use nats::*;

#[test]
fn what_a_cluster_cannot_take_at_the_moment_is_sent_again() {
    let mut book = Book::new(&["BTC/USD"]);
    book.grow(3);
    let mut server = Scripted::start();
    server.refusals = vec![
        error(409, 10_158, "duplicate message id is in process"),
        error(400, 10_164, "wrong last sequence"),
        error(429, 10_167, "too many requests"),
        error(400, 10_002, "resource limits exceeded for account"),
        error(400, 10_164, "wrong last sequence"),
    ];
    let mut relay = book.relay(&server.url(), &[]);
    server.until_stored(&book, &mut relay);
    assert!(server.refusals.is_empty());
    // Only what the server or the account lacks needs another connection.
    assert_eq!(server.opened, 3, "{}", relay.stderr());
}
