//! gzip, as `java.util.zip` reads and writes it.

use std::io::Write;

use flate2::Compression as Level;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use wire::CodecError;

/// Compresses at level 1 to 9; at 6 by default.
pub fn compress(level: Option<i32>, bytes: &[u8]) -> Vec<u8> {
    let level = match level {
        Some(level) => Level::new(level.clamp(1, 9) as u32),
        None => Level::default(),
    };
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2 + 32), level);
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// Decompresses one or several members.
pub fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    crate::read_all(MultiGzDecoder::new(bytes), bytes.len(), limit)
}
