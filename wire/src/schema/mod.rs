//! The schema of every message and record as data: for dumps, for comments in packet captures, and for generators
//! of test inputs, which interpret messages instead of knowing them.

pub mod json;
mod table;

pub use table::SCHEMAS;

use crate::api::{ApiKey, VersionRange};

/// What a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request.
    Request,
    /// A response.
    Response,
    /// A record of the metadata log.
    Metadata,
    /// A key or value of the group coordinator.
    Group,
    /// A key or value of the transaction coordinator.
    Transaction,
    /// A control record, or the entry of a transaction index.
    Control,
    /// What travels inside other messages as bytes.
    Protocol,
    /// A file or internal topic of the storage layer.
    Storage,
}

/// The schema of a message or record.
#[derive(Debug)]
pub struct Schema {
    /// Kafka's name, such as `FetchRequest`.
    pub name: &'static str,
    /// What it describes.
    pub kind: Kind,
    /// The key of the API or the number of the record; -1 if there is none.
    pub key: i16,
    /// Its versions.
    pub versions: VersionRange,
    /// The first flexible version; `i16::MAX` if there is none.
    pub flexible_from: i16,
    /// Its fields, in the order of the wire.
    pub fields: &'static [Field],
}

/// A field of a message or of a structure in it.
#[derive(Debug)]
pub struct Field {
    /// Kafka's name, such as `MaxWaitMs`.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// The versions that have it.
    pub versions: VersionRange,
    /// The versions in which it may be null.
    pub nullable: Option<VersionRange>,
    /// Its tag; tagged fields come last.
    pub tag: Option<u32>,
    /// Its value in versions that lack it, as text; empty for that of its type.
    pub default: &'static str,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "Kafka's names of its types")]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    /// A structure of these fields.
    Struct(&'static &'static [Field]),
    /// An array of this type.
    Array(&'static Type),
}

impl Schema {
    /// The schema of the requests of an API.
    pub fn request(key: ApiKey) -> &'static Schema {
        Schema::find(Kind::Request, key)
    }

    /// The schema of the responses of an API.
    pub fn response(key: ApiKey) -> &'static Schema {
        Schema::find(Kind::Response, key)
    }

    fn find(kind: Kind, key: ApiKey) -> &'static Schema {
        SCHEMAS.iter().find(|s| s.kind == kind && s.key == key as i16).expect("every API has both schemas")
    }
}
