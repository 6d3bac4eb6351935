//! Why something was found: the story of the record concerned, the decisive events, and what would have prevented it.
//!
//! The run itself keeps nothing for that. When it has found something, the same seed runs again and keeps what concerns
//! the findings ([`record`]): that is the same run, event by event, and costs as little. [`story`] tells it in at most
//! five sentences and a table; [`remedy`] names the setting that would have prevented it, and a third run with that
//! setting says whether it would.

pub mod record;
pub mod remedy;
pub mod story;

use std::collections::BTreeMap;

use reports::{RemedyReport, RunReport, StoryReport};

use crate::checkers::Subject;
use crate::runner::observer::Finding;
use crate::runner::{self, RunError, RunOptions};
use crate::scenario::{ClientKind, Scenario};
use record::{Recording, Watch};
use remedy::Remedy;
use story::Scene;

/// So many findings of a run are explained: more of them have the same cause nearly always.
const EXPLAINED: usize = 8;

/// Explains what a run has found, in its report; `verify` tries the remedies.
pub fn explain(
    scenario: &Scenario,
    options: &RunOptions,
    findings: &[Finding],
    report: &mut RunReport,
    verify: bool,
) -> Result<(), RunError> {
    let explained = &findings[..findings.len().min(EXPLAINED)];
    if explained.is_empty() {
        return Ok(());
    }
    // What a remedy changes is what the seed drew.
    let scenario = &runner::drawn(scenario, options)?;
    let watched =
        |finding: &Finding| Watch { subject: finding.subject.clone(), offset: focus(&finding.text) };
    let recordings: Vec<Recording> = explained.iter().map(|f| Recording::of(watched(f))).collect();
    let again = runner::again(scenario, options, recordings)?;
    let mut tried = Tried::default();
    for ((finding, recording), violation) in
        explained.iter().zip(&again.recordings).zip(&mut report.violations)
    {
        let told = story::tell(&Scene {
            name: finding.name,
            text: &finding.text,
            subject: finding.subject.to_string(),
            offset: focus(&finding.text),
            found: finding.at,
            origin: again.origin,
            acks: acks(scenario, finding),
            facts: &recording.facts,
        });
        violation.explanation = told.text;
        let remedies = remedy::of(scenario, finding);
        let remedy = if verify { tried.best(options, finding, &remedies)? } else { untried(&remedies) };
        violation.story = Some(StoryReport { rows: told.rows, remedy });
    }
    Ok(())
}

/// Remedies that were tried, by their settings: several findings often have one cause.
#[derive(Default)]
struct Tried(BTreeMap<Vec<String>, Option<Vec<Finding>>>);

impl Tried {
    /// The first remedy that helps against a finding, or the likeliest if none does.
    fn best(
        &mut self,
        options: &RunOptions,
        finding: &Finding,
        remedies: &[Remedy],
    ) -> Result<Option<RemedyReport>, RunError> {
        for remedy in remedies {
            if self.helps(options, finding, remedy)? {
                return Ok(Some(told(remedy, Some(true))));
            }
        }
        Ok(remedies.first().map(|remedy| told(remedy, Some(false))))
    }

    /// Whether a remedy helps: the run came to its end, and did not find the same.
    fn helps(&mut self, options: &RunOptions, finding: &Finding, remedy: &Remedy) -> Result<bool, RunError> {
        if !self.0.contains_key(&remedy.settings) {
            self.0.insert(remedy.settings.clone(), runner::found_with(&remedy.scenario, options)?);
        }
        let is_it = |f: &Finding| f.name == finding.name && f.subject == finding.subject;
        Ok(self.0[&remedy.settings].as_ref().is_some_and(|found| !found.iter().any(is_it)))
    }
}

fn untried(remedies: &[Remedy]) -> Option<RemedyReport> {
    remedies.first().map(|remedy| told(remedy, None))
}

fn told(remedy: &Remedy, helps: Option<bool>) -> RemedyReport {
    RemedyReport { text: remedy.text.clone(), settings: remedy.settings.clone(), helps }
}

/// The offset that a checker's words are about: the first that they name, or the last below a bound.
fn focus(text: &str) -> Option<i64> {
    let number = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i64>().ok();
    let mut words = text.split_inclusive(' ').scan(0, |at, word| {
        let from = *at;
        *at += word.len();
        Some((from, word.trim_end()))
    });
    words.find_map(|(from, word)| {
        let rest = &text[from + word.len()..];
        let rest = rest.strip_prefix(' ')?;
        match word {
            "below" => number(rest.strip_prefix("offset ").unwrap_or(rest)).map(|bound| bound - 1),
            "offset" | "Offset" => number(rest),
            _ => None,
        }
    })
}

/// What the producers of a finding's topic are set to.
fn acks(scenario: &Scenario, finding: &Finding) -> String {
    let Subject::Partition(topic, _) = &finding.subject else { return String::new() };
    let writes = scenario
        .clients
        .iter()
        .find(|client| matches!(&client.kind, ClientKind::Producer { topic: to, .. } if to == topic));
    writes.map_or(String::new(), |client| {
        format!("acks={}", client.config.get("acks").map_or("all", String::as_str))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_that_a_text_is_about() {
        for (text, offset) in [
            ("shop-41 was acknowledged at offset 1041 of t-0. Nobody found it.", Some(1041)),
            ("broker-2 became leader. Records below 20 were committed before.", Some(19)),
            ("broker-1 had synced everything below offset 8. It ends at 7.", Some(7)),
            ("Offset 12 of leader epoch 3 is one batch on broker-1", Some(12)),
            ("The leader, broker-1, is not in the ISR [2].", None),
        ] {
            assert_eq!(focus(text), offset, "{text}");
        }
    }
}
