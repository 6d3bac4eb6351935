//! Names by regular expression (`TopicFilter.IncludeList`).

use alloc::format;
use alloc::string::String;

use regex::bytes::{Regex, RegexBuilder};

use super::session::Exception;

/// The names of topics that Kafka uses itself.
pub(super) fn is_internal(topic: &str) -> bool {
    matches!(topic, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// A list of regular expressions, of which one must match the whole name.
pub(super) struct TopicFilter {
    regex: Regex,
}

impl TopicFilter {
    pub fn new(raw: &str) -> Result<TopicFilter, Exception> {
        let text: String = raw.trim().replace(',', "|").replace(' ', "");
        let text = text.trim_matches(['"', '\'']);
        // Java's classes are those of ASCII.
        let built = RegexBuilder::new(&format!("^(?:{text})$")).unicode(false).size_limit(1 << 20).build();
        match built {
            Ok(regex) => Ok(TopicFilter { regex }),
            Err(_) => {
                let class = "java.lang.RuntimeException";
                Err(Exception::new(class, format!("{text} is an invalid regex.")))
            }
        }
    }

    pub fn allows(&self, topic: &str, exclude_internal: bool) -> bool {
        self.regex.is_match(topic.as_bytes()) && !(exclude_internal && is_internal(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let filter = TopicFilter::new("'orders, p.*'").unwrap();
        for (topic, allowed) in [("orders", true), ("purchases", true), ("orders2", false), ("xp", false)] {
            assert_eq!(filter.allows(topic, false), allowed, "{topic}");
        }
        let all = TopicFilter::new(".*").unwrap();
        assert!(all.allows("__consumer_offsets", false) && !all.allows("__consumer_offsets", true));
        let error = TopicFilter::new("a(").err().unwrap();
        assert_eq!(error.message_text(), "a( is an invalid regex.");
    }
}
