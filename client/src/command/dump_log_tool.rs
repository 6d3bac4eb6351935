//! `kafka-dump-log` as a command: over the files that the process was given.

use super::dump_log::{DumpOptions, dump};
use super::options::Help;
use super::session::{Console, Ran, Session, Stop};

const HELP: Help = Help(include_str!("help/kafka-dump-log.txt"));

const ABOUT: &str = "This tool helps to parse a log file and dump its contents to the console, useful for debugging a \
                     seemingly corrupt log segment.";

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let spec = s.spec;
    let words = &spec.words[1..];
    if words.is_empty() || words.iter().any(|word| word == "--help") {
        return Err(s.usage(HELP, ABOUT));
    }
    if words.iter().any(|word| word == "--version") {
        s.line(super::VERSION);
        return Ok(());
    }
    let options = match DumpOptions::parse(words.iter().map(alloc::string::String::as_str)) {
        Ok(options) => options,
        Err(error) => {
            return Err(s.usage(HELP, &alloc::string::ToString::to_string(&error)));
        }
    };
    let files = &spec.files;
    let dumped = dump(&options, s.codecs, &mut |path| files.get(path).cloned());
    s.print_both(dumped.stdout, dumped.stderr);
    if dumped.exit == 0 { Ok(()) } else { Err(Stop::Exit(dumped.exit)) }
}
