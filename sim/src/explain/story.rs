//! The story of the record that a finding is about: who wrote it, who copied and acknowledged it, who was elected, and who
//! cut it off. At most five sentences, and a table of the decisive events.

use std::sync::Arc;

use broker_core::event::{BatchMark, PartitionState};
use reports::StoryRow;

use super::record::{Fact, Told};
use crate::world::{ProcEvent, SimTime};

/// A finding has at most so many sentences.
const SENTENCES: usize = 5;
/// And its table so many rows.
const ROWS: usize = 14;

/// What a story is told of.
pub struct Scene<'a> {
    /// The finding's name.
    pub name: &'a str,
    /// The checker's own words.
    pub text: &'a str,
    /// `purchases-0`
    pub subject: String,
    /// The offset that it is about.
    pub offset: Option<i64>,
    /// When it was found.
    pub found: SimTime,
    /// Where 0.0 s is.
    pub origin: SimTime,
    /// What the producers of the topic are set to, in a few words.
    pub acks: String,
    /// All that was recorded.
    pub facts: &'a [Fact],
}

/// Sentences and rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Story {
    /// At most five sentences.
    pub text: String,
    /// In the order of time.
    pub rows: Vec<StoryRow>,
}

/// Tells the story of a finding.
pub fn tell(scene: &Scene<'_>) -> Story {
    let before: Vec<&Fact> = scene.facts.iter().filter(|fact| fact.at <= scene.found).collect();
    let plot = Plot::of(scene, &before);
    let sentences = plot.as_ref().map_or_else(Vec::new, |plot| plot.sentences(scene));
    // Who wrote it and what became of it says more than that it is not there; a broken invariant speaks for itself.
    let client_side = scene.name.chars().next().is_some_and(char::is_lowercase);
    let own = match client_side && plot.as_ref().is_some_and(|plot| plot.ack.is_some()) {
        true => Vec::new(),
        false => split(scene.text),
    };
    let room = SENTENCES.saturating_sub(own.len());
    let text = own.into_iter().chain(sentences.into_iter().take(room)).collect::<Vec<_>>().join(" ");
    Story { text, rows: rows(scene, &before, plot.as_ref()) }
}

/// The sentences of a text.
fn split(text: &str) -> Vec<String> {
    let mut sentences: Vec<String> = text.split_inclusive(". ").map(|s| s.trim().to_owned()).collect();
    sentences.retain(|s| !s.is_empty());
    sentences
}

/// The facts that decide, found among all.
struct Plot<'a> {
    /// The first append of what was written at the offset.
    written: &'a Fact,
    mark: BatchMark,
    /// Followers that copied it, and when.
    copies: Vec<&'a Fact>,
    ack: Option<&'a Fact>,
    passed: Option<&'a Fact>,
    reads: Vec<&'a Fact>,
    /// What befell those who had it.
    downfalls: Vec<&'a Fact>,
    /// The election that put somebody in front who did not have it: the committed state, and the log's end.
    election: Option<Election<'a>>,
    /// Where it was cut off or not found any more.
    cuts: Vec<&'a Fact>,
    /// What stands there now.
    over: Option<&'a Fact>,
}

struct Election<'a> {
    fact: &'a Fact,
    after: &'a PartitionState,
    before: Option<&'a PartitionState>,
    start: i64,
    leads: &'a Fact,
}

impl<'a> Plot<'a> {
    fn of(scene: &Scene<'_>, facts: &[&'a Fact]) -> Option<Plot<'a>> {
        let offset = scene.offset?;
        let ack = facts.iter().copied().find(|fact| matches!(fact.what, Told::Acked { .. }));
        let until = ack.map_or(scene.found, |ack| ack.at);
        let led = |fact: &&&'a Fact| matches!(fact.what, Told::Appended { as_leader: true, .. });
        let written = match facts.iter().filter(led).rfind(|fact| fact.at <= until) {
            Some(fact) => *fact,
            None => *facts.iter().find(led)?,
        };
        let Told::Appended { mark, .. } = written.what else { unreachable!("it was one") };
        let is_copy = |fact: &&'a Fact| matches!(&fact.what, Told::Appended { as_leader: false, mark: m } if m.epoch == mark.epoch && m.crc == mark.crc);
        let copies: Vec<&Fact> = facts.iter().copied().filter(is_copy).collect();
        let later = || facts.iter().copied().filter(|fact| fact.at > written.at);
        let election = election(facts, written, offset);
        let had = |fact: &Fact| {
            fact.node.is_some()
                && (fact.node == written.node || copies.iter().any(|c| c.node == fact.node && c.at < fact.at))
        };
        let end = election.as_ref().map_or(scene.found, |election| election.leads.at);
        let befell = |fact: &&Fact| {
            had(fact) && fact.at <= end && matches!(&fact.what, Told::Proc(event) if is_downfall(event))
        };
        let is_cut = |fact: &&Fact| match fact.what {
            Told::Cut { .. } => true,
            Told::Opened { end } => had(fact) && end <= offset,
            _ => false,
        };
        let is_over = |fact: &&Fact| matches!(&fact.what, Told::Appended { as_leader: true, mark: m } if m.crc != mark.crc || m.epoch != mark.epoch);
        let over = later().find(is_over);
        // What is said of the offset once another record lies there is said of that one.
        let its = |fact: &&Fact| over.is_none_or(|over| fact.at < over.at);
        Some(Plot {
            written,
            mark,
            ack,
            passed: facts.iter().copied().filter(its).find(|fact| matches!(fact.what, Told::Passed { .. })),
            reads: facts.iter().copied().filter(its).filter(|fact| fact.what == Told::Read).collect(),
            downfalls: later().filter(befell).collect(),
            cuts: later().filter(is_cut).collect(),
            over,
            election,
            copies,
        })
    }

    fn sentences(&self, scene: &Scene<'_>) -> Vec<String> {
        let mut all = vec![self.writing(scene)];
        all.extend(self.acknowledging(scene));
        all.extend(self.falling(scene));
        all.extend(self.electing(scene));
        all.extend(self.ending(scene));
        all
    }

    fn writing(&self, scene: &Scene<'_>) -> String {
        let at = scene.seconds(self.written.at);
        let offset = scene.offset.expect("a plot has one");
        let what = match self.ack {
            Some(Fact { who, what: Told::Acked { number }, .. }) => format!("{who}-{number}"),
            _ => "A record".to_owned(),
        };
        let end = self.ack.map_or(scene.found, |ack| ack.at);
        let copies = names(self.copies.iter().filter(|fact| fact.at <= end).map(|fact| &fact.who));
        let copied = match (copies.is_empty(), self.ack.is_some()) {
            (true, true) => "nobody had copied it when it was acknowledged".to_owned(),
            (true, false) => "nobody copied it".to_owned(),
            (false, _) => format!("{copies} copied it"),
        };
        format!(
            "{what} was appended by {} as the leader of epoch {} at {at:.3} s, at offset {offset} of {}; {copied}.",
            self.written.who, self.mark.epoch, scene.subject
        )
    }

    fn acknowledging(&self, scene: &Scene<'_>) -> Option<String> {
        let ack = self.ack?;
        let isr = state_at(scene.facts, ack.at).map(|state| ids(&state.isr));
        let isr = isr.map_or(String::new(), |isr| format!(", while the ISR was {isr}"));
        let passed = match self.passed {
            Some(passed) if passed.at <= ack.at => "the high watermark had passed it".to_owned(),
            Some(passed) => format!("the high watermark passed it at {:.3} s", scene.seconds(passed.at)),
            None => "the high watermark never passed it".to_owned(),
        };
        let acks = if scene.acks.is_empty() { String::new() } else { format!(" ({})", scene.acks) };
        let read = match self.reads.first() {
            Some(read) => format!("; {} read it at {:.3} s", read.who, scene.seconds(read.at)),
            None => String::new(),
        };
        Some(format!("It was acknowledged at {:.3} s{acks}{isr}; {passed}{read}.", scene.seconds(ack.at)))
    }

    fn falling(&self, scene: &Scene<'_>) -> Option<String> {
        let told = |fact: &&&Fact| {
            let Told::Proc(event) = &fact.what else { unreachable!("downfalls are of processes") };
            (fact.who.clone(), fact.at, event.to_string())
        };
        let mut told: Vec<(Arc<str>, SimTime, String)> =
            self.downfalls.iter().map(|fact| told(&fact)).collect();
        // Several at one instant are one event.
        let (who, at, what) = told.first()?.clone();
        let together: Vec<Arc<str>> =
            told.iter().filter(|(_, t, w)| *t == at && *w == what).map(|(who, ..)| who.clone()).collect();
        let mut text = match together.len() {
            1 => format!("{who} {} at {:.3} s", said(&what, false), scene.seconds(at)),
            _ => format!("{} {} at {:.3} s", names(together.iter()), said(&what, true), scene.seconds(at)),
        };
        told.retain(|(who, ..)| !together.contains(who));
        for (who, at, what) in told.iter().take(2) {
            text.push_str(&format!(", {who} {} at {:.3} s", said(what, false), scene.seconds(*at)));
        }
        Some(text + ".")
    }

    fn electing(&self, scene: &Scene<'_>) -> Option<String> {
        let Election { fact, after, before, start, leads } = self.election.as_ref()?;
        let eligible = before.is_none_or(|b| b.isr.contains(&after.leader) || b.elr.contains(&after.leader));
        let how = match before {
            Some(before) if eligible => format!("it was in the ISR ({})", ids(&before.isr)),
            Some(before) if before.isr.is_empty() => {
                "an unclean election: it was not in the ISR, which was empty".to_owned()
            }
            Some(before) => format!("an unclean election: it was not in the ISR ({})", ids(&before.isr)),
            None => "no earlier state is known".to_owned(),
        };
        Some(format!(
            "{} was elected for epoch {} at {:.3} s with a log that ended at {start}; {how}.",
            leads.who,
            after.leader_epoch,
            scene.seconds(fact.at)
        ))
    }

    fn ending(&self, scene: &Scene<'_>) -> Option<String> {
        let mut parts = Vec::new();
        for fact in self.cuts.iter().take(2) {
            let at = scene.seconds(fact.at);
            parts.push(match fact.what {
                Told::Cut { from, to } => {
                    format!("{} cut its log from {from} to {to} at {at:.3} s", fact.who)
                }
                Told::Opened { end } => {
                    format!("{} found its log ending at {end} when it started at {at:.3} s", fact.who)
                }
                _ => unreachable!("only these are cuts"),
            });
        }
        if let Some(over) = self.over {
            let (at, offset) = (scene.seconds(over.at), scene.offset.expect("a plot has one"));
            parts.push(format!("offset {offset} has held another record since {at:.3} s"));
        }
        if parts.is_empty() {
            return None;
        }
        let text = parts.join(", and ") + ".";
        Some(if self.cuts.is_empty() { text.replacen("offset", "Offset", 1) } else { text })
    }

    /// Whether a fact has its row in the table.
    fn decides(&self, fact: &Fact) -> bool {
        let is = |other: &Fact| std::ptr::eq(other, fact);
        is(self.written)
            || self.ack.is_some_and(is)
            || self.passed.is_some_and(is)
            || self.over.is_some_and(is)
            || self.reads.first().is_some_and(|f| is(f))
            || self.copies.iter().any(|f| is(f))
            || self.downfalls.iter().any(|f| is(f))
            || self.cuts.iter().any(|f| is(f))
            || self.election.as_ref().is_some_and(|e| is(e.fact) || is(e.leads))
            || fact.at > self.written.at && matches!(fact.what, Told::State { .. } | Told::Deleted { .. })
    }
}

/// The first election behind an append whose winner did not have it.
fn election<'a>(facts: &[&'a Fact], written: &Fact, offset: i64) -> Option<Election<'a>> {
    let mut before: Option<&PartitionState> = None;
    for fact in facts {
        let Told::State { after, .. } = &fact.what else { continue };
        let elected = before.is_none_or(|b| after.leader_epoch > b.leader_epoch) && after.leader >= 0;
        if elected && fact.at > written.at {
            let leads = facts.iter().copied().find(|leads| {
                matches!(leads.what, Told::Leads { epoch, .. } if epoch == after.leader_epoch)
                    && leads.node == Some(after.leader)
            });
            if let Some(leads) = leads
                && let Told::Leads { start, .. } = leads.what
                && start <= offset
            {
                return Some(Election { fact, after, before, start, leads });
            }
        }
        before = Some(after);
    }
    None
}

fn is_downfall(event: &ProcEvent) -> bool {
    matches!(
        event,
        ProcEvent::Killed
            | ProcEvent::Exited { .. }
            | ProcEvent::Halted { .. }
            | ProcEvent::PowerLost { .. }
            | ProcEvent::Paused
            | ProcEvent::Wiped
            | ProcEvent::Restored { .. }
    )
}

/// A process's event as part of a sentence.
fn said(event: &str, several: bool) -> String {
    let to_be = if several { "were" } else { "was" };
    match event {
        "killed" | "paused" | "wiped" => format!("{to_be} {event}"),
        other => other.replace(", and all", " and all"),
    }
}

fn state_at(facts: &[Fact], at: SimTime) -> Option<&PartitionState> {
    facts.iter().rev().filter(|fact| fact.at <= at).find_map(|fact| match &fact.what {
        Told::State { after, .. } => Some(after),
        _ => None,
    })
}

/// `broker-1, broker-2 and broker-3`
fn names<'a>(all: impl Iterator<Item = &'a Arc<str>>) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for name in all {
        if !distinct.contains(&&**name) {
            distinct.push(name);
        }
    }
    listed(&distinct)
}

fn listed(all: &[&str]) -> String {
    match all {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn ids(all: &[i32]) -> String {
    let all: Vec<String> = all.iter().map(i32::to_string).collect();
    if all.is_empty() { "empty".to_owned() } else { all.join(",") }
}

impl Scene<'_> {
    fn seconds(&self, at: SimTime) -> f64 {
        (at.0 as f64 - self.origin.0 as f64) / 1e9
    }
}

/// The table: what decides, or, where no record is known, what happened last.
fn rows(scene: &Scene<'_>, facts: &[&Fact], plot: Option<&Plot<'_>>) -> Vec<StoryRow> {
    let told = |fact: &&&Fact| match plot {
        Some(plot) => plot.decides(fact),
        None => fact.at >= scene.origin || matches!(fact.what, Told::Won { .. } | Told::Voted { .. }),
    };
    let mut rows: Vec<StoryRow> = facts.iter().filter(told).map(|fact| row(scene, fact, plot)).collect();
    rows.dedup();
    if rows.len() > ROWS {
        // How it was written stands at the beginning, how it was lost at the end.
        let head = if plot.is_some() { ROWS / 2 } else { 0 };
        rows.drain(head..rows.len() - (ROWS - head));
    }
    rows.push(StoryRow {
        at_seconds: scene.seconds(scene.found),
        who: "checker".to_owned(),
        event: format!("finds {}", scene.name),
        offsets: scene.offset.map_or(String::new(), |offset| offset.to_string()),
    });
    rows
}

fn row(scene: &Scene<'_>, fact: &Fact, plot: Option<&Plot<'_>>) -> StoryRow {
    let range = |from: i64, to: i64| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let (event, offsets) = match &fact.what {
        Told::Appended { as_leader, mark } => {
            let as_what = if *as_leader { "appends as leader" } else { "copies" };
            let other = plot.is_some_and(|plot| mark.crc != plot.mark.crc || mark.epoch != plot.mark.epoch);
            let other = if other { ", another batch" } else { "" };
            (format!("{as_what}, epoch {}{other}", mark.epoch), range(mark.base_offset, mark.last_offset))
        }
        Told::Passed { from, to } => ("the high watermark moves".to_owned(), format!("{from}->{to}")),
        Told::Leads { epoch, start } => (format!("leads epoch {epoch}"), format!("end {start}")),
        Told::Cut { from, to } => ("cuts its log".to_owned(), format!("{from}->{to}")),
        Told::Opened { end } => ("opens its log".to_owned(), format!("end {end}")),
        Told::Deleted { to } => ("deletes the head of its log".to_owned(), format!("start {to}")),
        Told::State { after, .. } => {
            let leader = if after.leader < 0 { "none".to_owned() } else { after.leader.to_string() };
            let elr = if after.elr.is_empty() { String::new() } else { format!(", ELR {}", ids(&after.elr)) };
            let isr = ids(&after.isr);
            (format!("leader {leader}, epoch {}, ISR {isr}{elr}", after.leader_epoch), String::new())
        }
        Told::Acked { .. } => ("is acknowledged".to_owned(), scene.offset.unwrap_or(-1).to_string()),
        Told::Retried { error, numbers: (first, last) } => {
            (format!("tries {} again after {error}", range(*first as i64, *last as i64)), String::new())
        }
        Told::Read => ("reads it".to_owned(), scene.offset.unwrap_or(-1).to_string()),
        Told::Proc(event) => (event.to_string(), String::new()),
        Told::Disk(text) => (text.clone(), String::new()),
        Told::Won { epoch, start } => (format!("wins epoch {epoch}"), format!("end {start}")),
        Told::Voted { epoch, candidate } => {
            (format!("votes for {candidate} in epoch {epoch}"), String::new())
        }
        Told::Committed { group, offset } => (format!("offset of group {group}"), offset.to_string()),
    };
    StoryRow { at_seconds: scene.seconds(fact.at), who: fact.who.to_string(), event, offsets }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::event::ChangeReason;

    fn fact(seconds: u64, who: &str, node: Option<i32>, what: Told) -> Fact {
        Fact { at: SimTime(seconds * 1_000_000_000), who: who.into(), node, what }
    }

    fn append(as_leader: bool, epoch: i32, crc: u32) -> Told {
        let (producer_id, producer_epoch, sequence) = (-1, -1, -1);
        let (base_offset, last_offset, size) = (40, 49, 100);
        let mark =
            BatchMark { base_offset, last_offset, epoch, size, crc, producer_id, producer_epoch, sequence };
        Told::Appended { as_leader, mark }
    }

    fn state(leader: i32, leader_epoch: i32, isr: &[i32]) -> Told {
        let after = PartitionState {
            leader,
            leader_epoch,
            partition_epoch: leader_epoch,
            replicas: vec![1, 2],
            isr: isr.to_vec(),
            elr: vec![],
            last_known_elr: vec![],
        };
        Told::State { after, reason: ChangeReason::BrokerFenced }
    }

    #[test]
    fn a_record_that_only_its_leader_had() {
        let facts = [
            fact(0, "controller-101", Some(101), state(1, 0, &[1, 2])),
            fact(5, "broker-1", Some(1), append(true, 0, 7)),
            fact(6, "shop", None, Told::Acked { number: 41 }),
            fact(7, "broker-1", Some(1), Told::Proc(ProcEvent::Killed)),
            fact(8, "controller-101", Some(101), state(2, 1, &[2])),
            fact(8, "broker-2", Some(2), Told::Leads { epoch: 1, start: 30 }),
            fact(9, "broker-2", Some(2), append(true, 1, 8)),
            fact(12, "broker-1", Some(1), Told::Cut { from: 50, to: 30 }),
        ];
        let story = tell(&Scene {
            name: "lost-write",
            text: "shop-41 was acknowledged at offset 41 of t-0. Nobody found it.",
            subject: "t-0".to_owned(),
            offset: Some(41),
            found: SimTime(20_000_000_000),
            origin: SimTime(0),
            acks: "acks=1".to_owned(),
            facts: &facts,
        });
        assert_eq!(
            story.text,
            "shop-41 was appended by broker-1 as the leader of epoch 0 at 5.000 s, at offset 41 of t-0; nobody had copied it when it was acknowledged. \
             It was acknowledged at 6.000 s (acks=1), while the ISR was 1,2; the high watermark never passed it. \
             broker-1 was killed at 7.000 s. \
             broker-2 was elected for epoch 1 at 8.000 s with a log that ended at 30; it was in the ISR (1,2). \
             broker-1 cut its log from 50 to 30 at 12.000 s, and offset 41 has held another record since 9.000 s."
        );
        let told: Vec<&str> = story.rows.iter().map(|row| row.event.as_str()).collect();
        assert_eq!(
            told,
            [
                "appends as leader, epoch 0",
                "is acknowledged",
                "killed",
                "leader 2, epoch 1, ISR 2",
                "leads epoch 1",
                "appends as leader, epoch 1, another batch",
                "cuts its log",
                "finds lost-write"
            ]
        );
    }

    #[test]
    fn what_is_about_no_record_keeps_the_checkers_words() {
        let facts = [fact(3, "controller-101", Some(101), Told::Won { epoch: 2, start: 9 })];
        let story = tell(&Scene {
            name: "ElectionSafety",
            text: "Both node 101 and node 102 are the leader of epoch 2.",
            subject: "the metadata quorum".to_owned(),
            offset: None,
            found: SimTime(4_000_000_000),
            origin: SimTime(0),
            acks: String::new(),
            facts: &facts,
        });
        assert_eq!(story.text, "Both node 101 and node 102 are the leader of epoch 2.");
        assert_eq!(story.rows[0].event, "wins epoch 2");
    }
}
