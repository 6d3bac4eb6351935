//! Keys and values of records as text.

use alloc::format;
use alloc::string::{String, ToString};
use wire::batch::Record;
use wire::codec::Reader;
use wire::schema::json::{self, java_double};
use wire::schema::{Kind, SCHEMAS, Schema};

use super::OptionsError;

/// How keys and values are made into text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// Each by itself: what producers wrote.
    Plain {
        /// Of keys.
        key: Plain,
        /// Of values.
        value: Plain,
    },
    /// Records of `__cluster_metadata`.
    ClusterMetadata,
    /// Records of `__consumer_offsets`.
    Offsets,
    /// Records of `__transaction_state`.
    TransactionLog,
}

/// A decoder class of `org.apache.kafka.tools.api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// `StringDecoder`: UTF-8.
    String,
    /// `IntegerDecoder`: four bytes.
    Integer,
    /// `LongDecoder`: eight bytes.
    Long,
    /// `DoubleDecoder`: eight bytes.
    Double,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::Plain { key: Plain::String, value: Plain::String }
    }
}

impl Plain {
    fn from_class(class: &str) -> Result<Plain, OptionsError> {
        match class.rsplit('.').next() {
            Some("StringDecoder") => Ok(Plain::String),
            Some("IntegerDecoder") => Ok(Plain::Integer),
            Some("LongDecoder") => Ok(Plain::Long),
            Some("DoubleDecoder") => Ok(Plain::Double),
            _ => Err(OptionsError::UnknownDecoder(class.into())),
        }
    }

    fn text(self, bytes: &[u8]) -> String {
        match self {
            Plain::String => String::from_utf8_lossy(bytes).into_owned(),
            Plain::Integer => match bytes.first_chunk() {
                Some(four) => i32::from_be_bytes(*four).to_string(),
                None => too_short(bytes, 4),
            },
            Plain::Long => match bytes.first_chunk() {
                Some(eight) => i64::from_be_bytes(*eight).to_string(),
                None => too_short(bytes, 8),
            },
            Plain::Double => match bytes.first_chunk() {
                Some(eight) => java_double(f64::from_be_bytes(*eight)),
                None => too_short(bytes, 8),
            },
        }
    }
}

fn too_short(bytes: &[u8], wanted: usize) -> String {
    format!("<{} of {wanted} bytes>", bytes.len())
}

/// What stands behind `key:` and `payload:`.
pub(super) struct Text {
    pub key: Option<String>,
    pub payload: Option<String>,
}

impl Decoder {
    pub(super) fn set_key(&mut self, class: &str) -> Result<(), OptionsError> {
        let plain = Plain::from_class(class)?;
        if let Decoder::Plain { key, .. } = self {
            *key = plain;
        }
        Ok(())
    }

    pub(super) fn set_value(&mut self, class: &str) -> Result<(), OptionsError> {
        let plain = Plain::from_class(class)?;
        if let Decoder::Plain { value, .. } = self {
            *value = plain;
        }
        Ok(())
    }

    pub(super) fn text(self, record: &Record<'_>) -> Text {
        match self {
            Decoder::Plain { key, value } => Text {
                key: record.key.map(|bytes| key.text(bytes)),
                payload: record.value.map(|bytes| value.text(bytes)),
            },
            Decoder::ClusterMetadata => Text { key: None, payload: Some(metadata(record)) },
            Decoder::Offsets => coordinator(record, Kind::Group),
            Decoder::TransactionLog => coordinator(record, Kind::Transaction),
        }
    }
}

fn schema(kind: Kind, key: i16, suffix: &str) -> Option<&'static Schema> {
    SCHEMAS.iter().find(|s| s.kind == kind && s.key == key && s.name.ends_with(suffix))
}

/// A record of the metadata log: frame version, type, version, body (KIP-631).
fn metadata(record: &Record<'_>) -> String {
    let mut reader = Reader::from_slice(record.value.unwrap_or_default());
    let mut decode = || -> Result<String, String> {
        let mut number = || reader.uvarint().map_err(|error| error.to_string());
        let (frame, key, version) = (number()?, number()?, number()?);
        if frame != 1 {
            return Err(format!(
                "Could not deserialize metadata record due to unsupported frame version {frame}"
            ));
        }
        let key = i16::try_from(key).map_err(|_| format!("Unknown metadata id {key}"))?;
        let version = i16::try_from(version).map_err(|_| format!("Unknown version {version}"))?;
        let schema = schema(Kind::Metadata, key, "").ok_or_else(|| format!("Unknown metadata id {key}"))?;
        let data =
            json::write(schema, version, &mut reader, &mut |_, _| None).map_err(|error| error.to_string())?;
        let name = constant_case(schema.name);
        Ok(format!("{{\"type\":\"{name}\",\"version\":{version},\"data\":{data}}}"))
    };
    decode().unwrap_or_else(|why| format!("Error at {}, skipping. {why}", record.offset))
}

/// `ClearElrRecord` → `CLEAR_ELR_RECORD`.
fn constant_case(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// A record of a coordinator: the version of its key is the type of the record.
fn coordinator(record: &Record<'_>, kind: Kind) -> Text {
    let skipped = |text: String| Text { key: Some(text), payload: None };
    let Some(key) = record.key else {
        return skipped(format!("Error at offset {}, skipping. record key cannot be null", record.offset));
    };
    match decode_coordinator(key, record.value, kind) {
        Ok(Some((key, payload))) => Text { key: Some(key), payload: Some(payload) },
        Ok(None) => {
            let of = i16::from_be_bytes([key[0], key[1]]);
            skipped(format!("Unknown record type {of} at offset {}, skipping.", record.offset))
        }
        Err(why) => skipped(format!("Error at offset {}, skipping. {why}", record.offset)),
    }
}

/// Key and value as text; nothing if their type is unknown.
fn decode_coordinator(
    key: &[u8],
    value: Option<&[u8]>,
    kind: Kind,
) -> Result<Option<(String, String)>, String> {
    let mut reader = Reader::from_slice(key);
    let of = reader.i16().map_err(|error| error.to_string())?;
    let Some(key_schema) = schema(kind, of, "Key") else { return Ok(None) };
    let data =
        json::write(key_schema, 0, &mut reader, &mut |_, _| None).map_err(|error| error.to_string())?;
    let key = format!("{{\"type\":\"{of}\",\"data\":{data}}}");
    let Some(value) = value else { return Ok(Some((key, "<DELETE>".into()))) };
    let Some(schema) = schema(kind, of, "Value") else { return Ok(None) };
    let version = Reader::from_slice(value).i16().map_err(|error| error.to_string())?;
    let print = |members: bool| {
        let mut reader = Reader::from_slice(&value[2..]);
        let mut instead = |field: &str, bytes: &[u8]| if members { member(field, bytes) } else { None };
        json::write(schema, version, &mut reader, &mut instead).map_err(|error| error.to_string())
    };
    let mut data = print(false)?;
    // Of groups of consumers it is known what their members' bytes mean.
    if schema.name == "GroupMetadataValue" && data.starts_with("{\"protocolType\":\"consumer\"") {
        data = print(true)?;
    }
    Ok(Some((key, format!("{{\"version\":\"{version}\",\"data\":{data}}}"))))
}

/// A member's subscription or assignment: a version and a message of the consumer protocol.
fn member(field: &str, bytes: &[u8]) -> Option<String> {
    let name = match field {
        "subscription" => "ConsumerProtocolSubscription",
        "assignment" => "ConsumerProtocolAssignment",
        _ => return None,
    };
    let schema = SCHEMAS.iter().find(|s| s.name == name)?;
    let mut reader = Reader::from_slice(bytes);
    let version = reader.i16().ok()?;
    json::write(schema, version, &mut reader, &mut |_, _| None).ok()
}
