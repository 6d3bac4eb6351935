//! A scenario as the text of a file: what fits into a line stands in one.

use serde_json::Value;

const WIDTH: usize = 110;

/// The text, a line break behind it.
pub fn text(document: &Value) -> String {
    let mut text = String::new();
    put(document, 0, true, &mut text);
    text.push('\n');
    text
}

fn put(value: &Value, indent: usize, outermost: bool, text: &mut String) {
    let line = one_line(value);
    // The outermost object has a line for each key, however short it is.
    if !outermost && indent + line.chars().count() <= WIDTH {
        return text.push_str(&line);
    }
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    let inner: Vec<(Option<&String>, &Value)> = match value {
        Value::Array(list) => list.iter().map(|v| (None, v)).collect(),
        Value::Object(map) => map.iter().map(|(key, v)| (Some(key), v)).collect(),
        _ => return text.push_str(&line),
    };
    text.push(open);
    for (at, (key, value)) in inner.iter().enumerate() {
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        text.push_str(&" ".repeat(indent + 2));
        if let Some(key) = key {
            text.push_str(&format!("{}: ", Value::from(key.as_str())));
        }
        // Steps are read from top to bottom.
        let list = outermost && value.as_array().is_some_and(|list| list.len() > 1);
        put(value, indent + 2, list, text);
    }
    text.push('\n');
    text.push_str(&" ".repeat(indent));
    text.push(close);
}

fn one_line(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Array(list) => format!("[{}]", join(list.iter().map(one_line).collect())),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), one_line(value))
            };
            format!("{{ {} }}", join(map.iter().map(pair).collect()))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_file_reads_back() {
        let document = json!({ "title": "a \"b\"", "cluster": { "brokers": 1 }, "topics": [], "steps": [{ "wait": "1s" }, { "kill": ["a", "b"] }] });
        let text = super::text(&document);
        let expected = "{\n  \"title\": \"a \\\"b\\\"\",\n  \"cluster\": { \"brokers\": 1 },\n  \"topics\": [],\n  \"steps\": [\n    { \"wait\": \"1s\" },\n    { \"kill\": [\"a\", \"b\"] }\n  ]\n}\n";
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), document);
    }
}
