//! The examples in docs/CONSUMING.md that ask `rsoracle serve`, in Python and in a browser.

mod browser;
mod served;
mod signed;
mod support;

use browser::Browser;
use nanoserde::SerJson;
use rsoracle::system::now::wall_us;
use served::*;
use signed::Says::Price;
use std::process::Command;

/// The first example in a language that asks the server, with the address of this one.
fn example(language: &str, served: &Served) -> String {
    let document = include_str!("../docs/CONSUMING.md");
    let begin = format!("```{language}\n");
    let mut blocks = document.split(&begin).skip(1);
    let asks = blocks.find(|block| block.split("```").next().unwrap().contains("8090/"));
    let block = asks.expect("an example").split("```").next().unwrap();
    block.replace("127.0.0.1:8090", &served.address.to_string())
}

fn append(book: &mut Book, price: f64) {
    let line = book.next(&[Price(price); 5]);
    book.append(&(line + "\n"));
}

/// A journal of three reports, of which the last is a moment old, and its server.
fn book() -> (Book, Served) {
    let mut book = Book::new((wall_us() / 10_000_000 - 3) * 10_000_000);
    for price in [101.0, 102.0, 103.5] {
        append(&mut book, price);
    }
    let served = Served::start(&book.path, &[]);
    served.until("/v1/feeds", |answered| answered.status == 200);
    (book, served)
}

#[test]
#[ignore = "needs python"]
fn the_example_in_python_prints_the_newest_price() {
    let (_book, served) = book();
    let python = std::env::var_os("RSORACLE_PYTHON").expect("RSORACLE_PYTHON names a Python");
    let script = example("python", &served);
    let fresh = |script: &str| Command::new(&python).args(["-c", script]).output().unwrap();
    let done = fresh(&script.replace("max_age=15s", "max_age=1h"));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "103.5\n", "{done:?}");
    let done = fresh(&script.replace("max_age=15s", "max_age=1ms"));
    assert!(!done.status.success() && done.stdout.is_empty(), "{done:?}");
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(error.contains("503"), "{error}");
}

#[test]
#[ignore = "needs chromium"]
fn the_example_in_javascript_has_every_report_after_the_one_that_it_names() {
    let (mut book, served) = book();
    let mut browser = Browser::start(&[]);
    browser.value("console.log = (...words) => (window.told ??= []).push(words.join(' '))");
    let script = example("js", &served).replace("since=1234", "since=1");
    browser.value(&format!("eval({})", script.serialize_json()));
    browser.until("told.map((line) => line.split(' ')[1]).join()", "102,103.5");
    append(&mut book, 104.25);
    browser.until(
        "told.map((line) => line.split(' ')[1]).join()",
        "102,103.5,104.25",
    );
    browser.until("told[2].split(' ')[0].split('-')[1]", "4");
}
