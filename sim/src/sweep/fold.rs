//! Adds up the lines of a sweep without keeping them: memory does not grow with the number of runs.

use std::collections::BTreeMap;

use reports::Verdict;
use reports::coverage::Sketch;

use super::line::Line;
use super::plan::Plan;

/// So many runs that did not pass are kept to be shown: those of the lowest seeds.
pub const SHOWN: usize = 10;

/// What came of a sweep. The order in which lines are added does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fold {
    /// How many runs.
    pub runs: u64,
    /// Verdicts by case.
    pub verdicts: BTreeMap<(usize, Verdict), u64>,
    /// What was found, by the checker's name.
    pub violations: BTreeMap<String, Tally>,
    /// The first runs that did not pass, by seed and case.
    pub failing: BTreeMap<(u64, usize), Line>,
    /// In how many runs each kind of domain event was seen.
    pub events: BTreeMap<String, u64>,
    /// The states that clusters were in.
    pub states: Sketch,
    /// Virtual time in milliseconds.
    pub virtual_ms: u64,
    /// Frames delivered.
    pub frames: u64,
    sum: [u64; 4],
}

/// How often a checker found something.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// In so many runs.
    pub runs: u64,
    /// In so many of them the configuration had ruled it out.
    pub promised: u64,
    /// The first run: seed and case.
    pub first: (u64, usize),
}

impl Fold {
    /// Adds a run.
    pub fn add(&mut self, plan: &Plan, line: &Line) {
        let at = (line.seed, line.case);
        self.runs += 1;
        *self.verdicts.entry((line.case, line.verdict)).or_default() += 1;
        let mut names: BTreeMap<&str, bool> = BTreeMap::new();
        for found in &line.violations {
            *names.entry(&found.name).or_default() |= found.promised;
        }
        for (name, promised) in names {
            let tally =
                self.violations.entry(name.to_owned()).or_insert(Tally { runs: 0, promised: 0, first: at });
            tally.runs += 1;
            tally.promised += u64::from(promised);
            tally.first = tally.first.min(at);
        }
        for name in &line.events {
            match self.events.get_mut(name) {
                Some(runs) => *runs += 1,
                None => drop(self.events.insert(name.clone(), 1)),
            }
        }
        self.states.merge(&line.states);
        self.virtual_ms += (line.virtual_seconds * 1e3).round() as u64;
        self.frames += line.frames;
        self.digest_of(plan, line);
        if line.verdict != Verdict::Pass {
            self.failing.insert(at, line.clone());
            if self.failing.len() > SHOWN {
                self.failing.pop_last();
            }
        }
    }

    fn digest_of(&mut self, plan: &Plan, line: &Line) {
        let case = &plan.cases[line.case];
        let key = serde_json::json!([case.variant, case.matrix, line.seed, line.verdict.word(), line.digest]);
        let hash = blake3::hash(key.to_string().as_bytes());
        for (word, bytes) in self.sum.iter_mut().zip(hash.as_bytes().as_chunks::<8>().0) {
            *word = word.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }

    /// The digest of all runs: the sum of their hashes.
    pub fn digest(&self) -> String {
        let bytes: Vec<String> =
            self.sum.iter().flat_map(|word| word.to_le_bytes()).map(|b| format!("{b:02x}")).collect();
        format!("b3{}", bytes.concat())
    }

    /// The verdict that decides the exit code.
    pub fn worst(&self) -> Verdict {
        self.verdicts
            .keys()
            .map(|(_, verdict)| *verdict)
            .max_by_key(|v| severity(*v))
            .unwrap_or(Verdict::Pass)
    }

    /// How many runs ended so.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.iter().filter(|((_, v), _)| *v == verdict).map(|(_, count)| count).sum()
    }

    /// The events that the cases' `sometimes` name and no run reached.
    pub fn sometimes_missed(&self, plan: &Plan) -> Vec<String> {
        let mut missed: Vec<String> = plan.cases.iter().flat_map(|c| c.scenario.sometimes.clone()).collect();
        missed.retain(|name| !self.events.contains_key(name));
        missed.sort_unstable();
        missed.dedup();
        missed
    }
}

/// Which verdict decides a sweep's exit code.
fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Expectation => 1,
        Verdict::Liveness => 2,
        Verdict::Violation => 3,
        Verdict::Crash => 4,
        Verdict::Nondeterministic => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Found;
    use super::super::plan::{cases, variants};
    use super::*;

    fn plan() -> Plan {
        let text = r#"{ "title": "t", "cluster": { "brokers": 1 }, "steps": [], "variants": { "a": {} },
            "sometimes": ["LogTruncated", "BecameLeader"] }"#;
        let sheet = crate::scenario::parse("t.json".as_ref(), text.to_owned()).unwrap();
        let apply = |variant: Option<&str>, set: &[String]| Ok(sheet.with_overrides(variant, set).unwrap());
        Plan {
            scenario: "t".into(),
            seeds: (1, 50),
            cases: cases(&variants(&sheet, None), &[], &[], "", apply).unwrap(),
            shard: (1, 1),
        }
    }

    fn line(plan: &Plan, number: u64) -> Line {
        let (seed, case) = plan.at(number);
        let mut line = Line::failed(case, seed, Verdict::Pass, String::new());
        line.digest = format!("b3{seed}");
        line.virtual_seconds = 1.25;
        line.events.insert("BecameLeader".to_owned());
        line.states.add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if seed % 3 == 0 {
            line.verdict = Verdict::Violation;
            let found = |promised| Found {
                name: "lost-write".into(),
                promised,
                subject: "t-0".into(),
                at_seconds: 1.5,
                count: 2,
            };
            line.violations = vec![found(false), found(true)];
        }
        line
    }

    #[test]
    fn neither_order_nor_parts_matter_and_lines_read_back() {
        let plan = plan();
        let (mut whole, mut parts) = (Fold::default(), Fold::default());
        (0..plan.len()).for_each(|n| whole.add(&plan, &line(&plan, n)));
        for index in (1..=3).rev() {
            let part = Plan { shard: (index, 3), ..plan.clone() };
            for n in (0..part.len()).rev() {
                let text = line(&part, n).to_json(&part).to_string();
                parts.add(&plan, &Line::parse(&text, &plan).unwrap());
            }
        }
        assert_eq!(whole, parts);
        assert_eq!(whole.digest(), parts.digest());
        assert_eq!(whole.runs, 100);
        assert_eq!(whole.failing.len(), SHOWN);
        assert_eq!(whole.violations["lost-write"], Tally { runs: 32, promised: 32, first: (3, 0) });
        assert_eq!(whole.worst(), Verdict::Violation);
        assert_eq!(whole.sometimes_missed(&plan), ["LogTruncated"]);
    }

    #[test]
    fn another_digest_of_one_run_is_another_digest_of_all() {
        let plan = plan();
        let mut digests = Vec::new();
        for digest in ["b3x", "b3y"] {
            let mut fold = Fold::default();
            fold.add(&plan, &Line { digest: digest.into(), ..line(&plan, 0) });
            digests.push(fold.digest());
        }
        assert_ne!(digests[0], digests[1]);
        assert_eq!(digests[0].len(), 66);
    }
}
