//! `highwater shrink`: a scenario of a few fixed steps out of a run that went wrong.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reports::{RunReport, Verdict};
use serde_json::{Value, json};

use super::record::Record;
use super::sweep::budget;
use super::{INTERRUPTED, apply, load, refuse, replay};
use crate::runner::chaos;
use crate::scenario;
use crate::shrink::{self, Goal, Limits, Progress, Shrunk, reduce};
use crate::sweep::pool;

/// A story of more steps is not understood at a glance.
const STEPS: usize = 10;

/// Options of `highwater shrink`.
#[derive(Args, Debug)]
pub struct ShrinkArgs {
    /// A record, as `highwater run --record` writes it; or a scenario, with --seed
    pub what: PathBuf,
    /// The seed, if a scenario is given
    #[arg(long)]
    pub seed: Option<u64>,
    /// One of the scenario's variants
    #[arg(long)]
    pub variant: Option<String>,
    /// Put another value somewhere in the scenario: /topics/0/config/min.insync.replicas=1
    #[arg(long = "set", value_name = "POINTER=VALUE")]
    pub overrides: Vec<String>,
    /// Switch a known bug on (mutants.md lists them); may be given several times
    #[arg(long = "mutant", value_name = "NAME")]
    pub mutants: Vec<String>,
    /// The violation that must stay; that which decided the run's verdict unless given
    #[arg(long, value_name = "NAME")]
    pub violation: Option<String>,
    /// Where the scenario is written; NAME-seed-N.json beside you unless given
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Real time after which the best so far is written
    #[arg(long, value_name = "TIME", value_parser = budget, default_value = "110s")]
    pub budget: f64,
    /// How many candidates at once; as many as there are cores unless given
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub jobs: usize,
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
}

/// What is shrunk.
struct Origin {
    name: String,
    document: Value,
    seed: u64,
    reproduce: String,
}

/// Shrinks a run and writes the scenario.
pub fn shrink(args: &ShrinkArgs) -> u8 {
    let origin = match origin(args) {
        Ok(origin) => origin,
        Err(why) => return refuse(&why),
    };
    pool::listen();
    let (document, report, goal) = match fixed(args, &origin) {
        Ok(fixed) => fixed,
        Err(why) => return refuse(&why),
    };
    let bar = bar(args);
    let mut tell = |p: &Progress| {
        bar.set_position(p.attempts);
        bar.set_message(words(p));
    };
    let limits = Limits { seconds: args.budget, jobs: args.jobs };
    let shrunk = shrink::shrink(&document, report, origin.seed, &goal, limits, &mut tell);
    bar.finish_and_clear();
    let Some(shrunk) = shrunk else {
        return refuse(&format!(
            "error: with its steps at fixed times the run does not show {goal} any more\n  = help: run it again as it is: {}",
            origin.reproduce
        ));
    };
    match write(args, &origin, &goal, shrunk) {
        Ok(()) if pool::interrupted() => INTERRUPTED,
        Ok(()) => 0,
        Err(why) => refuse(&why),
    }
}

fn origin(args: &ShrinkArgs) -> Result<Origin, String> {
    let shown = args.what.display();
    if is_record(&args.what) {
        if args.seed.is_some()
            || args.variant.is_some()
            || !args.overrides.is_empty()
            || !args.mutants.is_empty()
        {
            return Err(format!(
                "error: {shown} is a record: seed, variant, --set and --mutant stand in it\n  = help: leave them out, or name the scenario instead"
            ));
        }
        let record: Record = replay::read(&args.what)?;
        let sheet = scenario::parse(record.path.as_ref(), record.text.clone()).map_err(|e| e.to_string())?;
        let document =
            sheet.document(record.variant.as_deref(), &record.overrides).map_err(|e| e.to_string())?;
        let reproduce = format!("highwater replay {shown}");
        return Ok(Origin { name: sheet.name, document, seed: record.seed, reproduce });
    }
    let sheet = load(&args.what)?;
    let seed = args.seed.ok_or_else(|| {
        format!("error: {shown} is a scenario, and a run of it has a seed\n  = help: add --seed N, as the line that reproduces the run has it")
    })?;
    let (_, overrides) = apply(&sheet, args.variant.as_deref(), &args.overrides, &args.mutants)?;
    let document = sheet.document(args.variant.as_deref(), &overrides).map_err(|e| e.to_string())?;
    let variant = args.variant.as_ref().map_or(String::new(), |v| format!(" --variant {v}"));
    let sets: String = overrides.iter().map(|s| format!(" --set '{s}'")).collect();
    Ok(Origin {
        name: sheet.name,
        document,
        seed,
        reproduce: format!("highwater run {shown} --seed {seed}{variant}{sets}"),
    })
}

/// Whether a file begins as a record does: a checksum, a space, an object. A damaged one is told as such.
fn is_record(path: &Path) -> bool {
    let start = std::fs::read(path).unwrap_or_default();
    let named = path.extension().is_some_and(|e| e == "rec" || e == "record");
    named || start.len() > 9 && start[..8].iter().all(u8::is_ascii_hexdigit) && start[8] == b' '
}

/// The run that is to be shrunk, chaos and swarm replaced by what they did and drew.
fn fixed(args: &ShrinkArgs, origin: &Origin) -> Result<(Value, RunReport, Goal), String> {
    let again = format!("  = help: {}", origin.reproduce);
    let run = |document: &Value| {
        reduce::attempt(document, origin.seed, None)
            .map_err(|why| format!("{why}\n  = note: so the run cannot be made\n{again}"))
    };
    let report = run(&origin.document)?;
    let goal = Goal::of(&report, args.violation.as_deref()).ok_or_else(|| match &args.violation {
        Some(name) => {
            let found: Vec<&str> = report.violations.iter().map(|v| v.name.as_str()).collect();
            let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
            format!("error: the run does not show {name}; its checkers found {found}\n{again}")
        }
        None => {
            format!("error: the run ends with {}: there is nothing to shrink\n{again}", report.verdict.word())
        }
    })?;
    // What a swarm drew stays as it is, whatever is taken away.
    let document = chaos::fixed(&chaos::settled(&origin.document, &report), &report.schedule)
        .map_err(|why| format!("error: what chaos did cannot be made fixed steps: {why}\n{again}"))?;
    if document == origin.document {
        return Ok((document, report, goal));
    }
    let report = run(&document)?;
    if goal.shown_by(&report) {
        return Ok((document, report, goal));
    }
    without_cover(origin, document, &goal).ok_or_else(|| {
        format!("error: with what chaos did as fixed steps the run does not show {goal} any more\n{again}")
    })
}

/// Fixed steps say where chaos has chosen whom it takes something from, so that the loss excuses nothing (`covered`), and
/// each is judged again when it comes. Where that is judged otherwise a power loss becomes a kill; if that does not show
/// it, the same is found and excused, and the file says that nothing may be found.
fn without_cover(origin: &Origin, document: Value, goal: &Goal) -> Option<(Value, RunReport, Goal)> {
    let shows = |document: &Value, goal: &Goal| {
        reduce::attempt(document, origin.seed, None).ok().filter(|report| goal.shown_by(report))
    };
    let mut killed = document.clone();
    for step in killed["steps"].as_array_mut()?.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(who) = step.shift_remove("power_off") {
            step.shift_remove("unsynced");
            step.shift_remove("covered");
            step.insert("kill".to_owned(), who);
        }
    }
    if let Some(report) = shows(&killed, goal) {
        return Some((killed, report, goal.clone()));
    }
    let mut strict = document;
    strict["finally"]["violations"] = json!([]);
    let (name, _) = goal.violation.clone()?;
    let goal = Goal { verdict: Verdict::Violation, violation: Some((name, false)), assertion: None };
    let report = shows(&strict, &goal)?;
    Some((strict, report, goal))
}

fn bar(args: &ShrinkArgs) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() && !args.json {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    };
    let style = ProgressStyle::with_template("{spinner} {elapsed} {pos} runs, {msg}");
    bar.set_style(style.expect("a valid template"));
    bar
}

fn words(p: &Progress) -> String {
    format!(
        "{} steps, {} nodes, {} clients, {:.1} virtual seconds; trying {}",
        p.steps, p.nodes, p.clients, p.virtual_seconds, p.doing
    )
}

fn write(args: &ShrinkArgs, origin: &Origin, goal: &Goal, shrunk: Shrunk) -> Result<(), String> {
    let path =
        args.out.clone().unwrap_or_else(|| format!("{}-seed-{}.json", origin.name, origin.seed).into());
    let document = labelled(shrunk.document, origin, goal);
    let text = shrink::write::text(&document);
    std::fs::write(&path, &text).map_err(|e| {
        format!("error: {} cannot be written: {e}\n  = help: name a file with --out", path.display())
    })?;
    // What was written is what counts.
    let again = reduce::attempt(&document, origin.seed, None).ok().filter(|report| goal.shown_by(report));
    let Some(report) = again else {
        return Err(format!("error: {} does not show {goal}: this is a bug in Highwater", path.display()));
    };
    let reproduce = format!("highwater run {} --seed {}", path.display(), origin.seed);
    let (before, after) = (&shrunk.before, &shrunk.after);
    if args.json {
        let side = |p: &Progress| json!({ "steps": p.steps, "nodes": p.nodes, "clients": p.clients, "virtual_seconds": p.virtual_seconds });
        let document = json!({
            "file": path.display().to_string(), "seed": origin.seed, "shows": goal.to_string(), "verdict": report.verdict.word(),
            "violations": report.violations.iter().map(|v| &v.name).collect::<Vec<_>>(),
            "before": side(before), "after": side(after), "attempts": after.attempts, "finished": shrunk.finished,
            "reproduce": reproduce,
        });
        super::print(&format!("{document}\n"));
        return Ok(());
    }
    let mut out = anstream::stdout();
    let _ = writeln!(out, "{:<18}{:>12}{:>12}", "", "before", "after");
    let rows = [
        ("steps", before.steps, after.steps),
        ("nodes", before.nodes, after.nodes),
        ("clients", before.clients, after.clients),
        ("virtual seconds", before.virtual_seconds.round() as usize, after.virtual_seconds.round() as usize),
    ];
    for (name, before, after) in rows {
        let _ = writeln!(out, "{name:<18}{before:>12}{after:>12}");
    }
    let why = if shrunk.finished { "nothing smaller was found" } else { "the time was up" };
    let _ = writeln!(out, "\n{} shows {goal}; {} runs, {why}.", path.display(), after.attempts);
    if after.steps > STEPS {
        let _ = writeln!(out, "More than {STEPS} steps are left: try a longer --budget, or another seed.");
    }
    let _ = writeln!(out, "{reproduce}");
    Ok(())
}

/// The file says where it comes from.
fn labelled(document: Value, origin: &Origin, goal: &Goal) -> Value {
    let mut labelled = serde_json::Map::new();
    let about = format!("Shrunk from {} with seed {}. Shows {goal}.", origin.name, origin.seed);
    for (key, value) in document.as_object().into_iter().flatten() {
        match key.as_str() {
            "$schema" | "about" | "from" => {}
            "title" => {
                labelled.insert("title".to_owned(), value.clone());
                labelled.insert("about".to_owned(), about.clone().into());
            }
            _ => drop(labelled.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(labelled)
}
