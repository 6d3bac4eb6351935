//! Messages and records as JSON, as Kafka's generated `…JsonConverter` classes print them.
//!
//! Fields come in the order of the schema under their names with a small first letter; a tagged field is there only if
//! it differs from its default; bytes are base64. For dumps and comments, not for any fast path.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use super::{Field, Schema, Type};
use crate::codec::{DecodeError, DecodeReason, Reader};
use crate::uuid::Uuid;

/// What may be printed in place of a field of bytes: given the field's name and content, JSON or nothing.
pub type Instead<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Option<String>;

/// Decodes a message at a version and prints it. What follows it in the reader is left.
pub fn write(
    schema: &Schema,
    version: i16,
    reader: &mut Reader<'_>,
    instead: Instead<'_>,
) -> Result<String, DecodeError> {
    reader.begin(schema.name);
    reader.check_version(version, schema.versions.min, schema.versions.max)?;
    let flexible = version >= schema.flexible_from;
    Printer { version, flexible, instead }.structure(schema.fields, reader)
}

/// A JSON string: with the escapes that Jackson makes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => write!(out, "\\u{:04X}", c as u32).expect("writing to a string"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A double as Java prints it: `2048.0`, `1.0E10`.
pub fn java_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

/// Standard base64 with padding, as Jackson prints bytes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for i in 0..4 {
            let six = (bits >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { ALPHABET[six as usize] as char } else { '=' });
        }
    }
    out
}

struct Printer<'a> {
    version: i16,
    flexible: bool,
    instead: Instead<'a>,
}

impl Printer<'_> {
    fn structure(&mut self, fields: &[Field], reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        let mut values: Vec<Option<String>> = Vec::with_capacity(fields.len());
        for field in fields {
            let here = field.versions.contains(self.version) && field.tag.is_none();
            values.push(if here { Some(self.value(field, reader)?) } else { None });
        }
        if self.flexible {
            for _ in 0..reader.uvarint()? {
                let (tag, end) = reader.tag()?;
                let known = |f: &Field| f.tag == Some(tag) && f.versions.contains(self.version);
                match fields.iter().position(known) {
                    Some(i) => {
                        let value = self.value(&fields[i], reader)?;
                        values[i] = Some(value).filter(|value| *value != default_of(&fields[i]));
                    }
                    None => reader.skip_to(end)?,
                }
                reader.tag_end(end)?;
            }
        }
        let mut out = String::from("{");
        for (field, value) in fields.iter().zip(&values) {
            if let Some(value) = value {
                let (first, rest) = field.name.split_at(1);
                let comma = if out.len() > 1 { "," } else { "" };
                write!(out, "{comma}\"{}{rest}\":{value}", first.to_lowercase())
                    .expect("writing to a string");
            }
        }
        out.push('}');
        Ok(out)
    }

    fn value(&mut self, field: &Field, reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        let nullable = field.nullable.is_some_and(|versions| versions.contains(self.version));
        let value = self.of_type(field, &field.ty, reader)?;
        match value {
            Some(value) => Ok(value),
            None if nullable => Ok("null".into()),
            None => Err(reader.error(DecodeReason::Null)),
        }
    }

    /// The value of a type; nothing if it is null.
    fn of_type(
        &mut self,
        field: &Field,
        ty: &Type,
        reader: &mut Reader<'_>,
    ) -> Result<Option<String>, DecodeError> {
        let flexible = self.flexible;
        Ok(Some(match ty {
            Type::Bool => reader.bool()?.to_string(),
            Type::Int8 => reader.i8()?.to_string(),
            Type::Int16 => reader.i16()?.to_string(),
            Type::Uint16 => reader.u16()?.to_string(),
            Type::Int32 => reader.i32()?.to_string(),
            Type::Uint32 => reader.u32()?.to_string(),
            Type::Int64 => reader.i64()?.to_string(),
            Type::Float64 => java_double(reader.f64()?),
            Type::Uuid => format!("\"{}\"", reader.uuid()?),
            Type::String => return Ok(reader.string_opt(flexible)?.map(|text| quote(&text))),
            Type::Bytes | Type::Records => {
                let Some(bytes) = reader.bytes_opt(flexible)? else { return Ok(None) };
                self.bytes(field, bytes)
            }
            Type::Struct(fields) => {
                let nullable = field.nullable.is_some_and(|versions| versions.contains(self.version));
                if nullable && matches!(field.ty, Type::Struct(_)) {
                    // A tagged structure is preceded by another kind of byte than one that is not.
                    let absent = if field.tag.is_some() { reader.uvarint()? == 0 } else { reader.i8()? < 0 };
                    if absent {
                        return Ok(None);
                    }
                }
                self.structure(fields, reader)?
            }
            Type::Array(element) => {
                let Some(len) = reader.array_len(flexible, 1)? else { return Ok(None) };
                let mut out = String::from("[");
                for i in 0..len {
                    let value = self.of_type(field, element, reader)?;
                    write!(out, "{}{}", if i > 0 { "," } else { "" }, value.as_deref().unwrap_or("null"))
                        .expect("writing to a string");
                }
                out.push(']');
                out
            }
        }))
    }

    fn bytes(&mut self, field: &Field, bytes: Cow<'_, [u8]>) -> String {
        (self.instead)(field.name, &bytes).unwrap_or_else(|| format!("\"{}\"", base64(&bytes)))
    }
}

/// How a field prints when it has its default.
fn default_of(field: &Field) -> String {
    match (&field.ty, field.default) {
        (Type::String, "null") | (_, "null") => "null".into(),
        (Type::String, text) => quote(text),
        (Type::Bytes | Type::Records, _) => "\"\"".into(),
        (Type::Uuid, "") => format!("\"{}\"", Uuid::ZERO),
        (Type::Array(_), _) => "[]".into(),
        (Type::Bool, "") => "false".into(),
        (Type::Float64, text) => java_double(text.parse().unwrap_or(0.0)),
        (_, "") => "0".into(),
        (_, text) => match text.strip_prefix("0x").map(|hex| i64::from_str_radix(hex, 16)) {
            Some(Ok(number)) => number.to_string(),
            _ => text.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Record as _;
    use crate::codec::Writer;
    use crate::records::PartitionChangeRecord;
    use crate::schema::SCHEMAS;

    #[test]
    fn tagged_fields_print_in_the_order_of_the_schema_and_only_when_they_differ() {
        let record = PartitionChangeRecord {
            partition_id: 1,
            topic_id: Uuid([7; 16]),
            isr: Some(alloc::vec![3, 1]),
            leader: 3,
            ..PartitionChangeRecord::default()
        };
        let mut w = Writer::with_capacity(64);
        record.encode(&mut w, 2).unwrap();
        let bytes = w.into_bytes().unwrap();
        let schema = SCHEMAS.iter().find(|s| s.name == "PartitionChangeRecord").unwrap();
        let text = write(schema, 2, &mut Reader::from_slice(&bytes), &mut |_, _| None).unwrap();
        assert_eq!(
            text,
            "{\"partitionId\":1,\"topicId\":\"BwcHBwcHBwcHBwcHBwcHBw\",\"isr\":[3,1],\"leader\":3}"
        );
        for len in 0..bytes.len() {
            assert!(write(schema, 2, &mut Reader::from_slice(&bytes[..len]), &mut |_, _| None).is_err());
        }
    }

    #[test]
    fn scalars_as_java_prints_them() {
        for (value, text) in [
            (2048.0, "2048.0"),
            (0.0, "0.0"),
            (0.001, "0.001"),
            (1e-4, "1.0E-4"),
            (1.5e10, "1.5E10"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(java_double(value), text);
        }
        assert_eq!(quote("a\"b\\c\n\u{1}ü"), "\"a\\\"b\\\\c\\n\\u0001ü\"");
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes), text);
        }
    }
}
