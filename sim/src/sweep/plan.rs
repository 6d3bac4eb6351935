//! Which runs a sweep has: seeds x variants x a matrix of options, and the part of them that is this process's.

use std::sync::Arc;

use reports::Verdict;
use serde_json::{Map, Value};

use super::line::Line;
use crate::runner::{self, RunError, RunOptions};
use crate::scenario::{Scenario, Sheet};

/// The runs of a sweep, numbered from 0: by seed, then by case.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario as the user names it.
    pub scenario: String,
    /// The first and the last seed.
    pub seeds: (u64, u64),
    /// The variants and options that each seed runs.
    pub cases: Vec<Case>,
    /// The so-manieth of so many parts; each has every so-manieth seed.
    pub shard: (u64, u64),
}

/// A variant with options of the matrix.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is run.
    pub scenario: Arc<Scenario>,
    /// The variant.
    pub variant: Option<String>,
    /// What the matrix sets, by pointer.
    pub matrix: Map<String, Value>,
    /// The options of `highwater run` that make this case.
    pub arguments: String,
}

impl Case {
    /// Its name in a table: the variant, and what the matrix sets.
    pub fn name(&self) -> String {
        let mut name = self.variant.clone().unwrap_or_else(|| "(as it stands)".to_owned());
        for (pointer, value) in &self.matrix {
            name.push_str(&format!(" {pointer}={}", plain(value)));
        }
        name
    }
}

/// A value as it is written behind `--set POINTER=`.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `POINTER=V1,V2`: values in turn. Commas inside brackets, braces and quotes belong to a value.
pub fn axis(text: &str) -> Result<(String, Vec<String>), String> {
    let expected = "expected a place and its values, such as /topics/0/config/min.insync.replicas=1,2";
    let (pointer, values) =
        text.split_once('=').filter(|(p, v)| p.starts_with('/') && !v.is_empty()).ok_or(expected)?;
    let (mut parts, mut depth, mut quoted, mut escaped) = (vec![String::new()], 0_i32, false, false);
    for c in values.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("one at least").push(c);
    }
    Ok((pointer.to_owned(), parts))
}

/// The product of a matrix: each a list of `POINTER=VALUE`.
fn product(axes: &[(String, Vec<String>)]) -> Vec<Vec<(String, String)>> {
    let mut cells = vec![Vec::new()];
    for (pointer, values) in axes {
        let with = |cell: &Vec<(String, String)>| {
            let cell = cell.clone();
            values
                .iter()
                .map(move |v| [cell.clone(), vec![(pointer.clone(), v.clone())]].concat())
                .collect::<Vec<_>>()
        };
        cells = cells.iter().flat_map(with).collect();
    }
    cells
}

/// The variant that is named (`none`: the sheet as it stands), or all of them.
pub fn variants(sheet: &Sheet, named: Option<&str>) -> Vec<Option<String>> {
    match named {
        Some("none") => vec![None],
        Some(name) => vec![Some(name.to_owned())],
        None => std::iter::once(None).chain(sheet.variants.iter().cloned().map(Some)).collect(),
    }
}

/// The cases of a scenario: each variant with each cell of the matrix. `apply` makes the scenario of a variant with
/// overrides; `also` are options of the command line that go with each of them.
pub fn cases(
    variants: &[Option<String>],
    overrides: &[String],
    axes: &[(String, Vec<String>)],
    also: &str,
    apply: impl Fn(Option<&str>, &[String]) -> Result<Scenario, String>,
) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for variant in variants {
        for cell in product(axes) {
            let set: Vec<String> = cell.iter().map(|(pointer, value)| format!("{pointer}={value}")).collect();
            let all = [overrides, &set].concat();
            let scenario = apply(variant.as_deref(), &all)?;
            let mut arguments = variant.as_ref().map_or(String::new(), |v| format!(" --variant {v}"));
            for set in &all {
                arguments.push_str(&format!(" --set '{set}'"));
            }
            arguments.push_str(also);
            let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            let matrix = cell.iter().map(|(pointer, text)| (pointer.clone(), value(text))).collect();
            cases.push(Case { scenario: Arc::new(scenario), variant: variant.clone(), matrix, arguments });
        }
    }
    Ok(cases)
}

impl Plan {
    /// How many runs all parts have together.
    pub fn whole(&self) -> u64 {
        (self.seeds.1 - self.seeds.0).saturating_add(1).saturating_mul(self.cases.len() as u64)
    }

    /// How many seeds this part has.
    fn own_seeds(&self) -> u64 {
        let (index, parts) = self.shard;
        (self.seeds.1 - self.seeds.0).saturating_add(1).saturating_sub(index - 1).div_ceil(parts)
    }

    /// How many runs this part has.
    pub fn len(&self) -> u64 {
        self.own_seeds() * self.cases.len() as u64
    }

    /// Whether this part has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The seed and the case's place of a run of this part.
    pub fn at(&self, number: u64) -> (u64, usize) {
        let cases = self.cases.len() as u64;
        let (index, parts) = self.shard;
        (self.seeds.0 + (index - 1) + number / cases * parts, (number % cases) as usize)
    }

    /// A run's place among those of all parts.
    pub fn place(&self, seed: u64, case: usize) -> u64 {
        (seed - self.seeds.0) * self.cases.len() as u64 + case as u64
    }

    /// The line that reproduces a run.
    pub fn reproduce(&self, seed: u64, case: usize) -> String {
        format!("highwater run {} --seed {seed}{}", self.scenario, self.cases[case].arguments)
    }

    /// Makes a run. An error is a world that cannot be built.
    pub fn run(&self, number: u64) -> Result<Line, String> {
        let (seed, case) = self.at(number);
        let reproduce = self.reproduce(seed, case);
        let options = RunOptions { seed, keep_disks: None, trace: false, reproduce };
        match runner::run(&self.cases[case].scenario, &options) {
            Ok(outcome) => Ok(Line::of(case, &outcome.report)),
            Err(RunError::Refused(why)) => {
                Err(format!("error: seed {seed}: {why}\n  = help: {}", options.reproduce))
            }
            Err(RunError::Crash(crash)) => Ok(Line::failed(case, seed, Verdict::Crash, crash.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_an_axis() {
        let of = |text| axis(text).map(|(_, values)| values);
        assert_eq!(of("/a=1,2"), Ok(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(of("/a=[1,2],{\"b\":3,\"c\":\"x,y\"}").map(|v| v.len()), Ok(2));
        assert_eq!(of("/a=\"x,y\",z").map(|v| v.len()), Ok(2));
        assert!(of("a=1").is_err() && of("/a").is_err() && of("/a=").is_err());
        let axes = [axis("/a=1,2").unwrap(), axis("/b=x,y,z").unwrap()];
        let cells = product(&axes);
        assert_eq!(cells.len(), 6);
        assert_eq!(cells[1], [("/a".to_owned(), "1".to_owned()), ("/b".to_owned(), "y".to_owned())]);
        assert_eq!(product(&[]), [vec![]]);
    }

    #[test]
    fn parts_have_every_run_once() {
        let text =
            r#"{ "title": "t", "cluster": { "brokers": 1 }, "steps": [], "variants": { "a": {}, "b": {} } }"#;
        let sheet = crate::scenario::parse("t.json".as_ref(), text.to_owned()).unwrap();
        let apply = |variant: Option<&str>, set: &[String]| Ok(sheet.with_overrides(variant, set).unwrap());
        let cases = cases(&variants(&sheet, None), &[], &[axis("/limit=1h,2h").unwrap()], "", apply).unwrap();
        assert_eq!(cases.len(), 6);
        assert_eq!(cases[3].arguments, " --variant a --set '/limit=2h'");
        let whole = Plan { scenario: "t".into(), seeds: (5, 11), cases, shard: (1, 1) };
        assert_eq!(whole.len(), 42);
        let mut places = Vec::new();
        for index in 1..=9 {
            let part = Plan { shard: (index, 9), ..whole.clone() };
            places.extend((0..part.len()).map(|n| part.at(n)).map(|(seed, case)| part.place(seed, case)));
        }
        places.sort_unstable();
        assert_eq!(places, (0..42).collect::<Vec<u64>>());
    }
}
