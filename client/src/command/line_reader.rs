//! The lines of standard input as records (`LineMessageReader.java`).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::session::Exception;

/// Headers in their order; a value may be null.
type HeaderList = Vec<(String, Option<Vec<u8>>)>;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: HeaderList,
}

/// How lines are read.
#[derive(Clone, Debug)]
pub(super) struct LineReader {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
    line: u64,
}

fn kafka(text: impl Into<String>) -> Exception {
    Exception::new("org.apache.kafka.common.KafkaException", text)
}

impl LineReader {
    /// From the reader's properties.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<LineReader, Exception> {
        let flag = |name: &str| properties.get(name).is_some_and(|v| v.trim().eq_ignore_ascii_case("true"));
        let text = |name: &str, default: &str| {
            properties.get(name).map_or_else(|| default.to_string(), Clone::clone)
        };
        let reader = LineReader {
            parse_key: flag("parse.key"),
            key_separator: text("key.separator", "\t"),
            parse_headers: flag("parse.headers"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            ignore_error: flag("ignore.error"),
            null_marker: properties.get("null.marker").cloned(),
            line: 0,
        };
        reader.check()?;
        Ok(reader)
    }

    fn check(&self) -> Result<(), Exception> {
        let parts = [
            ("headers.delimiter", &self.headers_delimiter),
            ("headers.separator", &self.headers_separator),
            ("headers.key.separator", &self.headers_key_separator),
        ];
        for (i, (name, text)) in parts.iter().enumerate() {
            if let Some((other, _)) = parts[i + 1..].iter().find(|(_, other)| other == text) {
                return Err(kafka(format!("{name} and {other} may not be equal")));
            }
        }
        let separators = [
            ("key.separator", &self.key_separator),
            ("headers.separator", &self.headers_separator),
            ("headers.delimiter", &self.headers_delimiter),
            ("headers.key.separator", &self.headers_key_separator),
        ];
        match separators.iter().find(|(_, text)| self.null_marker.as_ref() == Some(text)) {
            Some((name, _)) => Err(kafka(format!("null.marker and {name} may not be equal"))),
            None => Ok(()),
        }
    }

    /// The record of the next line.
    pub fn read(&mut self, line: &str) -> Result<LineRecord, Exception> {
        self.line += 1;
        let (headers, rest) =
            self.part(self.parse_headers, line, line, &self.headers_delimiter, "headers delimiter")?;
        let (key, value) = self.part(self.parse_key, line, rest, &self.key_separator, "key separator")?;
        let headers = match headers.filter(|headers| !self.is_null(headers)) {
            Some(headers) => self.headers(headers)?,
            None => Vec::new(),
        };
        Ok(LineRecord { key: key.and_then(|key| self.bytes(key)), value: self.bytes(value), headers })
    }

    /// What stands before a separator, and what behind it.
    fn part<'a>(
        &self,
        wanted: bool,
        line: &str,
        rest: &'a str,
        separator: &str,
        name: &str,
    ) -> Result<(Option<&'a str>, &'a str), Exception> {
        match rest.split_once(separator).filter(|_| wanted) {
            Some((part, rest)) => Ok((Some(part), rest)),
            None if !wanted || self.ignore_error => Ok((None, rest)),
            None => Err(kafka(format!("No {name} found on line number {}: '{line}'", self.line))),
        }
    }

    fn headers(&self, text: &str) -> Result<HeaderList, Exception> {
        let mut headers = Vec::new();
        for pair in text.split(self.headers_separator.as_str()) {
            match pair.split_once(self.headers_key_separator.as_str()) {
                Some((key, _)) if self.is_null(key) => {
                    let marker = self.null_marker.as_deref().unwrap_or_default();
                    return Err(kafka(format!(
                        "Header keys should not be equal to the null marker '{marker}' as they can't be null"
                    )));
                }
                Some((key, value)) => headers.push((key.to_string(), self.bytes(value))),
                None if self.ignore_error => headers.push((pair.to_string(), None)),
                None => {
                    return Err(kafka(format!(
                        "No header key separator found in pair '{pair}' on line number {}",
                        self.line
                    )));
                }
            }
        }
        Ok(headers)
    }

    fn is_null(&self, text: &str) -> bool {
        self.null_marker.as_deref() == Some(text)
    }

    fn bytes(&self, text: &str) -> Option<Vec<u8>> {
        (!self.is_null(text)).then(|| text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(properties: &[(&str, &str)]) -> LineReader {
        LineReader::new(&properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()).unwrap()
    }

    fn bytes(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn keys_headers_and_nulls() {
        let mut plain = reader(&[]);
        assert_eq!(plain.read("a\tb").unwrap().value, bytes("a\tb"));
        let mut keyed = reader(&[("parse.key", "true"), ("key.separator", ":"), ("null.marker", "NULL")]);
        let record = keyed.read("alice:book:2").unwrap();
        assert_eq!((record.key, record.value), (bytes("alice"), bytes("book:2")));
        let record = keyed.read("NULL:NULL").unwrap();
        assert_eq!((record.key, record.value), (None, None));
        let error = keyed.read("nokey").unwrap_err();
        assert_eq!(error.message_text(), "No key separator found on line number 3: 'nokey'");
        let mut all = reader(&[("parse.key", "true"), ("parse.headers", "true")]);
        let record = all.read("h1:v1,h2:v2\tk\tv").unwrap();
        assert_eq!(record.headers, [("h1".into(), bytes("v1")), ("h2".into(), bytes("v2"))]);
        assert_eq!((record.key, record.value), (bytes("k"), bytes("v")));
        let mut lenient = reader(&[("parse.key", "true"), ("ignore.error", "true")]);
        let record = lenient.read("plain").unwrap();
        assert_eq!((record.key, record.value), (None, bytes("plain")));
    }
}
