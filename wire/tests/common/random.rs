//! Random messages, as canonical bytes, made from the schema tables: for round trips, for other decoders, and for
//! fuzzing. Canonical: tags ascend, no tagged field has its default, lengths take as few bytes as they can.

use wire::schema::{Field, Schema, Type};

/// A small generator: the same seed gives the same messages everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// A random message of a schema at `version`.
pub fn message(schema: &Schema, version: i16, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    let mut maker = Maker { version, flexible: version >= schema.flexible_from, rng, depth: 0 };
    maker.fields(schema.fields, &mut out);
    out
}

struct Maker<'r> {
    version: i16,
    flexible: bool,
    rng: &'r mut Rng,
    depth: u32,
}

pub fn uvarint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Maker<'_> {
    /// Writes the fields of a structure; whether all have their defaults.
    fn fields(&mut self, fields: &[Field], out: &mut Vec<u8>) -> bool {
        let mut all_default = true;
        let mut tagged = Vec::new();
        let version = self.version;
        for field in fields.iter().filter(|f| f.versions.contains(version)) {
            if let Some(tag) = field.tag {
                tagged.push((tag, field));
            } else {
                all_default &= self.field(field, out);
            }
        }
        if !self.flexible {
            return all_default;
        }
        tagged.sort_by_key(|(tag, _)| *tag);
        let mut present = Vec::new();
        for (tag, field) in tagged {
            let mut bytes = Vec::new();
            if self.rng.chance(2) && !self.field(field, &mut bytes) {
                present.push((tag, bytes));
            }
        }
        all_default &= present.is_empty();
        uvarint(present.len() as u32, out);
        for (tag, bytes) in present {
            uvarint(tag, out);
            uvarint(bytes.len() as u32, out);
            out.extend_from_slice(&bytes);
        }
        all_default
    }

    /// Writes a field; whether it has its default.
    fn field(&mut self, field: &Field, out: &mut Vec<u8>) -> bool {
        let nullable = field.nullable.is_some_and(|v| v.contains(self.version));
        let is_struct = matches!(field.ty, Type::Struct(_));
        if nullable && (self.rng.chance(4) || self.depth > 6) {
            match field.ty {
                Type::Struct(_) if field.tag.is_some() => out.push(0),
                Type::Struct(_) => out.push(0xff),
                Type::String if !self.flexible => out.extend_from_slice(&[0xff; 2]),
                _ if !self.flexible => out.extend_from_slice(&[0xff; 4]),
                _ => out.push(0),
            }
            return field.default == "null" || matches!(field.ty, Type::Records);
        }
        if nullable && is_struct {
            out.push(1);
        }
        let number = self.value(&field.ty, out);
        let default = match field.default {
            "" | "null" => 0,
            "true" => 1,
            "0x7fffffff" => 0x7fff_ffff,
            text => text.to_lowercase().parse::<i64>().unwrap_or(0),
        };
        // What can be null by default, and is not, has no default.
        number == Some(default) && field.default != "null"
    }

    /// Writes a value; its number, which for all but numbers is 0 if it is empty.
    fn value(&mut self, ty: &Type, out: &mut Vec<u8>) -> Option<i64> {
        let raw = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(300) as i64 - 2,
            _ => self.rng.next() as i64,
        };
        match ty {
            Type::Bool => {
                out.push((raw & 1) as u8);
                Some(raw & 1)
            }
            Type::Int8 => {
                out.push(raw as u8);
                Some((raw as i8).into())
            }
            Type::Int16 => {
                out.extend_from_slice(&(raw as i16).to_be_bytes());
                Some((raw as i16).into())
            }
            Type::Uint16 => {
                out.extend_from_slice(&(raw as u16).to_be_bytes());
                Some((raw as u16).into())
            }
            Type::Int32 => {
                out.extend_from_slice(&(raw as i32).to_be_bytes());
                Some((raw as i32).into())
            }
            Type::Uint32 => {
                out.extend_from_slice(&(raw as u32).to_be_bytes());
                Some((raw as u32).into())
            }
            Type::Int64 => {
                out.extend_from_slice(&raw.to_be_bytes());
                Some(raw)
            }
            Type::Float64 => {
                out.extend_from_slice(&((raw % 1000) as f64 / 8.0).to_be_bytes());
                Some(raw % 1000)
            }
            Type::Uuid => {
                // Some decoders read the reserved ids as others.
                let bytes: [u8; 16] = if self.rng.chance(4) {
                    [0; 16]
                } else {
                    ((self.rng.next() as u128) << 64 | self.rng.next() as u128 | 1 << 100).to_be_bytes()
                };
                out.extend_from_slice(&bytes);
                Some(bytes.iter().map(|b| *b as i64).sum())
            }
            Type::String => {
                let len = self.len(20, 150);
                let text: String = (0..len)
                    .map(|_| match self.rng.below(40) {
                        0 => 'é',
                        1 => '漢',
                        n => (b'a' + (n % 26) as u8) as char,
                    })
                    .collect();
                if self.flexible {
                    uvarint(text.len() as u32 + 1, out);
                } else {
                    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
                }
                out.extend_from_slice(text.as_bytes());
                Some(text.len() as i64)
            }
            Type::Bytes | Type::Records => {
                let len = self.len(30, 700);
                self.long_len(len, out);
                (0..len).for_each(|_| out.push(self.rng.next() as u8));
                Some(len as i64)
            }
            Type::Struct(fields) => {
                self.depth += 1;
                let all_default = self.fields(fields, out);
                self.depth -= 1;
                (all_default).then_some(0)
            }
            Type::Array(element) => {
                let len = match element {
                    Type::Struct(_) if self.depth > 2 => self.rng.below(2) as usize,
                    Type::Struct(_) => self.rng.below(4) as usize,
                    _ => self.len(4, 140),
                };
                self.long_len(len, out);
                self.depth += 1;
                for _ in 0..len {
                    self.value(element, out);
                }
                self.depth -= 1;
                Some(len as i64)
            }
        }
    }

    /// Mostly below `usual`, sometimes up to `most`, so that lengths of two bytes occur.
    fn len(&mut self, usual: u64, most: u64) -> usize {
        let most = if self.rng.chance(30) { most } else { usual };
        self.rng.below(most) as usize
    }

    fn long_len(&mut self, len: usize, out: &mut Vec<u8>) {
        if self.flexible {
            uvarint(len as u32 + 1, out);
        } else {
            out.extend_from_slice(&(len as i32).to_be_bytes());
        }
    }
}
