//! The nearest known word to a mistyped one: for whoever refuses a setting, a key or a name.

use alloc::vec::Vec;

/// The nearest of the known words, if one is near: a third of the longer word may differ, at least one letter.
///
/// Case does not count. Of words that are equally near it is the first.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = letters(word);
    let near = |candidate: &'a str| {
        let other = letters(candidate);
        let limit = (word.len().max(other.len()) / 3).max(1);
        let distance =
            if word.len().abs_diff(other.len()) > limit { usize::MAX } else { distance(&word, &other) };
        (distance <= limit).then_some((distance, candidate))
    };
    known.into_iter().filter_map(near).min_by_key(|&(distance, _)| distance).map(|(_, candidate)| candidate)
}

fn letters(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).collect()
}

/// How many letters have to be put in, taken out, replaced, or swapped with their neighbour (each at most once).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row: Vec<usize> = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        for (word, known, expected) in [
            ("kil", &["kill", "stop"][..], Some("kill")),
            ("broker1", &["broker-1", "broker-2"], Some("broker-1")),
            ("Kill", &["kill", "stop"], Some("kill")),
            ("ksik", &["disk", "skip", "ksi"], Some("ksi")),
            ("sotp", &["stop", "shop"], Some("stop")),
            ("retention.msec", &["retention.ms", "retention.bytes"], Some("retention.ms")),
            ("segmnt.ms", &["retention.ms", "segment.ms"], Some("segment.ms")),
            ("acks", &["fetch.min.bytes", "group.id"], None),
            ("elephant", &["kill", "stop"], None),
            ("", &["a", "bcd"], Some("a")),
            ("größe", &["grösse", "größen"], Some("größen")),
        ] {
            assert_eq!(nearest(word, known.iter().copied()), expected, "{word}");
        }
    }

    #[test]
    fn a_swap_counts_once() {
        let d = |a: &str, b: &str| distance(&letters(a), &letters(b));
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("abc", ""), 3);
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("sotp", "stop"), 1);
        assert_eq!(d("ab", "ba"), 1);
    }
}
