//! Zstandard frames.

use wire::CodecError;
use zstd::stream::{Encoder, read::Decoder};

/// Kafka's default level.
const DEFAULT_LEVEL: i32 = 3;

/// Compresses at any of the library's levels; at 3 by default.
pub fn compress(level: Option<i32>, bytes: &[u8]) -> Vec<u8> {
    let level = level.unwrap_or(DEFAULT_LEVEL);
    let range = zstd::compression_level_range();
    let level = level.clamp(*range.start(), *range.end());
    let mut encoder =
        Encoder::new(Vec::with_capacity(bytes.len() / 2 + 32), level).expect("the level is in the range");
    std::io::Write::write_all(&mut encoder, bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// Decompresses one or several frames.
pub fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let decoder = Decoder::with_buffer(bytes).map_err(|_| CodecError::Damaged)?;
    crate::read_all(decoder, bytes.len(), limit)
}
