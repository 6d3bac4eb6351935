//! The report at 80 columns, made to be shown to a class: what happened, how it stands, what was found.
//!
//! Nothing is wider than 80 columns. Styles are ANSI escapes; whoever prints strips them where they do not belong
//! (no terminal, NO_COLOR).

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use crate::{
    ClientReport, PartitionReport, RemedyReport, RunReport, StoryRow, Tone, Verdict, ViolationReport,
};

/// Columns of a page.
pub const WIDTH: usize = 80;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const STEP: Style = AnsiColor::Cyan.on_default().bold();

/// The page, ANSI styles included.
pub fn render(report: &RunReport) -> String {
    let mut page = String::new();
    head(&mut page, report);
    timeline(&mut page, report);
    partitions(&mut page, &report.partitions);
    clients(&mut page, report);
    groups(&mut page, report);
    violations(&mut page, &report.violations);
    foot(&mut page, report);
    page
}

fn head(page: &mut String, report: &RunReport) {
    wrapped(page, "", "", &report.title, BOLD);
    if let Some(about) = &report.about {
        wrapped(page, "", "", about, DIM);
    }
    for warning in &report.warnings {
        wrapped(page, "warning: ", "         ", warning, BAD);
    }
    page.push('\n');
}

fn timeline(page: &mut String, report: &RunReport) {
    let _ = writeln!(page, "{DIM}  seconds  who             what happened{DIM:#}");
    for entry in &report.timeline {
        let style = match entry.tone {
            Tone::Step => STEP,
            Tone::Note => DIM,
            Tone::Section => BOLD,
            Tone::Plain | Tone::Output => Style::new(),
            Tone::Good => GOOD,
            Tone::Bad => BAD,
        };
        let rest = " ".repeat(27);
        match entry.tone {
            Tone::Note => wrapped(page, &format!("{rest}| "), &format!("{rest}| "), &entry.text, style),
            Tone::Output => wrapped(page, "    ", "      ", entry.text.replace('\t', "  ").trim_end(), style),
            Tone::Section => {
                page.push('\n');
                wrapped(page, "", "", &entry.text, style);
            }
            _ => {
                let first = format!("{:>9.3}  {:<14}  ", entry.at_seconds, entry.who);
                wrapped(page, &first, &rest, &entry.text, style);
            }
        }
    }
    page.push('\n');
}

fn partitions(page: &mut String, partitions: &[PartitionReport]) {
    if partitions.is_empty() {
        return;
    }
    let ids = |ids: &[i32]| if ids.is_empty() { "-".to_owned() } else { join(ids) };
    let number = |n: Option<i64>| n.map_or("-".to_owned(), |n| n.to_string());
    let mut rows = vec![
        ["partition", "leader", "epoch", "replicas", "ISR", "ELR", "log end", "high watermark"]
            .map(str::to_owned),
    ];
    for p in partitions {
        rows.push([
            p.partition.clone(),
            p.leader.map_or("none".to_owned(), |l| l.to_string()),
            p.leader_epoch.to_string(),
            ids(&p.replicas),
            ids(&p.isr),
            ids(&p.elr),
            number(p.log_end),
            number(p.high_watermark),
        ]);
    }
    table(page, &rows, &[false, true, true, false, false, false, true, true]);
}

fn clients(page: &mut String, report: &RunReport) {
    let (writers, readers): (Vec<_>, Vec<_>) =
        report.clients.iter().partition(|(_, c)| c.sent > 0 || c.received == 0);
    if !writers.is_empty() {
        let heads = ["client", "sent", "acked", "failed", "indefinite", "lost", "p50 ms", "p99 ms", "max ms"];
        let mut rows = vec![heads.map(str::to_owned)];
        rows.extend(writers.iter().map(|(name, c)| writer(name, c)));
        table(page, &rows, &[false, true, true, true, true, true, true, true, true]);
    }
    if !readers.is_empty() {
        let mut rows = vec![["client", "received", "last error"].map(str::to_owned)];
        rows.extend(readers.iter().map(|(name, c)| {
            [(*name).clone(), c.received.to_string(), c.last_error.clone().unwrap_or_else(|| "-".to_owned())]
        }));
        table(page, &rows, &[false, true, false]);
    }
}

fn groups(page: &mut String, report: &RunReport) {
    if report.groups.is_empty() {
        return;
    }
    let heads = ["group", "state", "members", "rebalances", "lag", "processed", "again", "missed"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(report.groups.iter().map(|(name, g)| {
        [
            name.clone(),
            g.state.clone(),
            g.members.to_string(),
            g.rebalances.to_string(),
            g.lag.map_or("-".to_owned(), |lag| lag.to_string()),
            g.processed.to_string(),
            g.reprocessed.to_string(),
            g.missed.to_string(),
        ]
    }));
    table(page, &rows, &[false, false, true, true, true, true, true, true]);
}

fn writer(name: &str, client: &ClientReport) -> [String; 9] {
    let latency = |i: usize| client.latency_ms.map_or("-".to_owned(), |l| format!("{:.1}", l[i]));
    [
        name.to_owned(),
        client.sent.to_string(),
        client.acked.to_string(),
        client.failed.to_string(),
        client.indefinite.to_string(),
        client.lost.to_string(),
        latency(0),
        latency(1),
        latency(2),
    ]
}

fn violations(page: &mut String, violations: &[ViolationReport]) {
    if violations.is_empty() {
        let _ = writeln!(page, "{GOOD}No checker found anything.{GOOD:#}");
        return;
    }
    for v in violations {
        let promised = match (&v.reason, v.promised) {
            (_, true) => "promised otherwise".to_owned(),
            (Some(reason), false) => format!("not promised: {reason}"),
            (None, false) => "not promised".to_owned(),
        };
        let times = if v.count > 1 { format!(" ({} times)", v.count) } else { String::new() };
        let title = format!("{} on {}{times}, {promised}", v.name, v.subject);
        wrapped(page, "", "  ", &title, if v.promised { BAD.bold() } else { BOLD });
        wrapped(page, "  ", "  ", &v.explanation, Style::new());
        if let Some(story) = &v.story {
            decisive(page, &story.rows);
            if let Some(remedy) = &story.remedy {
                prevented(page, remedy);
            }
        }
    }
}

/// The decisive events of a violation, as a table.
fn decisive(page: &mut String, rows: &[StoryRow]) {
    if rows.is_empty() {
        return;
    }
    let widest = |of: fn(&StoryRow) -> &String| rows.iter().map(|row| of(row).chars().count()).max();
    let (who, offsets) = (widest(|r| &r.who).unwrap_or(0).max(4), widest(|r| &r.offsets).unwrap_or(0).max(7));
    let event = WIDTH.saturating_sub(2 + 9 + 2 + who + 2 + 2 + offsets).max(16);
    let _ = writeln!(page, "{DIM}    seconds  {:<who$}  {:<event$}  offsets{DIM:#}", "node", "event");
    for row in rows {
        let lines = textwrap::wrap(&row.event, event);
        for (i, line) in lines.iter().enumerate() {
            let text = match i {
                0 => {
                    let (at, name, offsets) = (row.at_seconds, &row.who, &row.offsets);
                    format!("  {at:>9.3}  {name:<who$}  {line:<event$}  {offsets}")
                }
                _ => format!("  {:>9}  {:<who$}  {line}", "", ""),
            };
            let _ = writeln!(page, "{}", text.trim_end());
        }
    }
}

/// What would have prevented a violation.
fn prevented(page: &mut String, remedy: &RemedyReport) {
    let tried = match remedy.helps {
        Some(true) => ". Tried with this seed: the violation is gone.",
        Some(false) => ". Tried with this seed: the violation is still there.",
        None => ".",
    };
    let settings = match remedy.settings.is_empty() {
        true => String::new(),
        false => format!(" ({})", remedy.settings.join("; ")),
    };
    let style = if remedy.helps == Some(false) { BAD } else { GOOD };
    let text = format!("What would have prevented it: {}{settings}{tried}", remedy.text);
    wrapped(page, "  ", "  ", &text, style);
}

fn foot(page: &mut String, report: &RunReport) {
    page.push('\n');
    let (style, word) = match report.verdict {
        Verdict::Pass => (GOOD.bold(), "PASS"),
        Verdict::Expectation => (BAD.bold(), "EXPECTATION NOT MET"),
        Verdict::Violation => (BAD.bold(), "VIOLATION"),
        Verdict::Liveness => (BAD.bold(), "NOT CONVERGED"),
        Verdict::Nondeterministic => (BAD.bold(), "NOT DETERMINISTIC"),
        Verdict::Crash => (BAD.bold(), "ASSERTION FAILED"),
    };
    let speed = report.virtual_seconds / report.wall_seconds.max(1e-9);
    let _ = writeln!(
        page,
        "{style}{word}{style:#}  {:.1} virtual seconds in {:.0} ms ({:.0}x), {} frames",
        report.virtual_seconds,
        report.wall_seconds * 1e3,
        speed,
        report.frames
    );
    if let Some(why) = &report.why {
        wrapped(page, "  ", "  ", why, Style::new());
    }
    let _ = writeln!(page, "{DIM}digest {}{DIM:#}", report.digest);
    let _ = writeln!(page, "{}", report.reproduce);
}

/// `text` wrapped to the page: `first` before its first line, `rest` before the others, only the text styled.
fn wrapped(page: &mut String, first: &str, rest: &str, text: &str, style: Style) {
    for (i, line) in text.lines().flat_map(|l| textwrap::wrap(l, WIDTH - rest.len())).enumerate() {
        let indent = if i == 0 { first } else { rest };
        let _ = writeln!(page, "{indent}{style}{line}{style:#}");
    }
}

/// Columns two blanks apart, each as wide as its widest cell; `right` says which stand on the right.
fn table<const N: usize>(page: &mut String, rows: &[[String; N]], right: &[bool; N]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for (i, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(right) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let _ = if *right { write!(line, "{cell:>width$}") } else { write!(line, "{cell:<width$}") };
        }
        let style = if i == 0 { DIM } else { Style::new() };
        let line: String = line.trim_end().chars().take(WIDTH).collect();
        let _ = writeln!(page, "{style}{line}{style:#}");
    }
    page.push('\n');
}

fn join(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommandOutput, GroupReport, StepReport, StoryReport, TimelineEntry};

    fn report() -> RunReport {
        let long = "a sentence that is much too long for one line of a terminal of eighty columns, so that it has to be wrapped";
        RunReport {
            scenario: "kill-broker-1".into(),
            variant: None,
            title: long.into(),
            about: Some(long.into()),
            seed: 7,
            digest: format!("b3{}", "0".repeat(64)),
            verdict: Verdict::Violation,
            why: Some(long.into()),
            virtual_seconds: 61.2,
            wall_seconds: 0.11,
            events: 1,
            frames: 2,
            frame_bytes: 3,
            steps: vec![StepReport {
                held: Some(false),
                output: Some(CommandOutput { stdout: long.into(), ..Default::default() }),
                ..Default::default()
            }],
            violations: vec![ViolationReport {
                name: "lost-write".into(),
                promised: true,
                reason: None,
                at_seconds: 31.0,
                subject: "purchases-0".into(),
                explanation: long.into(),
                count: 2,
                story: Some(StoryReport {
                    rows: vec![StoryRow {
                        at_seconds: 1234.5678,
                        who: "controller-101".into(),
                        event: long.into(),
                        offsets: "1234567-1234567".into(),
                    }],
                    remedy: Some(RemedyReport {
                        text: long.into(),
                        settings: vec![long.into()],
                        helps: Some(true),
                    }),
                }),
            }],
            clients: [(
                "shop".to_owned(),
                ClientReport {
                    sent: 123_456,
                    acked: 123_456,
                    latency_ms: Some([1.2, 4.0, 9120.0]),
                    ..Default::default()
                },
            )]
            .into(),
            groups: [(
                "billing".to_owned(),
                GroupReport {
                    state: "CompletingRebalance".into(),
                    members: 2,
                    committed: [("purchases-0".to_owned(), 7)].into(),
                    missed: 3,
                    ..Default::default()
                },
            )]
            .into(),
            options: Default::default(),
            coverage: Default::default(),
            timeline: [
                Tone::Step,
                Tone::Note,
                Tone::Section,
                Tone::Output,
                Tone::Plain,
                Tone::Good,
                Tone::Bad,
            ]
            .map(|tone| TimelineEntry {
                at_seconds: 1234.5678,
                who: "controller-101".into(),
                text: long.into(),
                tone,
            })
            .into(),
            partitions: vec![PartitionReport {
                partition: "purchases-0".into(),
                leader: None,
                leader_epoch: 12,
                replicas: vec![1, 2, 3],
                isr: vec![],
                elr: vec![1],
                log_end: Some(1_234_567),
                high_watermark: None,
            }],
            warnings: vec![long.into()],
            reproduce: "highwater run scenarios/labs/kill-broker-1.json --seed 7".into(),
            schedule: Vec::new(),
        }
    }

    #[test]
    fn no_line_is_wider_than_the_page() {
        let page = anstream::adapter::strip_str(&render(&report())).to_string();
        for line in page.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
        assert!(page.contains("lost-write on purchases-0 (2 times), promised otherwise"), "{page}");
        assert_eq!(page.lines().last(), Some("highwater run scenarios/labs/kill-broker-1.json --seed 7"));
    }

    #[test]
    fn the_document_has_the_words_of_the_format() {
        let document = crate::json::document(&report());
        let keys: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
        for key in [
            "scenario",
            "variant",
            "seed",
            "digest",
            "verdict",
            "virtual_seconds",
            "wall_seconds",
            "events",
            "frames",
            "frame_bytes",
            "steps",
            "violations",
            "clients",
            "groups",
            "options",
        ] {
            assert!(keys.contains(&key), "{key}");
        }
        assert_eq!(document["clients"]["shop"]["latency_ms"]["max"], 9120.0);
        assert_eq!(document["violations"][0]["promised"], true);
        assert_eq!(document["groups"]["billing"]["committed"]["purchases-0"], 7);
        assert_eq!(document["groups"]["billing"]["missed"], 3);
        assert_eq!(document["violations"][0]["events"][0]["who"], "controller-101");
        assert_eq!(document["violations"][0]["remedy"]["helps"], true);
    }
}
