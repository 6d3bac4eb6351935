//! snappy in the framing of xerial's snappy-java, which Kafka's clients write; raw snappy is read, too.
//!
//! The framing is a magic, two versions, and blocks of at most 32 KiB, each with its compressed size before it.

use snap::raw::{Decoder, Encoder, decompress_len};
use wire::CodecError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The version, and the oldest version that can read it.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const HEADER: usize = MAGIC.len() + VERSIONS.len();
const BLOCK: usize = 32 * 1024;

/// Compresses.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / 2 + 64);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSIONS);
    let mut encoder = Encoder::new();
    for block in bytes.chunks(BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let size = encoder.compress(block, &mut out[at + 4..]).expect("there is room for the largest result");
        out[at..at + 4].copy_from_slice(&(size as u32).to_be_bytes());
        out.truncate(at + 4 + size);
    }
    out
}

/// Decompresses the framing, or one raw block.
pub fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    let mut decoder = Decoder::new();
    if !bytes.starts_with(&MAGIC) {
        append(&mut decoder, bytes, limit, &mut out)?;
        return Ok(out);
    }
    let mut left = bytes;
    while !left.is_empty() {
        // Streams that were written one after the other have a header each.
        if left.starts_with(&MAGIC) {
            left = left.get(HEADER..).ok_or(CodecError::Damaged)?;
            continue;
        }
        let (size, rest) = left.split_first_chunk::<4>().ok_or(CodecError::Damaged)?;
        let (block, rest) =
            rest.split_at_checked(u32::from_be_bytes(*size) as usize).ok_or(CodecError::Damaged)?;
        append(&mut decoder, block, limit, &mut out)?;
        left = rest;
    }
    Ok(out)
}

fn append(decoder: &mut Decoder, block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let len = decompress_len(block).map_err(|_| CodecError::Damaged)?;
    if len > limit - out.len() {
        return Err(CodecError::TooLarge { limit });
    }
    // Three bytes make at most 64: what announces more lies, and nothing is reserved for it.
    if len > block.len() * 22 {
        return Err(CodecError::Damaged);
    }
    let at = out.len();
    out.resize(at + len, 0);
    decoder.decompress(block, &mut out[at..]).map_err(|_| CodecError::Damaged)?;
    Ok(())
}
