//! The nearest known word to a mistyped one, as a refusal tells it.

pub use wire::nearest::nearest;

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
        assert_eq!(suggestion("kil", &["kill", "stop"]).unwrap(), "did you mean \"kill\"?");
        assert_eq!(suggestion("elephant", &["kill", "stop"]).unwrap(), "known here: kill, stop");
    }
}
