//! What README.md and ARCHITECTURE.md say is so: paths and names exist, the labs are all there, the example runs, the
//! excerpt is what is printed.
#![cfg(madsim)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;
use reports::Verdict;
use sim::runner::{self, RunOptions};
use sim::scenario;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

/// What stands in backticks, and where links lead, in prose (fenced blocks are left out), a paragraph or bullet each.
fn mentions(text: &str) -> Vec<Vec<String>> {
    let code = regex(r"`([^`\n]+)`|\]\(([^)\s]+)\)");
    let fences = regex(r"(?ms)^```.*?^```$");
    let prose = fences.replace_all(text, "");
    let blocks = regex(r"\n\s*\n|\n- |\n\d+\. ");
    let of = |block: &str| {
        code.captures_iter(block)
            .filter_map(|c| c.get(1).or(c.get(2)))
            .map(|m| m.as_str().to_owned())
            .collect()
    };
    blocks.split(&prose).map(of).collect()
}

/// All Rust sources of the project.
fn sources() -> String {
    fn collect(dir: &Path, all: &mut String) {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                collect(&path, all);
            } else if path.extension().is_some_and(|e| e == "rs") {
                all.push_str(&std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut all = String::new();
    for part in ["wire/src", "codecs/src", "broker-core/src", "client/src", "reports/src", "sim/src"] {
        collect(&root().join(part), &mut all);
    }
    all
}

#[test]
fn paths_that_the_documents_name_exist() {
    let path = regex(r"^[\w.-]+(/[\w.-]+)+/?$|^[\w-]+\.(md|rs|json|toml)$|^(justfile|LICENSE-\w+)$");
    let not_ours = regex(r"^(link|disk|process)/|/release/|^(run|my-own)\.");
    let (mut checked, mut missing) = (0, Vec::new());
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for block in mentions(&read(document)) {
            // A bare file name in a bullet lies beside, or below, the path that the bullet begins with.
            let mut place = None;
            for mention in block.iter().filter(|m| path.is_match(m) && !not_ours.is_match(m)) {
                let here = root().join(mention);
                if !here.exists() && !place.as_ref().is_some_and(|p: &PathBuf| p.join(mention).exists()) {
                    missing.push(format!("{document}: {mention}"));
                }
                if mention.contains('/') && here.exists() && place.is_none() {
                    let dir =
                        if here.is_dir() { here } else { here.parent().expect("a directory").to_owned() };
                    place = Some(dir);
                }
                checked += 1;
            }
        }
    }
    assert!(missing.is_empty(), "named, but not there: {missing:#?}");
    assert!(checked > 100, "only {checked} paths were found in the documents");
}

#[test]
fn names_that_the_documents_use_exist() {
    let sources = sources();
    let words: BTreeSet<&str> = regex(r"\w+").find_iter(&sources).map(|m| m.as_str()).collect();
    let name = regex(r"^([A-Z][a-z0-9]+([A-Z][A-Za-z0-9]*)?|\w+(::\w+)+)$");
    let mut checked = 0;
    for block in mentions(&read("ARCHITECTURE.md")) {
        for mention in block.iter().filter(|m| name.is_match(m)) {
            for word in mention.split("::") {
                assert!(words.contains(word), "ARCHITECTURE.md speaks of {mention}; nothing is named {word}");
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} names were found");
}

/// Every module with files of its own is in the code map.
#[test]
fn the_code_map_is_complete() {
    let map = read("ARCHITECTURE.md");
    for part in ["wire/src", "broker-core/src", "client/src", "sim/src"] {
        for entry in std::fs::read_dir(root().join(part)).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = format!("{part}/{}", path.file_name().expect("a name").to_string_lossy());
            let known = map.contains(&format!("`{name}`")) || map.contains(&format!("`{name}/"));
            assert!(known || !path.is_dir(), "the code map leaves out {name}");
        }
    }
}

#[test]
fn the_table_of_labs_is_complete() {
    let readme = read("README.md");
    let row = regex(r"(?m)^\| `([\w-]+)` \|(.*)$");
    let rows: Vec<(String, String)> =
        row.captures_iter(&readme).map(|c| (c[1].to_owned(), c[2].to_owned())).collect();
    let files: BTreeSet<String> = std::fs::read_dir(root().join("scenarios/labs"))
        .expect("the labs")
        .map(|e| e.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(rows.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), files);
    let variant = regex(r"Variant `([\w-]+)`");
    for (name, text) in &rows {
        let sheet = scenario::load(&root().join(format!("scenarios/labs/{name}.json"))).expect("it loads");
        let told: Vec<String> = variant.captures_iter(text).map(|c| c[1].to_owned()).collect();
        assert_eq!(told, sheet.variants, "{name}");
    }
}

#[test]
fn the_commands_are_all_named() {
    let named: BTreeSet<String> = mentions(&read("README.md"))
        .into_iter()
        .flatten()
        .filter(|m| m.starts_with("kafka-") && !m.contains('*'))
        .collect();
    assert_eq!(named, client::command::names().map(str::to_owned).collect());
}

#[test]
fn the_exit_codes_are_those_of_the_verdicts() {
    let readme = read("README.md");
    for verdict in [
        Verdict::Pass,
        Verdict::Expectation,
        Verdict::Violation,
        Verdict::Liveness,
        Verdict::Nondeterministic,
        Verdict::Crash,
    ] {
        assert!(readme.contains(&format!("\n| {} | ", verdict.exit_code())), "{verdict:?}");
    }
    for code in [sim::cli::USAGE, sim::cli::INTERRUPTED] {
        assert!(readme.contains(&format!("\n| {code} | ")), "{code}");
    }
}

/// The fenced block of a language that contains a text.
fn block(document: &str, language: &str, with: &str) -> String {
    let fence = regex(&format!(r"(?ms)^```{language}\n(.*?)^```$"));
    let text = read(document);
    let found = fence.captures_iter(&text).map(|c| c[1].to_owned()).find(|b| b.contains(with));
    found.unwrap_or_else(|| panic!("{document} has no block with {with}"))
}

fn run(path: &str, text: &str, seed: u64) -> reports::RunReport {
    let sheet = scenario::parse(Path::new(path), text.to_owned()).unwrap_or_else(|e| panic!("{e}"));
    let scenario = sheet.variant(None).expect("the sheet as it stands");
    let reproduce = format!("highwater run {path} --seed {seed}");
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce };
    runner::run(&scenario, &options).expect("it runs").report
}

#[test]
fn the_example_runs_and_its_mistake_is_told() {
    let example = block("README.md", "json", "A broker that freezes");
    assert_eq!(run("my-own.json", &example, 1).verdict, Verdict::Pass);
    let broken = example.replace("\"isr_size\": 2", "\"isr_sise\": 2");
    let refused = scenario::parse(Path::new("my-own.json"), broken).expect_err("a key that is not there");
    let told = block("README.md", "text", "isr_sise");
    assert_eq!(refused.to_string().trim_end(), told.trim_end());
}

/// Each line of the excerpt stands in the output, in this order; numbers of more than one digit may differ.
#[test]
fn the_excerpt_is_what_is_printed() {
    // How many times as fast as real time is one digit on a busy machine.
    let number = regex(r"[0-9a-f]{12,}|[0-9]+x\b|[0-9][0-9.]+");
    let space = regex(r"\s+");
    let plain = |line: &str| number.replace_all(&space.replace_all(line.trim(), " "), "#").into_owned();
    let path = "scenarios/labs/kill-broker-1.json";
    let page = reports::terminal::render(&run(path, &read(path), 7));
    let page = anstream::adapter::strip_str(&page).to_string();
    let mut lines = page.lines().map(plain);
    let excerpt = block("README.md", "text", "what happened");
    assert!(page.lines().chain(excerpt.lines()).all(|l| l.chars().count() <= 80), "80 columns");
    for line in excerpt.lines().filter(|l| !l.trim().is_empty() && *l != "…") {
        assert!(lines.any(|l| l == plain(line)), "README.md shows a line that is not printed there:\n{line}");
    }
}
