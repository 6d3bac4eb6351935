//! Kafka's UUID: 16 bytes, shown as 22 characters of URL-safe base64 without padding.

use alloc::string::String;
use core::fmt;

/// A 16-byte id of a topic, a log directory, an incarnation or a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// `AAAAAAAAAAAAAAAAAAAAAA`: absent.
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// The topic id of `__cluster_metadata` (`AAAAAAAAAAAAAAAAAAAAAQ`).
    pub const METADATA_TOPIC: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Whether every byte is zero.
    pub fn is_zero(&self) -> bool {
        *self == Uuid::ZERO
    }

    /// A random (version 4) UUID from 16 random bytes.
    ///
    /// Kafka avoids ids whose text begins with a dash; a caller that needs this draws again.
    pub fn from_random(mut bytes: [u8; 16]) -> Uuid {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    }

    /// Parses the 22 characters of Kafka's text form.
    pub fn parse(text: &str) -> Option<Uuid> {
        let text = text.as_bytes();
        if text.len() != 22 {
            return None;
        }
        let mut value: u128 = 0;
        for (i, &c) in text.iter().enumerate() {
            let six = ALPHABET.iter().position(|&a| a == c)? as u128;
            if i == 21 {
                value = (value << 2) | (six >> 4);
            } else {
                value = (value << 6) | six;
            }
        }
        Some(Uuid(value.to_be_bytes()))
    }

    /// The 22 characters of Kafka's text form.
    pub fn to_text(&self) -> String {
        alloc::format!("{self}")
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (i, c) in text.iter_mut().enumerate() {
            let six = if i == 21 { (value << 4) & 0x3f } else { (value >> (122 - 6 * i)) & 0x3f };
            *c = ALPHABET[six as usize];
        }
        f.write_str(core::str::from_utf8(&text).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_form_is_kafkas() {
        assert_eq!(Uuid::METADATA_TOPIC.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        for text in ["Y-zRuohvTGaURLT-jvhfjg", "vq4XAys8R_-R3ouk3RglnA"] {
            assert_eq!(Uuid::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Uuid::parse("short"), None);
    }
}
