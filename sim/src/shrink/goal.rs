//! What a shrunk scenario must still show.

use reports::{RunReport, Verdict, ViolationReport};

/// How a run went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The verdict.
    pub verdict: Verdict,
    /// The checker that found something, and whether the configuration had ruled it out.
    pub violation: Option<(String, bool)>,
    /// The assertion, its numbers left out.
    pub assertion: Option<String>,
}

impl Goal {
    /// What a run shows: the violation of this name; without one, that which decided, or how it ended. `None` if
    /// nothing went wrong.
    pub fn of(report: &RunReport, named: Option<&str>) -> Option<Goal> {
        let verdict = report.verdict;
        let goal = |violation: Option<&ViolationReport>, assertion| {
            let violation = violation.map(|v| (v.name.clone(), v.promised));
            Some(Goal { verdict, violation, assertion })
        };
        if let Some(name) = named {
            let found = report.violations.iter().filter(|v| v.name == name);
            let found: Vec<_> = found.collect();
            let best = found.iter().find(|v| v.promised).or(found.first())?;
            return goal(Some(best), None);
        }
        match verdict {
            Verdict::Crash => goal(None, report.why.as_deref().map(assertion)),
            Verdict::Violation => {
                let promised = report.violations.iter().find(|v| v.promised);
                goal(promised.or(report.violations.first()), None)
            }
            Verdict::Liveness | Verdict::Expectation => {
                // What a checker found says more than where the run got stuck.
                goal(report.violations.iter().find(|v| v.promised), None)
            }
            Verdict::Pass | Verdict::Nondeterministic => {
                let promised = report.violations.iter().find(|v| v.promised);
                promised.and_then(|found| goal(Some(found), None))
            }
        }
    }

    /// Whether a run shows it. What a checker finds counts however the run ended, but for one that stopped before.
    pub fn shown_by(&self, report: &RunReport) -> bool {
        let found = |name: &str, promised: bool| {
            report.violations.iter().any(|v| v.name == name && v.promised == promised)
        };
        match (&self.violation, &self.assertion) {
            (Some((name, promised)), _) => {
                let ended = report.verdict == self.verdict
                    || matches!(self.verdict, Verdict::Expectation | Verdict::Liveness)
                        && report.verdict == Verdict::Violation;
                ended && found(name, *promised)
            }
            (None, Some(text)) => {
                report.verdict == Verdict::Crash
                    && report.why.as_deref().map(assertion).as_ref() == Some(text)
            }
            (None, None) => report.verdict == self.verdict,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.violation, &self.assertion) {
            (Some((name, true)), _) => write!(f, "{name}, although the configuration promised otherwise"),
            (Some((name, false)), _) => write!(f, "{name}"),
            (None, Some(text)) => write!(f, "the assertion \"{text}\""),
            (None, None) => write!(f, "the verdict {}", self.verdict.word()),
        }
    }
}

/// The first line without its numbers: nodes, offsets and times change when a scenario gets smaller.
fn assertion(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    let mut text = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_no_part_of_an_assertion() {
        assert_eq!(super::assertion("broker-2: offset 1234 < 9\nafter"), "broker-#: offset # < #");
    }
}
