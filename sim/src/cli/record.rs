//! The record of a run: what it takes to run it again, and what the digest was on the way.
//!
//! A text file, a JSON value a line, each behind the CRC-32C of its line: a byte that was changed is found with its
//! line. `highwater replay` runs it again and says where the two part.

use serde_json::{Value, json};

use crate::world::digest::{Checkpoint, DigestTrail};
use crate::world::time::SimTime;

/// Raised when the format changes.
const FORMAT: u64 = 1;

/// What is in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which build of Highwater wrote it.
    pub build: String,
    /// The scenario's path as the user wrote it.
    pub path: String,
    /// The scenario's text.
    pub text: String,
    /// The variant.
    pub variant: Option<String>,
    /// `POINTER=VALUE`, in order.
    pub overrides: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The digest, and its running values on the way.
    pub trail: DigestTrail,
}

/// Version and profile-independent name of this build.
pub fn build() -> String {
    format!("highwater {}", env!("CARGO_PKG_VERSION"))
}

impl Record {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |value: Value| {
            let json = value.to_string();
            text.push_str(&format!("{:08x} {json}\n", crc(&json)));
        };
        line(
            json!({ "highwater_record": FORMAT, "build": self.build, "seed": self.seed, "variant": self.variant, "overrides": self.overrides }),
        );
        line(json!({ "path": self.path, "scenario": self.text }));
        for checkpoint in &self.trail.checkpoints {
            line(json!([checkpoint.frames, checkpoint.at.0, format!("{:032x}", checkpoint.value)]));
        }
        line(json!({ "digest": self.trail.end }));
        text
    }

    /// Reads a file's text. An error names the line.
    pub fn parse(text: &str) -> Result<Record, String> {
        let mut lines = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let number = i + 1;
            let damaged = || format!("line {number} is damaged: its checksum does not match");
            let (sum, json) = line.split_once(' ').ok_or_else(damaged)?;
            if sum != format!("{:08x}", crc(json)) {
                return Err(damaged());
            }
            lines.push(
                serde_json::from_str::<Value>(json).map_err(|e| format!("line {number} is not JSON: {e}"))?,
            );
        }
        if !text.ends_with('\n') {
            return Err(format!("line {} has no end: the record is cut off", lines.len()));
        }
        let [head, scenario, checkpoints @ .., end] = lines.as_slice() else {
            return Err("it has fewer than three lines: the record is cut off".to_owned());
        };
        if head["highwater_record"] != FORMAT {
            return Err(format!("line 1: expected a record of format {FORMAT}"));
        }
        let text = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).ok_or_else(|| format!("the record lacks {what}"))
        };
        let number =
            |value: &Value, what: &str| value.as_u64().ok_or_else(|| format!("the record lacks {what}"));
        let mut trail = DigestTrail { checkpoints: Vec::new(), end: text(&end["digest"], "digest")? };
        for (i, line) in checkpoints.iter().enumerate() {
            let what = format!("a checkpoint on line {}", i + 3);
            let value = text(&line[2], &what)?;
            trail.checkpoints.push(Checkpoint {
                frames: number(&line[0], &what)?,
                at: SimTime(number(&line[1], &what)?),
                value: u128::from_str_radix(&value, 16).map_err(|e| format!("{what}: {e}"))?,
            });
        }
        Ok(Record {
            build: text(&head["build"], "build")?,
            path: text(&scenario["path"], "path")?,
            text: text(&scenario["scenario"], "scenario")?,
            variant: head["variant"].as_str().map(str::to_owned),
            overrides: head["overrides"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
            seed: number(&head["seed"], "seed")?,
            trail,
        })
    }
}

fn crc(text: &str) -> u32 {
    wire::Codecs::crc32c(&codecs::StdCodecs, 0, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let checkpoint = Checkpoint { frames: 4096, at: SimTime(12), value: 0xabcd };
        Record {
            build: build(),
            path: "a.json".into(),
            text: "{ \"title\": \"x\" }\n".into(),
            variant: Some("v".into()),
            overrides: vec!["/a=1".into()],
            seed: 7,
            trail: DigestTrail { checkpoints: vec![checkpoint], end: "b3ff".into() },
        }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(Record::parse(&record().to_text()), Ok(record()));
    }

    #[test]
    fn every_changed_byte_is_found() {
        let text = record().to_text();
        for i in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(Record::parse(&changed).is_err(), "byte {i}");
            }
        }
        assert!(Record::parse(&text[..text.len() - 1]).is_err());
        assert!(Record::parse("").is_err());
    }
}
