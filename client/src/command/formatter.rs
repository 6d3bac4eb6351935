//! Records as text (`DefaultMessageFormatter.java`).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::batch::{Record, TimestampType};

use super::session::Exception;
use crate::event::TopicPartition;

/// How bytes become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deserializer {
    /// As they are.
    Raw,
    /// A big-endian number of so many bytes.
    Number(usize, &'static str),
}

impl Deserializer {
    fn named(class: &str) -> Option<Deserializer> {
        Some(match class.strip_prefix("org.apache.kafka.common.serialization.")? {
            "StringDeserializer" | "ByteArrayDeserializer" => Deserializer::Raw,
            "LongDeserializer" => Deserializer::Number(8, "LongDeserializer"),
            "IntegerDeserializer" => Deserializer::Number(4, "IntegerDeserializer"),
            "ShortDeserializer" => Deserializer::Number(2, "ShortDeserializer"),
            _ => return None,
        })
    }

    fn write(self, bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Exception> {
        match self {
            Deserializer::Raw => text.extend_from_slice(bytes),
            Deserializer::Number(size, name) if bytes.len() != size => {
                return Err(Exception::new(
                    "org.apache.kafka.common.errors.SerializationException",
                    format!("Size of data received by {name} is not {size}"),
                ));
            }
            Deserializer::Number(size, _) => {
                let raw = bytes.iter().fold(0i64, |number, &byte| number << 8 | byte as i64);
                let unused = 64 - 8 * size as u32;
                text.extend_from_slice(((raw << unused) >> unused).to_string().as_bytes());
            }
        }
        Ok(())
    }
}

/// Which columns are printed, and how.
#[derive(Clone, Debug)]
pub(super) struct Formatter {
    timestamp: bool,
    partition: bool,
    offset: bool,
    delivery: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
    deserializers: [Deserializer; 3],
    /// `NoOpMessageFormatter`.
    silent: bool,
}

/// The order of `deserializers`.
const KEY: usize = 0;
const VALUE: usize = 1;
const HEADERS: usize = 2;

impl Formatter {
    /// From the class's name and its properties, and the deserializers that could not be made.
    pub fn new(
        class: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<(Formatter, Vec<String>), Exception> {
        let simple = ["org.apache.kafka.tools.consumer.", "kafka.tools."]
            .iter()
            .find_map(|package| class.strip_prefix(package));
        let silent = match simple {
            Some("DefaultMessageFormatter" | "LoggingMessageFormatter") => false,
            Some("NoOpMessageFormatter") => true,
            _ => return Err(Exception::new("java.lang.ClassNotFoundException", class)),
        };
        let flag = |name: &str, default: bool| {
            properties.get(name).map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
        };
        let text = |name: &str, default: &str| {
            properties.get(name).map_or_else(|| default.to_string(), Clone::clone)
        };
        let mut unknown = Vec::new();
        let mut deserializer = |name: &str| {
            let Some(class) = properties.get(name) else { return Deserializer::Raw };
            Deserializer::named(class).unwrap_or_else(|| {
                unknown.push(class.clone());
                Deserializer::Raw
            })
        };
        let deserializers =
            ["key.deserializer", "value.deserializer", "headers.deserializer"].map(&mut deserializer);
        let formatter = Formatter {
            timestamp: flag("print.timestamp", false),
            partition: flag("print.partition", false),
            offset: flag("print.offset", false),
            delivery: flag("print.delivery", false),
            epoch: flag("print.epoch", false),
            headers: flag("print.headers", false),
            key: flag("print.key", false),
            value: flag("print.value", true),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null"),
            deserializers,
            silent,
        };
        Ok((formatter, unknown))
    }

    /// Writes a record. What was written before an error stays written.
    pub fn write(
        &self,
        partition: &TopicPartition,
        record: &Record<'_>,
        text: &mut Vec<u8>,
    ) -> Result<(), Exception> {
        if self.silent {
            return Ok(());
        }
        let columns = [
            (self.timestamp, timestamp(record)),
            (self.partition, format!("Partition:{}", partition.partition)),
            (self.offset, format!("Offset:{}", record.offset)),
            // The tool gives its formatter neither a delivery count nor a leader epoch.
            (self.delivery, "Delivery:NOT_PRESENT".to_string()),
            (self.epoch, "Epoch:NOT_PRESENT".to_string()),
        ];
        let mut to_come = columns.iter().filter(|(wanted, _)| *wanted).count();
        to_come += [self.headers, self.key, self.value].iter().filter(|&&wanted| wanted).count();
        for (_, column) in columns.into_iter().filter(|(wanted, _)| *wanted) {
            text.extend_from_slice(column.as_bytes());
            self.end_column(&mut to_come, text);
        }
        if self.headers {
            self.write_headers(record, text)?;
            self.end_column(&mut to_come, text);
        }
        if self.key {
            self.deserialize(KEY, record.key, text)?;
            self.end_column(&mut to_come, text);
        }
        if self.value {
            self.deserialize(VALUE, record.value, text)?;
            self.end_column(&mut to_come, text);
        }
        Ok(())
    }

    /// A separator, or the end of the line behind the last column.
    fn end_column(&self, to_come: &mut usize, text: &mut Vec<u8>) {
        *to_come -= 1;
        let end = if *to_come == 0 { &self.line_separator } else { &self.key_separator };
        text.extend_from_slice(end.as_bytes());
    }

    fn write_headers(&self, record: &Record<'_>, text: &mut Vec<u8>) -> Result<(), Exception> {
        let mut first = true;
        for header in record.headers {
            if !core::mem::take(&mut first) {
                text.extend_from_slice(self.headers_separator.as_bytes());
            }
            text.extend_from_slice(header.key.as_bytes());
            text.push(b':');
            self.deserialize(HEADERS, header.value, text)?;
        }
        if first {
            text.extend_from_slice(b"NO_HEADERS");
        }
        Ok(())
    }

    fn deserialize(&self, which: usize, bytes: Option<&[u8]>, text: &mut Vec<u8>) -> Result<(), Exception> {
        self.deserializers[which].write(bytes.unwrap_or(self.null_literal.as_bytes()), text)
    }
}

fn timestamp(record: &Record<'_>) -> String {
    let name = match record.timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    format!("{name}:{}", record.timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(properties: &[(&str, &str)], record: &Record<'_>) -> Result<String, Exception> {
        let properties = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let class = "org.apache.kafka.tools.consumer.DefaultMessageFormatter";
        let (formatter, _) = Formatter::new(class, &properties)?;
        let mut text = Vec::new();
        formatter.write(&TopicPartition::new("t", 2), record, &mut text)?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn columns_are_printed_in_kafkas_order() {
        let record = Record {
            offset: 7,
            timestamp: 1000,
            timestamp_type: TimestampType::LogAppendTime,
            sequence: -1,
            size_in_bytes: 0,
            key: Some(b"carol"),
            value: Some(b"ink"),
            headers: Default::default(),
        };
        assert_eq!(text(&[], &record).unwrap(), "ink\n");
        let most = [
            ("print.key", "true"),
            ("print.partition", "true"),
            ("print.offset", "true"),
            ("key.separator", "-"),
        ];
        assert_eq!(text(&most, &record).unwrap(), "Partition:2-Offset:7-carol-ink\n");
        let rest = [
            ("print.timestamp", "true"),
            ("print.epoch", "true"),
            ("print.headers", "true"),
            ("print.value", "false"),
        ];
        let expected = "LogAppendTime:1000\tEpoch:NOT_PRESENT\tNO_HEADERS\n";
        assert_eq!(text(&rest, &record).unwrap(), expected);
        let tombstone = Record { value: None, ..record };
        assert_eq!(text(&[("null.literal", "-")], &tombstone).unwrap(), "-\n");
        let number = Record { value: Some(&[0xff, 0xff, 0xff, 0xfe]), ..record };
        let as_integer =
            [("value.deserializer", "org.apache.kafka.common.serialization.IntegerDeserializer")];
        assert_eq!(text(&as_integer, &number).unwrap(), "-2\n");
        let error = text(&as_integer, &record).unwrap_err();
        assert_eq!(error.message_text(), "Size of data received by IntegerDeserializer is not 4");
    }
}
