//! SARIF 2.1.0 (OASIS), which code-scanning services read.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::ci::{Failure, Outcome, Suite};

/// The document: a run of the tool, a rule for each kind of failure, a result for each failure.
pub fn document(suite: &Suite, version: &str) -> Value {
    let failures = suite.cases.iter().flat_map(|case| match &case.outcome {
        Outcome::Failed(failures) => failures.as_slice(),
        _ => &[],
    });
    let failures: Vec<&Failure> = failures.collect();
    let rules: BTreeSet<&str> = failures.iter().map(|f| f.rule.as_str()).collect();
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|id| json!({ "id": id, "shortDescription": { "text": describe(id) } }))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "highwater", "version": version, "rules": rules } },
            "results": failures.iter().map(|f| result(suite, f)).collect::<Vec<_>>(),
        }],
    })
}

fn describe(rule: &str) -> String {
    match rule {
        "expectation" => "An expectation of the scenario did not hold".to_owned(),
        "liveness" => "The cluster did not converge".to_owned(),
        "nondeterministic" => "The run did not repeat itself".to_owned(),
        "crash" => "A node stopped on an assertion".to_owned(),
        "violation" => "What the checkers found is not what the scenario says".to_owned(),
        "sweep" => "Some runs of a sweep did not pass".to_owned(),
        checker => format!("The checker {checker} found something"),
    }
}

fn result(suite: &Suite, failure: &Failure) -> Value {
    json!({
        "ruleId": failure.rule,
        "level": "error",
        "message": { "text": format!("{}\n{}", failure.message, failure.text()) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&suite.file) },
                "region": { "startLine": failure.line },
            },
        }],
    })
}

/// A path as a relative reference (RFC 3986): what may not stand in one is escaped.
fn uri(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rules_and_results() {
        let document = super::document(&crate::ci::example(), "0.1.0");
        let run = &document["runs"][0];
        assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 1);
        assert_eq!(run["results"].as_array().unwrap().len(), 2);
        assert_eq!(run["results"][0]["ruleId"], "lost-write");
        let place = &run["results"][0]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "scenarios/a.json");
        assert_eq!(place["region"]["startLine"], 12);
        assert_eq!(super::uri("a b/ä.json"), "a%20b/%C3%A4.json");
    }
}
