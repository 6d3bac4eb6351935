//! The LZ4 frame format: independent blocks of 64 KiB without a checksum of the content, as Java writes it.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use wire::CodecError;

/// Compresses. There is but one level: the library has no high-compression mode.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len() / 2 + 32));
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// Decompresses a frame.
pub fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    crate::read_all(FrameDecoder::new(bytes), bytes.len(), limit)
}
