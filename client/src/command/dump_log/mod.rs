//! `kafka-dump-log`: the contents of segments, indexes, producer snapshots and metadata snapshots as text.
//!
//! Follows `DumpLogSegments` of Apache Kafka 4.3, word for word. It is a function over bytes: whoever runs it hands it
//! a way to read files by their path, and gets what the tool prints.

mod decode;
mod index;
mod log;
mod options;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use wire::Codecs;

pub use decode::Decoder;
pub use options::{DumpOptions, OptionsError};

/// What the tool printed, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// 0, or 1 after an error that ended it.
    pub exit: i32,
}

/// Reads a file by its path; nothing if it is not there.
pub type ReadFile<'a> = &'a mut dyn FnMut(&str) -> Option<Bytes>;

/// Dumps all files that the options name.
pub fn dump(options: &DumpOptions, codecs: &dyn Codecs, read: ReadFile<'_>) -> Dumped {
    let mut tool = Tool { options, codecs, read, out: Dumped::default(), findings: Findings::default() };
    for path in &options.files {
        if let Err(Fatal(why)) = tool.file(path) {
            tool.out.stderr.push_str(&format!("Exception in thread \"main\" {why}\n"));
            tool.out.exit = 1;
            return tool.out;
        }
    }
    tool.print_findings();
    tool.out
}

/// What ends the tool: an exception's class and message.
struct Fatal(String);

/// What does not fit together, told at the end.
#[derive(Default)]
struct Findings {
    index_mismatches: Vec<(String, Vec<(i64, i64)>)>,
    time_mismatches: Vec<(String, Vec<(i64, i64)>)>,
    time_order: Vec<(String, Vec<(i64, i64)>)>,
    offsets_not_found: Vec<(String, Vec<(i64, i64)>)>,
    non_consecutive: Vec<(String, Vec<(i64, i64)>)>,
}

/// Adds a finding under a file, files in the order in which they were first met.
fn note(list: &mut Vec<(String, Vec<(i64, i64)>)>, file: &str, pair: (i64, i64)) {
    match list.iter_mut().find(|(name, _)| name == file) {
        Some((_, pairs)) => pairs.push(pair),
        None => list.push((file.into(), [pair].into())),
    }
}

struct Tool<'a> {
    options: &'a DumpOptions,
    codecs: &'a dyn Codecs,
    read: ReadFile<'a>,
    out: Dumped,
    findings: Findings,
}

impl Tool<'_> {
    fn line(&mut self, text: &str) {
        self.out.stdout.push_str(text);
        self.out.stdout.push('\n');
    }

    fn complain(&mut self, text: &str) {
        self.out.stderr.push_str(text);
        self.out.stderr.push('\n');
    }

    fn file(&mut self, path: &str) -> Result<(), Fatal> {
        self.line(&format!("Dumping {path}"));
        let name = path.rsplit('/').next().expect("rsplit gives one part at least");
        match name.rfind('.').map_or("", |dot| &name[dot..]) {
            ".log" | ".checkpoint" => self.dump_log(path, name),
            ".index" => self.dump_index(path, name),
            ".timeindex" => self.dump_time_index(path, name),
            ".snapshot" => self.dump_producer_snapshot(path),
            ".txnindex" => self.dump_txn_index(path),
            _ => {
                self.complain(&format!("Ignoring unknown file {path}"));
                Ok(())
            }
        }
    }

    fn open(&mut self, path: &str) -> Result<Bytes, Fatal> {
        (self.read)(path).ok_or_else(|| Fatal(format!("java.nio.file.NoSuchFileException: {path}")))
    }

    fn print_findings(&mut self) {
        let findings = core::mem::take(&mut self.findings);
        for (file, pairs) in findings.index_mismatches {
            self.complain(&format!("Mismatches in :{file}"));
            for (index, log) in pairs.iter().rev() {
                self.complain(&format!("  Index offset: {index}, log offset: {log}"));
            }
        }
        for (file, pairs) in findings.time_mismatches {
            self.complain(&format!("Found timestamp mismatch in :{file}"));
            for (index, log) in pairs {
                self.complain(&format!("  Index timestamp: {index}, log timestamp: {log}"));
            }
        }
        for (file, pairs) in findings.time_order {
            self.complain(&format!("Found out of order timestamp in :{file}"));
            for (index, before) in pairs {
                self.complain(&format!("  Index timestamp: {index}, Previously indexed timestamp: {before}"));
            }
        }
        for (_, pairs) in findings.offsets_not_found {
            self.complain("The following indexed offsets are not found in the log.");
            for (index, log) in pairs {
                self.complain(&format!("Indexed offset: {index}, found log offset: {log}"));
            }
        }
        for (file, pairs) in findings.non_consecutive {
            self.complain(&format!("Non-consecutive offsets in {file}"));
            for (first, second) in pairs.iter().rev() {
                self.complain(&format!("  {first} is followed by {second}"));
            }
        }
    }
}

/// The base offset that a file's name begins with.
fn base_offset(name: &str) -> Result<i64, Fatal> {
    let digits = name.split('.').next().expect("split gives one part at least");
    digits
        .parse()
        .map_err(|_| Fatal(format!("java.lang.NumberFormatException: For input string: \"{digits}\"")))
}
