//! `kafka-dump-log` as a command: over the files that the process was given.

use super::dump_log::{DumpOptions, dump};
use super::session::{Console, Ran, Session, Stop};

const ABOUT: &str = "This tool helps to parse a log file and dump its contents to the console, useful for debugging a \
                     seemingly corrupt log segment.";

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let spec = s.spec;
    let words = &spec.words[1..];
    if words.is_empty() || words.iter().any(|word| word == "--help") {
        s.complain(ABOUT);
        return Err(Stop::Exit(1));
    }
    if words.iter().any(|word| word == "--version") {
        s.line(super::VERSION);
        return Ok(());
    }
    let options = match DumpOptions::parse(words.iter().map(alloc::string::String::as_str)) {
        Ok(options) => options,
        Err(error) => {
            s.complain(alloc::string::ToString::to_string(&error));
            return Err(Stop::Exit(1));
        }
    };
    let files = &spec.files;
    let dumped = dump(&options, s.codecs, &mut |path| files.get(path).cloned());
    s.print_both(dumped.stdout, dumped.stderr);
    if dumped.exit == 0 { Ok(()) } else { Err(Stop::Exit(dumped.exit)) }
}
