//! What the tools owe to Java: the order in which a `HashMap` is walked, its random numbers, log lines, properties
//! files.
//!
//! Kafka's tools print several lists in the order of Java's hash maps. That order is a function of the keys, so a
//! lab's output can be the same here, line by line.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::session::Exception;
use crate::event::TopicPartition;

/// `String.hashCode`, over UTF-16 as Java has it.
pub(super) fn hash_of_text(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit as i32))
}

/// `TopicPartition.hashCode`.
pub(super) fn hash_of_partition(partition: &TopicPartition) -> i32 {
    let hash = 31i32.wrapping_add(partition.partition);
    hash.wrapping_mul(31).wrapping_add(hash_of_text(&partition.topic))
}

/// `Node.hashCode`, of a broker that is not fenced.
pub(super) fn hash_of_node(host: &str, id: i32, port: i32, rack: Option<&str>) -> i32 {
    /// `Boolean.hashCode` of false.
    const NOT_FENCED: i32 = 1237;
    [id, port, rack.map_or(0, hash_of_text), NOT_FENCED]
        .into_iter()
        .fold(31i32.wrapping_add(hash_of_text(host)), |hash, part| hash.wrapping_mul(31).wrapping_add(part))
}

/// The order in which a `java.util.HashMap` that was made with room for `initial` entries gives the keys that were put
/// into it in this order. (Buckets of more than eight keys become trees in Java, which is left out.)
pub(super) fn hash_order<T>(
    initial: usize,
    keys: impl IntoIterator<Item = T>,
    hash: impl Fn(&T) -> i32,
) -> Vec<T> {
    let keys: Vec<T> = keys.into_iter().collect();
    let mut size = initial.next_power_of_two();
    // Three quarters are the load factor.
    while keys.len() * 4 > size * 3 {
        size *= 2;
    }
    let mut buckets: Vec<Vec<T>> = Vec::new();
    buckets.resize_with(size, Vec::new);
    for key in keys {
        let hash = hash(&key) as u32;
        buckets[(hash ^ hash >> 16) as usize & (size - 1)].push(key);
    }
    buckets.into_iter().flatten().collect()
}

/// The room of a `new HashMap<>()`.
pub(super) const DEFAULT_ROOM: usize = 16;

/// `java.util.Random`: the same numbers from the same seed, as its documentation promises.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;

    pub fn new(seed: i64) -> Random {
        Random((seed as u64 ^ Random::MULTIPLIER) & Random::MASK)
    }

    /// 31 bits.
    fn next(&mut self) -> i32 {
        self.0 = self.0.wrapping_mul(Random::MULTIPLIER).wrapping_add(0xB) & Random::MASK;
        (self.0 >> 17) as i32
    }

    /// `nextInt(bound)`.
    pub fn below(&mut self, bound: i32) -> i32 {
        if bound.count_ones() == 1 {
            return ((i64::from(bound) * i64::from(self.next())) >> 31) as i32;
        }
        loop {
            let bits = self.next();
            let value = bits % bound;
            // What is above the last multiple of the bound is drawn again.
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return value;
            }
        }
    }
}

/// What `Pattern.compile` throws of an expression that is none.
pub(super) fn pattern_syntax(expression: &str) -> Exception {
    let length = expression.chars().count();
    let (open, closed) = (expression.matches('(').count(), expression.matches(')').count());
    let first = expression.chars().next();
    let (reason, at) = match first {
        Some(first @ ('*' | '+' | '?')) => (format!("Dangling meta character '{first}'"), 0),
        _ if expression.matches('[').count() > expression.matches(']').count() => {
            ("Unclosed character class".into(), length.saturating_sub(1))
        }
        _ if open > closed => ("Unclosed group".into(), length),
        _ if closed > open => {
            ("Unmatched closing ')'".into(), expression.find(')').unwrap_or(length).saturating_sub(1))
        }
        _ => ("Illegal/unsupported construct".into(), length),
    };
    let mut text: String = format!("{reason} near index {at}\n{expression}");
    // The place is marked where it is within the expression.
    if at < length {
        text.push_str(&format!("\n{}^", " ".repeat(at)));
    }
    Exception::new("java.util.regex.PatternSyntaxException", text)
}

/// The order in which the result of `describeTopics` is walked: a map of futures by topic became one of descriptions.
pub(super) fn described_order(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let futures = hash_order(DEFAULT_ROOM, names, |name| hash_of_text(name));
    hash_order(futures.len(), futures, |name| hash_of_text(name))
}

/// `2026-01-01 00:00:00,000`: log4j's date of a wall clock, in UTC.
pub(super) fn log_time(wall_ms: i64) -> String {
    let (days, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{:03}", ms % 1000)
}

/// The wall clock of `YYYY-MM-DDTHH:mm:ss.SSS`, with `Z` or an offset such as `+0100` behind it, in UTC without
/// (`Utils.getDateTime`).
pub(super) fn wall_ms_of(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone_at = time.find(['Z', '+', '-']);
    let (time, zone) = time.split_at(zone_at.unwrap_or(time.len()));
    let mut time = time.splitn(3, ':');
    let (hour, minute): (i64, i64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let (second, ms) = time.next()?.split_once('.')?;
    let (second, ms): (i64, i64) = (second.parse().ok()?, ms.parse().ok()?);
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day);
    let minutes = days_since_1970(year, month, day) * 1_440 + hour * 60 + minute - zone_minutes(zone)?;
    valid.then_some((minutes * 60 + second) * 1_000 + ms)
}

fn zone_minutes(zone: &str) -> Option<i64> {
    let digits = zone.trim_start_matches(['+', '-']).replace(':', "");
    match (zone, digits.len()) {
        ("" | "Z", _) => Some(0),
        (_, 2) => Some(digits.parse::<i64>().ok()? * 60),
        (_, 4) => Some(digits[..2].parse::<i64>().ok()? * 60 + digits[2..].parse::<i64>().ok()?),
        _ => None,
    }
    .map(|minutes| if zone.starts_with('-') { -minutes } else { minutes })
}

/// The inverse of [`civil_date`].
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar.
fn civil_date(days: i64) -> (i64, i64, i64) {
    // Count from 1 March of the year 0, so that leap days come last; 146,097 days are 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads a properties file: `key=value`, `key: value`, `key value`, `#` and `!` comments, lines that end in `\`.
pub(super) fn properties(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = String::from(line);
        while ends_in_escape(&logical) {
            logical.pop();
            logical.push_str(lines.next().unwrap_or("").trim_start());
        }
        let (key, value) = split_property(&logical);
        all.insert(key, value);
    }
    all
}

fn ends_in_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn split_property(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.char_indices().find(|&(_, c)| {
        let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t');
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else { return (unescape(line), String::new()) };
    let value = line[end..].trim_start();
    let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start();
    (unescape(&line[..end]), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => plain.push('\t'),
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    plain.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                other => plain.extend(other),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

/// A table as `ToolsUtils.prettyPrintTable` prints it: columns as wide as their widest cell, a TAB after each.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = header.iter().map(|&title| title.into()).collect();
    for row in vec![&head].into_iter().chain(rows) {
        for (&width, cell) in widths.iter().zip(row) {
            text.push_str(&format!("{cell:width$}\t"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn topics(names: &[&str]) -> Vec<String> {
        described_order(names.iter().map(ToString::to_string))
    }

    #[test]
    fn random_numbers_are_javas() {
        let mut random = Random::new(0);
        let text: String = (0..40).map(|_| char::from(b'A' + random.below(26) as u8)).collect();
        assert_eq!(text, "SSXVNJHPDQDXVCRASTVYBCWVMGNYKRXVZXKGXTSP");
        // A bound so large that numbers are drawn again, and a power of two.
        let mut random = Random::new(-7);
        let numbers: Vec<i32> = (0..5).map(|_| random.below(1 << 30 | 12345)).collect();
        assert_eq!(numbers, [577_934_662, 314_447_087, 677_675_436, 184_135_245, 425_474_944]);
        let mut random = Random::new(42);
        let numbers: Vec<i32> = (0..5).map(|_| random.below(64)).collect();
        assert_eq!(numbers, [46, 3, 43, 3, 19]);
    }

    #[test]
    fn topics_are_walked_as_java_walks_them() {
        assert_eq!(topics(&["a.b", "orders", "purchases", "ra"]), ["orders", "a.b", "purchases", "ra"]);
        assert_eq!(
            topics(&["__consumer_offsets", "p2", "purchases"]),
            ["purchases", "p2", "__consumer_offsets"]
        );
    }

    #[test]
    fn partitions_are_walked_as_java_walks_them() {
        // As captured from an election of these.
        let captured = [
            ("__consumer_offsets", 15),
            ("__consumer_offsets", 48),
            ("__consumer_offsets", 13),
            ("p2", 0),
            ("__consumer_offsets", 44),
            ("purchases", 1),
            ("__consumer_offsets", 9),
            ("__consumer_offsets", 42),
            ("__consumer_offsets", 23),
            ("__consumer_offsets", 19),
            ("__consumer_offsets", 17),
            ("__consumer_offsets", 32),
            ("__consumer_offsets", 28),
            ("__consumer_offsets", 26),
            ("__consumer_offsets", 7),
            ("__consumer_offsets", 5),
            ("__consumer_offsets", 38),
            ("__consumer_offsets", 36),
            ("__consumer_offsets", 1),
            ("__consumer_offsets", 34),
            ("__consumer_offsets", 47),
            ("__consumer_offsets", 45),
            ("__consumer_offsets", 14),
            ("purchases", 0),
            ("__consumer_offsets", 41),
        ];
        let captured: Vec<_> = captured.iter().map(|&(topic, p)| TopicPartition::new(topic, p)).collect();
        let mut sorted = captured.clone();
        sorted.sort();
        assert_eq!(hash_order(DEFAULT_ROOM, sorted, hash_of_partition), captured);
    }

    #[test]
    fn log_times() {
        let cases = [
            (0, "1970-01-01 00:00:00,000"),
            (1_767_225_600_000, "2026-01-01 00:00:00,000"),
            (1_795_209_867_482, "2026-11-20 21:24:27,482"),
            (1_709_164_799_999, "2024-02-28 23:59:59,999"),
            (1_709_164_800_000, "2024-02-29 00:00:00,000"),
        ];
        for (wall_ms, text) in cases {
            assert_eq!(log_time(wall_ms), text);
        }
    }

    #[test]
    fn date_times() {
        let cases = [
            ("1970-01-01T00:00:00.000", Some(0)),
            ("2026-11-20T21:24:27.482Z", Some(1_795_209_867_482)),
            ("2024-02-29T01:00:00.000+0100", Some(1_709_164_800_000)),
            ("2024-02-28T23:59:59.999+00:00", Some(1_709_164_799_999)),
            ("2024-02-28", None),
            ("yesterday", None),
        ];
        for (text, wall_ms) in cases {
            assert_eq!(wall_ms_of(text), wall_ms, "{text}");
        }
    }

    #[test]
    fn properties_files() {
        let text = "# a comment\n! another\n\na=1\n b : two words \nc\nd=1,\\\n   2\ne\\=f=g\\tt\\u0041\n";
        let all = properties(text);
        let pairs: Vec<(&str, &str)> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "two words "), ("c", ""), ("d", "1,2"), ("e=f", "g\ttA")]);
    }
}
