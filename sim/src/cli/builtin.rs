//! The scenarios that come with Highwater, part of the binary.

use include_dir::{Dir, include_dir};

static SCENARIOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../scenarios");

/// The text of a scenario by its name (`kill-broker-1`), and the path that it has in the source tree.
pub fn find(name: &str) -> Option<(String, &'static str)> {
    let name = name.strip_suffix(".json").unwrap_or(name);
    all()
        .into_iter()
        .find(|(_, known, _)| known == name)
        .map(|(folder, name, text)| (format!("scenarios/{folder}/{name}.json"), text))
}

/// The names of all, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = all().into_iter().map(|(_, name, _)| name).collect();
    names.sort();
    names
}

/// (folder, name, text) of all, sorted.
pub fn all() -> Vec<(String, String, &'static str)> {
    let mut all = Vec::new();
    for folder in SCENARIOS.dirs() {
        for file in folder.files() {
            let path = file.path();
            if path.extension().is_some_and(|e| e == "json") {
                let part = |p: Option<&std::ffi::OsStr>| p.unwrap_or_default().to_string_lossy().into_owned();
                all.push((
                    part(folder.path().file_name()),
                    part(path.file_stem()),
                    file.contents_utf8().unwrap_or_default(),
                ));
            }
        }
    }
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_lab_comes_with_the_binary() {
        let (path, text) = super::find("kill-broker-1").unwrap();
        assert_eq!(path, "scenarios/labs/kill-broker-1.json");
        assert!(text.contains("ISR"));
        assert!(super::find("kill-broker-1.json").is_some());
        assert!(super::find("kill-broker-9").is_none());
    }
}
