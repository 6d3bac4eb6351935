//! Kafka's names as Rust's.

/// `MaxWaitMs` as `max_wait_ms`; a keyword gets an underscore after it.
pub fn snake(name: &str) -> String {
    // One word, whatever its capitals say.
    let name = name.replace("KRaft", "Kraft");
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() {
            let after_small = i > 0 && !chars[i - 1].is_ascii_uppercase();
            let begins_word = i > 0 && chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            if after_small || begins_word {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    match out.as_str() {
        "type" | "match" => out + "_",
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_words() {
        for (kafka, rust) in [
            ("MaxWaitMs", "max_wait_ms"),
            ("timeoutMs", "timeout_ms"),
            ("V3AndBelowTopics", "v3_and_below_topics"),
            ("Enable2Pc", "enable2_pc"),
            ("KRaftVersionFeature", "kraft_version_feature"),
            ("LastKnownElr", "last_known_elr"),
            ("Type", "type_"),
        ] {
            assert_eq!(snake(kafka), rust);
        }
    }
}
