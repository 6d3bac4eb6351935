//! What can be taken from a sheet besides its steps: nodes, topics, partitions, clients, messages, settings.
//!
//! Each candidate is a changed sheet. Many of them cannot be run (a replication factor above the brokers); trying finds
//! that out, since a file is checked before it runs.

use serde_json::{Map, Value, json};

/// Candidates, the largest cuts first.
pub fn candidates(sheet: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    patience(sheet, &mut all);
    clients(sheet, &mut all);
    topics(sheet, &mut all);
    nodes(sheet, &mut all);
    workloads(sheet, &mut all);
    settings(sheet, &mut all);
    all
}

fn changed(sheet: &Value, change: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut sheet = sheet.clone();
    if let Some(map) = sheet.as_object_mut() {
        change(map);
    }
    sheet
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().map_or_else(Vec::new, |map| map.keys().cloned().collect())
}

/// What has to be waited for at the end is most of a short story's time, and of what each later attempt costs.
fn patience(sheet: &Value, all: &mut Vec<Value>) {
    let now = sheet["finally"]["within"].as_str().map_or("60s", |text| text);
    let now = crate::scenario::units::duration(now).unwrap_or_default();
    for less in ["1s", "5s", "20s"] {
        if crate::scenario::units::duration(less).unwrap_or_default() < now {
            all.push(changed(sheet, |map| {
                let finally = map.entry("finally").or_insert_with(|| json!({}));
                finally["within"] = json!(less);
            }));
        }
    }
}

fn clients(sheet: &Value, all: &mut Vec<Value>) {
    for name in keys(&sheet["clients"]) {
        all.push(changed(sheet, |map| {
            map["clients"].as_object_mut().expect("it has keys").shift_remove(&name);
        }));
    }
    for key in ["sometimes", "limit"] {
        if sheet.get(key).is_some() {
            all.push(changed(sheet, |map| drop(map.shift_remove(key))));
        }
    }
    if sheet["finally"].get("expect").is_some() {
        all.push(changed(sheet, |map| {
            map["finally"].as_object_mut().expect("it has keys").shift_remove("expect");
        }));
    }
}

fn topics(sheet: &Value, all: &mut Vec<Value>) {
    let topics = sheet["topics"].as_array().map_or(&[][..], Vec::as_slice);
    for at in 0..topics.len() {
        all.push(changed(sheet, |map| drop(map["topics"].as_array_mut().expect("a list").remove(at))));
    }
    for (at, topic) in topics.iter().enumerate() {
        let set = |key: &str, value: Value| changed(sheet, |map| map["topics"][at][key] = value);
        for key in ["partitions", "replication_factor"] {
            let now = topic[key].as_u64().unwrap_or(1);
            all.extend(smaller(now).into_iter().map(|less| set(key, json!(less))));
        }
        let rows = topic["assignment"].as_array().map_or(&[][..], Vec::as_slice);
        if rows.len() > 1 {
            all.push(set("assignment", json!(rows[..1])));
            all.push(set("assignment", json!(rows[..rows.len() - 1])));
            all.push(set("assignment", json!(rows[1..])));
        }
    }
}

/// Smaller numbers, the smallest first.
fn smaller(now: u64) -> Vec<u64> {
    let mut less: Vec<u64> =
        [1, now / 2, now.saturating_sub(1)].into_iter().filter(|n| *n > 0 && *n < now).collect();
    less.dedup();
    less
}

fn nodes(sheet: &Value, all: &mut Vec<Value>) {
    for (role, first) in [("controllers", 101), ("brokers", 1)] {
        let now = &sheet["cluster"][role];
        match now {
            Value::Number(count) => {
                let count = count.as_u64().unwrap_or(1);
                for less in smaller(count) {
                    let gone: Vec<u64> = (first + less..first + count).collect();
                    all.push(without_nodes(sheet, role, json!(less), &gone));
                }
            }
            Value::Array(ids) => {
                for (at, id) in ids.iter().enumerate().rev() {
                    let mut rest = ids.clone();
                    rest.remove(at);
                    all.push(without_nodes(sheet, role, json!(rest), &[id.as_u64().unwrap_or(0)]));
                }
            }
            Value::Object(nodes) => {
                for id in keys(now).into_iter().rev() {
                    let mut rest = nodes.clone();
                    rest.shift_remove(&id);
                    all.push(without_nodes(sheet, role, json!(rest), &[id.parse().unwrap_or(0)]));
                }
            }
            _ => {}
        }
    }
}

/// Fewer nodes, and nothing that asks for more of them than there are.
fn without_nodes(sheet: &Value, role: &str, rest: Value, gone: &[u64]) -> Value {
    let mut sheet = sheet.clone();
    let left = match &rest {
        Value::Number(n) => n.as_u64().unwrap_or(1),
        Value::Array(list) => list.len() as u64,
        other => keys(other).len() as u64,
    };
    sheet["cluster"][role] = rest;
    if role == "brokers" {
        for topic in sheet.get_mut("topics").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(rows) = topic.get_mut("assignment").and_then(Value::as_array_mut) {
                for row in rows.iter_mut().filter_map(Value::as_array_mut) {
                    row.retain(|id| id.as_u64().is_none_or(|id| !gone.contains(&id)));
                }
                // Partitions that had fewer of the nodes that are gone.
                let fewest = rows.iter().filter_map(|r| r.as_array().map(Vec::len)).min().unwrap_or(0);
                rows.iter_mut().filter_map(Value::as_array_mut).for_each(|row| row.truncate(fewest));
            }
            if topic["replication_factor"].as_u64().is_some_and(|factor| factor > left) {
                topic["replication_factor"] = json!(left);
            }
        }
    }
    sheet
}

fn workloads(sheet: &Value, all: &mut Vec<Value>) {
    for name in keys(&sheet["clients"]) {
        for kind in keys(&sheet["clients"][&name]) {
            let client = &sheet["clients"][&name][&kind];
            let set =
                |key: &str, value: Value| changed(sheet, |map| map["clients"][&name][&kind][key] = value);
            let unset = |key: &str| {
                changed(sheet, |map| {
                    map["clients"][&name][&kind].as_object_mut().expect("a client").shift_remove(key);
                })
            };
            for key in ["count", "instances", "keys", "transaction_size"] {
                if let Some(now) = client[key].as_u64() {
                    if key != "count" {
                        all.push(unset(key));
                    }
                    all.extend(smaller(now).into_iter().map(|less| set(key, json!(less))));
                }
            }
            if let Some(rate) = client["rate"].as_str().and_then(crate::scenario::units::rate) {
                for less in [1.0, 10.0, (rate / 2.0).ceil()] {
                    if less < rate {
                        all.push(set("rate", json!(format!("{less}/s"))));
                    }
                }
            }
            for key in ["size", "processing", "rack", "abort_every", "partition", "commit"] {
                if client.get(key).is_some() {
                    all.push(unset(key));
                }
            }
        }
    }
}

fn settings(sheet: &Value, all: &mut Vec<Value>) {
    for key in ["network", "host", "config"] {
        if sheet["cluster"].get(key).is_some() {
            all.push(changed(sheet, |map| {
                map["cluster"].as_object_mut().expect("it has keys").shift_remove(key);
            }));
        }
    }
    let mut paths = Vec::new();
    configs(sheet, &mut String::new(), &mut paths);
    for path in paths {
        for key in keys(sheet.pointer(&path).unwrap_or(&Value::Null)) {
            let mut less = sheet.clone();
            let config = less.pointer_mut(&path).and_then(Value::as_object_mut).expect("it was found");
            config.shift_remove(&key);
            if config.is_empty() {
                let parent = path
                    .strip_suffix("/config")
                    .and_then(|p| less.pointer_mut(p))
                    .and_then(Value::as_object_mut);
                parent.expect("the object that has it").shift_remove("config");
            }
            all.push(less);
        }
    }
}

/// The places of all objects called `config`.
fn configs(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, v)| (key.replace('~', "~0").replace('/', "~1"), v)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(at, v)| (at.to_string(), v)).collect(),
        _ => return,
    };
    for (key, value) in inner {
        let length = path.len();
        path.push('/');
        path.push_str(&key);
        if key == "config" && value.is_object() {
            paths.push(path.clone());
        } else if key != "steps" {
            configs(value, path, paths);
        }
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_go_with_their_replicas() {
        let sheet = json!({
            "cluster": { "brokers": 3, "controllers": [101, 102] },
            "topics": [{ "name": "t", "assignment": [[1, 2, 3], [2, 3, 1]] }, { "name": "u", "replication_factor": 3 }],
        });
        let mut all = Vec::new();
        nodes(&sheet, &mut all);
        assert_eq!(all[0]["cluster"]["controllers"], json!([101]));
        let one = all.iter().find(|s| s["cluster"]["brokers"] == 1).unwrap();
        assert_eq!(one["topics"][0]["assignment"], json!([[1], [1]]));
        assert_eq!(one["topics"][1]["replication_factor"], 1);
        let two = all.iter().find(|s| s["cluster"]["brokers"] == 2).unwrap();
        assert_eq!(two["topics"][0]["assignment"], json!([[1, 2], [2, 1]]));
    }

    #[test]
    fn every_candidate_is_smaller() {
        let sheet = json!({
            "cluster": { "brokers": { "1": {}, "2": { "config": { "a": 1 } } }, "network": {}, "mutants": ["x"] },
            "topics": [{ "name": "t", "partitions": 4, "config": { "a": 1, "b": 2 } }],
            "clients": { "shop": { "producer": { "rate": "100/s", "keys": 5, "count": 100, "config": { "acks": "all" } } } },
            "finally": { "expect": [], "within": "60s" }, "limit": "1h",
        });
        let all = candidates(&sheet);
        assert!(all.len() > 20, "{}", all.len());
        for one in &all {
            assert_ne!(one, &sheet);
            assert!(one.to_string().len() <= sheet.to_string().len(), "{one}");
            assert_eq!(one["cluster"]["mutants"], json!(["x"]), "what makes the bug stays");
        }
    }
}
