//! CRC-32C and compression behind the [`Codecs`] port of `wire`, once for both worlds.
//!
//! Decompression stops at the caller's bound, so that a small batch cannot fill the memory. What is compressed is
//! readable by every Kafka client; its exact bytes change with the versions of the libraries and must not enter a
//! digest.

use wire::{CodecError, Codecs, Compression};

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstandard;

/// The codecs of this crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdCodecs;

impl Codecs for StdCodecs {
    fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc, bytes)
    }

    fn compress(&self, codec: Compression, level: Option<i32>, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
        match codec {
            Compression::None => Ok(bytes.to_vec()),
            #[cfg(feature = "gzip")]
            Compression::Gzip => Ok(gzip::compress(level, bytes)),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Ok(snappy::compress(bytes)),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Ok(lz4::compress(bytes)),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Ok(zstandard::compress(level, bytes)),
            #[allow(unreachable_patterns, reason = "with all features there is no other")]
            absent => {
                let _ = level;
                Err(CodecError::Absent(absent))
            }
        }
    }

    fn decompress(&self, codec: Compression, bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
        match codec {
            Compression::None if bytes.len() > limit => Err(CodecError::TooLarge { limit }),
            Compression::None => Ok(bytes.to_vec()),
            #[cfg(feature = "gzip")]
            Compression::Gzip => gzip::decompress(bytes, limit),
            #[cfg(feature = "snappy")]
            Compression::Snappy => snappy::decompress(bytes, limit),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::decompress(bytes, limit),
            #[cfg(feature = "zstd")]
            Compression::Zstd => zstandard::decompress(bytes, limit),
            #[allow(unreachable_patterns, reason = "with all features there is no other")]
            absent => Err(CodecError::Absent(absent)),
        }
    }
}

/// Reads all that a decoder gives, up to `limit` bytes.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
fn read_all(decoder: impl std::io::Read, input: usize, limit: usize) -> Result<Vec<u8>, CodecError> {
    use std::io::Read;

    // What records usually compress to; more grows as it comes.
    let mut out = Vec::with_capacity(input.saturating_mul(4).min(limit));
    let most = limit as u64 + 1;
    decoder.take(most).read_to_end(&mut out).map_err(|_| CodecError::Damaged)?;
    if out.len() > limit {
        return Err(CodecError::TooLarge { limit });
    }
    Ok(out)
}
