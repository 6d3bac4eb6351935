//! The JSON document of `highwater run --json`: the words of the scenario format, others' scripts rely on them.

use serde_json::{Map, Value, json};

use crate::coverage::Coverage;
use crate::{
    ClientReport, CommandOutput, GroupReport, RemedyReport, RunReport, StepReport, StoryRow, ViolationReport,
};

/// The document, one JSON object.
pub fn document(report: &RunReport) -> Value {
    let mut document = json!({
        "scenario": report.scenario,
        "variant": report.variant,
        "seed": report.seed,
        "digest": report.digest,
        "verdict": report.verdict.word(),
        "why": report.why,
        "virtual_seconds": round(report.virtual_seconds, 3),
        "wall_seconds": round(report.wall_seconds, 4),
        "events": report.events,
        "frames": report.frames,
        "frame_bytes": report.frame_bytes,
        "steps": report.steps.iter().map(step).collect::<Vec<_>>(),
        "violations": report.violations.iter().map(violation).collect::<Vec<_>>(),
        "clients": report.clients.iter().map(|(name, c)| (name.clone(), client(c))).collect::<Map<_, _>>(),
        "groups": report.groups.iter().map(|(name, g)| (name.clone(), group(g))).collect::<Map<_, _>>(),
        "coverage": coverage(&report.coverage),
        "options": report.options,
        "reproduce": report.reproduce,
    });
    if !report.schedule.is_empty() {
        let schedule = report.schedule.iter();
        document["schedule"] = schedule
            .map(|s| json!({ "chaos": s.chaos, "at_seconds": s.at_seconds, "step": s.step }))
            .collect();
    }
    document
}

fn step(step: &StepReport) -> Value {
    json!({
        "index": step.index,
        "verb": step.verb,
        "at_seconds": round(step.at_seconds, 3),
        "held": step.held,
        "detail": step.detail,
        "output": step.output.as_ref().map(output),
    })
}

fn output(output: &CommandOutput) -> Value {
    json!({ "stdout": output.stdout, "stderr": output.stderr, "exit": output.exit })
}

fn violation(violation: &ViolationReport) -> Value {
    json!({
        "name": violation.name,
        "promised": violation.promised,
        "reason": violation.reason,
        "at_seconds": round(violation.at_seconds, 3),
        "subject": violation.subject,
        "explanation": violation.explanation,
        "count": violation.count,
        "events": violation.story.as_ref().map(|s| s.rows.iter().map(story_row).collect::<Vec<_>>()),
        "remedy": violation.story.as_ref().and_then(|s| s.remedy.as_ref()).map(remedy),
    })
}

fn story_row(row: &StoryRow) -> Value {
    json!({
        "at_seconds": round(row.at_seconds, 3),
        "who": row.who,
        "event": row.event,
        "offsets": row.offsets,
    })
}

fn remedy(remedy: &RemedyReport) -> Value {
    json!({ "text": remedy.text, "settings": remedy.settings, "helps": remedy.helps })
}

fn client(client: &ClientReport) -> Value {
    let latency = client
        .latency_ms
        .map(|[p50, p99, max]| json!({ "p50": round(p50, 3), "p99": round(p99, 3), "max": round(max, 3) }));
    json!({
        "sent": client.sent,
        "acked": client.acked,
        "failed": client.failed,
        "indefinite": client.indefinite,
        "lost": client.lost,
        "duplicated": client.duplicated,
        "received": client.received,
        "processed": client.processed,
        "committed": client.committed,
        "aborted": client.aborted,
        "last_error": client.last_error,
        "latency_ms": latency,
    })
}

fn group(group: &GroupReport) -> Value {
    json!({
        "state": group.state,
        "members": group.members,
        "rebalances": group.rebalances,
        "committed": group.committed,
        "lag": group.lag,
        "processed": group.processed,
        "reprocessed": group.reprocessed,
        "missed": group.missed,
    })
}

fn coverage(coverage: &Coverage) -> Value {
    json!({
        "events": coverage.events,
        "states": coverage.states.count(),
        "sometimes_missed": coverage.sometimes_missed,
    })
}

/// Digits beyond what a reader uses would only differ for nothing.
fn round(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}
