//! What came of a sweep: a page of 80 columns, the end of the JSON document, and what CI systems read.

use std::fmt::Write;

use reports::ci::{Case as CiCase, Failure, Outcome, Suite};
use reports::{Verdict, terminal::WIDTH};
use serde_json::{Map, Value, json};

use super::fold::{Fold, SHOWN};
use super::line::{Line, round};
use super::plan::Plan;
use super::pool::Ended;
use crate::runner::coverage::kinds;

/// What is known of a sweep besides its sum.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// How many runs were planned.
    pub planned: u64,
    /// Why it ended.
    pub ended: Ended,
    /// Real time.
    pub wall_seconds: f64,
}

/// The page.
pub fn page(plan: &Plan, fold: &Fold, about: &About) -> String {
    let mut page = String::new();
    verdicts(&mut page, plan, fold);
    found(&mut page, plan, fold);
    coverage(&mut page, plan, fold);
    failing(&mut page, plan, fold);
    foot(&mut page, fold, about);
    page
}

fn wrapped(page: &mut String, indent: &str, text: &str) {
    for line in textwrap::wrap(text, WIDTH - indent.len()) {
        let _ = writeln!(page, "{indent}{line}");
    }
}

fn number(n: u64) -> String {
    if n == 0 { "-".to_owned() } else { n.to_string() }
}

fn verdicts(page: &mut String, plan: &Plan, fold: &Fold) {
    const COLUMN: usize = 13;
    let shown: Vec<Verdict> =
        Verdict::ALL.into_iter().filter(|v| *v == Verdict::Pass || fold.count(*v) > 0).collect();
    // "nondeterministic" is longer than a column.
    let head =
        |v: &Verdict| format!("{:>COLUMN$}", if v.word().len() >= COLUMN { "differs" } else { v.word() });
    let width = WIDTH - shown.len().min(4) * COLUMN;
    let heads: String = shown.iter().take(4).map(head).collect();
    let _ = writeln!(page, "{:<width$}{heads}", "runs");
    for (place, case) in plan.cases.iter().enumerate() {
        let count = |v: &Verdict| fold.verdicts.get(&(place, *v)).copied().unwrap_or(0);
        let counts: String = shown.iter().take(4).map(|v| format!("{:>COLUMN$}", number(count(v)))).collect();
        let name = case.name();
        let mut lines = textwrap::wrap(&name, width.saturating_sub(1)).into_iter();
        let _ = writeln!(page, "{:<width$}{counts}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(page, "  {line}");
        }
        for verdict in shown.iter().skip(4).filter(|v| count(v) > 0) {
            let _ = writeln!(page, "  {}: {}", verdict.word(), count(verdict));
        }
    }
}

fn found(page: &mut String, plan: &Plan, fold: &Fold) {
    if fold.violations.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{:<30}{:>8}{:>10}  first seed", "found", "runs", "promised");
    for (name, tally) in &fold.violations {
        let (seed, case) = tally.first;
        let variant = plan.cases[case].variant.as_ref().map_or(String::new(), |v| format!(" ({v})"));
        let row =
            format!("{name:<30}{:>8}{:>10}  {seed}{variant}", number(tally.runs), number(tally.promised));
        let _ = writeln!(page, "{}", row.chars().take(WIDTH).collect::<String>());
    }
}

fn coverage(page: &mut String, plan: &Plan, fold: &Fold) {
    let all = kinds();
    let unseen: Vec<&str> = all.iter().copied().filter(|name| !fold.events.contains_key(*name)).collect();
    let seen = all.len() - unseen.len();
    let _ = writeln!(
        page,
        "\nreached {seen} of {} kinds of domain events, about {} states of the cluster",
        all.len(),
        fold.states.count()
    );
    if !unseen.is_empty() && fold.runs > 0 {
        wrapped(page, "  ", &format!("never seen: {}", unseen.join(", ")));
    }
    let missed = fold.sometimes_missed(plan);
    if !missed.is_empty() {
        wrapped(page, "", &format!("sometimes, but never reached: {}", missed.join(", ")));
    }
}

fn failing(page: &mut String, plan: &Plan, fold: &Fold) {
    for line in fold.failing.values() {
        let _ = writeln!(page, "\nseed {}: {}", line.seed, line.verdict.word());
        wrapped(page, "  ", &line.why);
        let _ = writeln!(page, "  {}", plan.reproduce(line.seed, line.case));
    }
    let more = fold.runs - fold.count(Verdict::Pass) - fold.failing.len() as u64;
    if more > 0 {
        let _ = writeln!(
            page,
            "\n{more} more did not pass; --jsonl FILE has them all (the first {SHOWN} are shown)"
        );
    }
}

fn foot(page: &mut String, fold: &Fold, about: &About) {
    let done = if fold.runs < about.planned {
        format!("{} of {}", fold.runs, about.planned)
    } else {
        about.planned.to_string()
    };
    let (seconds, wall) = (fold.virtual_ms as f64 / 1e3, about.wall_seconds);
    let _ = writeln!(
        page,
        "\n{done} runs, {seconds:.0} virtual seconds in {wall:.1} s ({:.0}x)",
        seconds / wall.max(1e-9)
    );
    let why = match about.ended {
        Ended::Done => None,
        Ended::Enough => Some("stopped at the first run that did not pass (--until-violation)"),
        Ended::OutOfTime => Some("the time was up (--budget)"),
        Ended::Interrupted => Some("interrupted"),
    };
    if let Some(why) = why.filter(|_| fold.runs < about.planned) {
        let _ = writeln!(page, "{why}: the digest is that of the runs that were made");
    }
    let _ = writeln!(page, "digest of all {}", fold.digest());
}

/// What follows the runs in the JSON document.
pub fn tail(plan: &Plan, fold: &Fold, about: &About) -> Map<String, Value> {
    let cases: Vec<Value> = plan.cases.iter().enumerate().map(|(at, _)| case(plan, fold, at)).collect();
    let violations = fold.violations.iter().map(|(name, tally)| {
        let (seed, case) = tally.first;
        let first = json!({
            "seed": seed, "variant": plan.cases[case].variant, "matrix": plan.cases[case].matrix,
            "reproduce": plan.reproduce(seed, case),
        });
        json!({ "name": name, "runs": tally.runs, "promised": tally.promised, "first": first })
    });
    let unseen: Vec<&str> = kinds().into_iter().filter(|name| !fold.events.contains_key(*name)).collect();
    let value = json!({
        "done": fold.runs,
        "interrupted": about.ended == Ended::Interrupted,
        "ended": ended(about.ended),
        "digest": fold.digest(),
        "virtual_seconds": round(fold.virtual_ms as f64 / 1e3),
        "wall_seconds": round(about.wall_seconds),
        "verdicts": Verdict::ALL.into_iter().map(|v| (v.word().to_owned(), fold.count(v).into())).collect::<Map<_, _>>(),
        "cases": cases,
        "violations": violations.collect::<Vec<_>>(),
        "coverage": {
            "states": fold.states.count(),
            "events": fold.events,
            "events_unseen": unseen,
            "sometimes_missed": fold.sometimes_missed(plan),
        },
    });
    match value {
        Value::Object(map) => map,
        _ => unreachable!("an object was made"),
    }
}

fn case(plan: &Plan, fold: &Fold, at: usize) -> Value {
    let counts = fold.verdicts.iter().filter(|((case, _), _)| *case == at);
    let counts: Map<_, _> = counts.map(|((_, v), count)| (v.word().to_owned(), (*count).into())).collect();
    json!({ "variant": plan.cases[at].variant, "matrix": plan.cases[at].matrix, "verdicts": counts })
}

fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Enough => "until-violation",
        Ended::OutOfTime => "budget",
        Ended::Interrupted => "interrupted",
    }
}

/// The same for CI systems: a case for each variant with its options, failed by the runs that are shown.
pub fn suite(plan: &Plan, fold: &Fold, about: &About, file: String) -> Suite {
    let cases = plan.cases.iter().enumerate().map(|(at, case)| {
        let runs: u64 = fold.verdicts.iter().filter(|((c, _), _)| *c == at).map(|(_, count)| count).sum();
        let failures: Vec<Failure> =
            fold.failing.values().filter(|line| line.case == at).map(|line| failure(plan, line)).collect();
        let passed = fold.verdicts.get(&(at, Verdict::Pass)).copied().unwrap_or(0);
        let outcome = match (runs, failures.is_empty()) {
            (0, _) => Outcome::Skipped("no run of it was made".to_owned()),
            (_, true) if passed == runs => Outcome::Passed,
            // Other cases had failures of lower seeds, and only the first few are kept.
            (_, true) => Outcome::Failed(vec![Failure {
                rule: "sweep".to_owned(),
                error: false,
                line: 1,
                message: format!("{} of {runs} runs did not pass", runs - passed),
                detail: String::new(),
                reproduce: String::new(),
            }]),
            (_, false) => Outcome::Failed(failures),
        };
        CiCase { name: format!("{}: {runs} runs", case.name()), seconds: 0.0, line: 1, outcome }
    });
    Suite { name: plan.scenario.clone(), file, seconds: about.wall_seconds, cases: cases.collect() }
}

fn failure(plan: &Plan, line: &Line) -> Failure {
    let promised = line.violations.iter().find(|v| v.promised).or(line.violations.first());
    let rule = match (line.verdict, promised) {
        (Verdict::Violation, Some(found)) => found.name.clone(),
        (verdict, _) => verdict.word().to_owned(),
    };
    Failure {
        error: matches!(line.verdict, Verdict::Crash | Verdict::Nondeterministic),
        line: line.place,
        message: format!("seed {}: {rule}", line.seed),
        rule,
        detail: line.why.clone(),
        reproduce: plan.reproduce(line.seed, line.case),
    }
}
