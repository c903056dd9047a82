//! `run --config FILE --check`: flags, an empty line, the file. The printed configuration reads back as the same settings,
//! which print the same text.
#![no_main]

use rsoracle::flags::args;
use rsoracle::flags::args::{Given, Usage};
use rsoracle::flags::tables::RUN;
use rsoracle::cli::run::{self, Configuration};
use rsoracle::cli::file;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (flags, page) = text.split_once("\n\n").unwrap_or((text, ""));
    let words: Vec<String> = flags.lines().map(str::to_owned).collect();
    match meant(&words, page) {
        Err(Usage(sentence)) => assert!(!sentence.is_empty()),
        Ok((given, mut run)) => {
            let shown = file::render(&given, &run);
            let again = meant(&[], &shown);
            let (given, mut back) = again.unwrap_or_else(|Usage(wrong)| panic!("{wrong}: {shown}"));
            assert_eq!(file::render(&given, &back), shown);
            // A proxy's user and password are not printed. The collectors find them in their environment.
            let [one, other] = [&mut run, &mut back].map(|run| {
                let children = run.run.children.iter_mut();
                let variables = children.flat_map(|it| std::mem::take(&mut it.environment));
                let names: Vec<&str> = variables.map(|(name, _)| name).collect();
                (run.proxy.take().map(|proxy| proxy.url_shown()), names)
            });
            assert_eq!(one, other);
            // The printed one names the ports, so that no others are taken instead.
            back.run.any_port_will_do = run.run.any_port_will_do;
            assert_eq!(run, back, "{shown}");
        }
    }
});

fn meant(words: &[String], page: &str) -> Result<(Given, Configuration), Usage> {
    let mut given = args::parse(&RUN, words)?;
    file::read(&mut given, "oracle.toml", page)?;
    let run = run::read(&given)?;
    Ok((given, run))
}
