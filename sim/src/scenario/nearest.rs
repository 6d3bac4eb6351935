//! The nearest known word to a mistyped one.

/// The known word that was most likely meant: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= (k.chars().count().max(word.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// `did you mean "x"?`, or all known words if none is near and they are few.
pub fn suggestion(word: &str, known: &[&str]) -> Option<String> {
    if let Some(near) = nearest(word, known.iter().copied()) {
        return Some(format!("did you mean \"{near}\"?"));
    }
    (!known.is_empty() && known.len() <= 24).then(|| format!("known here: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        assert_eq!(nearest("kil", ["kill", "stop"]), Some("kill"));
        assert_eq!(nearest("broker1", ["broker-1", "broker-2"]), Some("broker-1"));
        assert_eq!(nearest("elephant", ["kill", "stop"]), None);
        assert_eq!(suggestion("elephant", &["kill", "stop"]).unwrap(), "known here: kill, stop");
    }
}
