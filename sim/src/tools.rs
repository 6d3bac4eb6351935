//! The kafka-* tools that need no cluster: they read files of this machine.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use client::command::dump_log::{DumpOptions, dump};

/// `kafka-dump-log`: what is in segments, indexes and snapshots.
pub fn dump_log(args: &[String]) -> u8 {
    let options = match DumpOptions::parse(args.iter().map(String::as_str)) {
        Ok(options) => options,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return 1;
        }
    };
    let mut read: BTreeMap<String, Option<Bytes>> = BTreeMap::new();
    let dumped = dump(&options, &codecs::StdCodecs, &mut |path| {
        read.entry(path.to_owned()).or_insert_with(|| std::fs::read(path).ok().map(Bytes::from)).clone()
    });
    let _ = std::io::stdout().write_all(dumped.stdout.as_bytes());
    let _ = std::io::stderr().write_all(dumped.stderr.as_bytes());
    u8::try_from(dumped.exit).unwrap_or(1)
}
