//! Every codec: what goes in comes out, bounds hold, damage is noticed and never panics.

use codecs::StdCodecs;
use wire::{CodecError, Codecs, Compression};

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Bytes that compress a little, without randomness from outside.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..len)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if i % 3 == 0 { state as u8 } else { b'a' + (i % 7) as u8 }
        })
        .collect()
}

#[test]
fn crc32c_is_castagnolis() {
    assert_eq!(StdCodecs.crc32c(0, b"123456789"), 0xe306_9283);
    let begun = StdCodecs.crc32c(0, b"1234");
    assert_eq!(StdCodecs.crc32c(begun, b"56789"), 0xe306_9283);
}

#[test]
fn bytes_round_trip() {
    for codec in ALL {
        for len in [0, 1, 100, 32 * 1024, 32 * 1024 + 1, 200_000] {
            let bytes = sample(len);
            let packed = StdCodecs.compress(codec, None, &bytes).unwrap();
            assert_eq!(StdCodecs.decompress(codec, &packed, len), Ok(bytes), "{codec:?} {len}");
        }
    }
}

#[test]
fn levels_are_taken_and_clamped() {
    let bytes = sample(50_000);
    for codec in ALL {
        for level in [-1_000_000, 1, 9, 1_000_000] {
            let packed = StdCodecs.compress(codec, Some(level), &bytes).unwrap();
            assert_eq!(StdCodecs.decompress(codec, &packed, bytes.len()).as_ref(), Ok(&bytes));
            if level == 9 && codec == Compression::Gzip {
                let fast = StdCodecs.compress(codec, Some(1), &bytes).unwrap();
                assert!(packed.len() < fast.len(), "a higher level compresses better");
            }
        }
    }
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let zeros = vec![0; 8 << 20];
    for codec in ALL {
        let bomb = StdCodecs.compress(codec, None, &zeros).unwrap();
        let limit = 100_000;
        assert_eq!(
            StdCodecs.decompress(codec, &bomb, limit),
            Err(CodecError::TooLarge { limit }),
            "{codec:?}"
        );
    }
}

#[test]
fn damage_is_an_error_or_other_bytes_but_never_a_panic() {
    let bytes = sample(3_000);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let packed = StdCodecs.compress(codec, None, &bytes).unwrap();
        for cut in 1..packed.len().min(200) {
            let result = StdCodecs.decompress(codec, &packed[..packed.len() - cut], 1 << 20);
            // The end mark of LZ4 may be missing, as Java tolerates it, but no data.
            assert!(
                result != Ok(bytes.clone()) || (codec == Compression::Lz4 && cut <= 4),
                "{codec:?} {cut}"
            );
        }
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            if let Ok(out) = StdCodecs.decompress(codec, &damaged, 1 << 20) {
                assert!(out.len() <= 1 << 20);
            }
        }
        for junk in [&b""[..], b"\0", b"junk that is not compressed", &[0xff; 64]] {
            let _ = StdCodecs.decompress(codec, junk, 1 << 20);
        }
    }
}

#[test]
fn snappy_reads_what_java_writes() {
    // SnappyOutputStream: header, then a block "hello" as one literal.
    let mut java = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    java.extend_from_slice(&[0, 0, 0, 7, 5, 4 << 2, b'h', b'e', b'l', b'l', b'o']);
    assert_eq!(StdCodecs.decompress(Compression::Snappy, &java, 5).unwrap(), b"hello");
    assert_eq!(StdCodecs.compress(Compression::Snappy, None, b"hello").unwrap(), java);
    // Two streams after one another, and a raw block, which librdkafka may write.
    assert_eq!(StdCodecs.decompress(Compression::Snappy, &java.repeat(2), 10).unwrap(), b"hellohello");
    assert_eq!(StdCodecs.decompress(Compression::Snappy, &java[20..], 5).unwrap(), b"hello");
    // A block that announces 2^31 bytes reserves nothing.
    let liar = [0xff, 0xff, 0xff, 0xff, 0x07, 0];
    assert_eq!(StdCodecs.decompress(Compression::Snappy, &liar, usize::MAX), Err(CodecError::Damaged));
}
