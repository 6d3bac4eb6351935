//! The port through which CRC-32C and compression come in.
//!
//! The fast implementations need std; the crate `codecs` has them, for the simulated world and for the real one.

use alloc::vec::Vec;

/// The compression of a record batch (attributes, bits 0 to 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not compressed.
    #[default]
    None = 0,
    /// gzip.
    Gzip = 1,
    /// snappy with xerial framing.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

impl Compression {
    /// The codec of the low three bits of a batch's attributes, if Kafka knows it.
    pub fn from_id(id: u8) -> Option<Compression> {
        Some(match id {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// Kafka's name, as in `compression.type` and in the dump tool's output.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The codec of a `compression.type`.
    pub fn from_name(name: &str) -> Option<Compression> {
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .find(|c| c.name() == name)
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what the codec writes.
    #[error("the compressed bytes are damaged")]
    Damaged,
    /// The result would exceed the bound that the caller gave.
    #[error("the decompressed bytes exceed the limit of {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
    /// This build leaves the codec out.
    #[error("this build does not have the codec {}", .0.name())]
    Absent(Compression),
}

/// CRC-32C and compression: implemented once, by the crate `codecs`, for both worlds.
pub trait Codecs: Send + Sync {
    /// CRC-32C (Castagnoli) of `bytes`, continuing from `crc` (0 to begin).
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32;

    /// Compresses `bytes`, at the codec's default level if `level` is absent.
    fn compress(&self, codec: Compression, level: Option<i32>, bytes: &[u8]) -> Result<Vec<u8>, CodecError>;

    /// Decompresses `bytes` to at most `limit` bytes.
    fn decompress(&self, codec: Compression, bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError>;
}
