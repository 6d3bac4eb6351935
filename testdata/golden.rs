//! Log directories that Apache Kafka 4.3.1 wrote, and its own tool's words about them. See README.md beside this file.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use codecs::StdCodecs;
use wire::{Codecs, Compression};

/// The files of the archive: path and content, sorted by path.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let archive = include_bytes!("kafka-4.3.1-disks.tar.zst");
    let tar = StdCodecs.decompress(Compression::Zstd, archive, 8 << 20).expect("the archive is whole");
    let mut files = Vec::new();
    let mut at = 0;
    while at + 512 <= tar.len() && tar[at] != 0 {
        let field = |from: usize, len: usize| {
            let bytes = &tar[at + from..at + from + len];
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(len);
            core::str::from_utf8(&bytes[..end]).expect("ASCII").trim()
        };
        let size = usize::from_str_radix(field(124, 12), 8).expect("octal");
        if tar[at + 156] == b'0' {
            files.push((String::from(field(0, 100)), tar[at + 512..at + 512 + size].to_vec()));
        }
        at += 512 + size.div_ceil(512) * 512;
    }
    files.sort();
    files
}

/// One file of the archive.
#[allow(dead_code, reason = "not every test that includes this module asks for single files")]
pub fn file(path: &str) -> Vec<u8> {
    let found = files().into_iter().find(|(name, _)| name == path);
    found.unwrap_or_else(|| panic!("{path} is not in the archive")).1
}
