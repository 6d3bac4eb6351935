//! `highwater run`: one run, its report, its record.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use reports::RunReport;

use super::ci::CiArgs;
use super::{apply, load, record, refuse};
use crate::explain;
use crate::runner::{self, Outcome, RunOptions};
use crate::scenario::Scenario;

/// Options of `highwater run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// A scenario file, or the name of one that comes with Highwater
    pub scenario: PathBuf,
    /// The seed; drawn from the operating system and printed unless given
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
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
    /// Write a record of the run, for `highwater replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write the nodes' disks as they are at the end into this directory
    #[arg(long, value_name = "DIR")]
    pub keep_disks: Option<PathBuf>,
    /// Write the clients' history in the form that Jepsen's Kafka checker and `highwater check` read
    #[arg(long, value_name = "FILE")]
    pub edn: Option<PathBuf>,
    /// Write one line for each item of the digest into this file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Try what would have prevented each violation: run the same seed again with it
    #[arg(long)]
    pub verify_remedy: bool,
    #[command(flatten)]
    ci: CiArgs,
}

/// Runs a scenario once.
pub fn run(args: &RunArgs) -> u8 {
    let sheet = match load(&args.scenario) {
        Ok(sheet) => sheet,
        Err(why) => return refuse(&why),
    };
    let applied = apply(&sheet, args.variant.as_deref(), &args.overrides, &args.mutants);
    let (scenario, overrides) = match applied {
        Ok(applied) => applied,
        Err(why) => return refuse(&why),
    };
    let seed = args.seed.unwrap_or_else(draw_seed);
    if !args.json {
        match scenario.drawn(seed) {
            Ok(scenario) => announce(&scenario, seed),
            Err(problem) => return refuse(&format!("error: with seed {seed}: {problem}")),
        }
    }
    let options = RunOptions {
        seed,
        keep_disks: args.keep_disks.clone(),
        trace: args.trace.is_some(),
        reproduce: reproduce(args, seed),
    };
    let run = if args.edn.is_some() { runner::run_with_history } else { runner::run };
    let mut outcome = match run(&scenario, &options) {
        Ok(outcome) => outcome,
        Err(why) => return refuse(&format!("error: {why}")),
    };
    let (findings, report) = (&outcome.findings, &mut outcome.report);
    if let Err(why) = explain::explain(&scenario, &options, findings, report, args.verify_remedy) {
        return refuse(&format!("error: {why}"));
    }
    if let Err(why) = write_files(args, &sheet.text, overrides, &outcome) {
        return refuse(&why);
    }
    show(&outcome.report, args.json);
    if args.ci.any() {
        let suite = reports::ci::of_run(&outcome.report, sheet.path.display().to_string());
        if let Err(why) = args.ci.write(&suite, args.json) {
            return refuse(&why);
        }
    }
    outcome.report.verdict.exit_code()
}

/// A seed that the operating system draws: it is printed, so that the run can be had again.
#[expect(
    clippy::disallowed_types,
    reason = "the one draw that is meant to differ from run to run; it names the run"
)]
fn draw_seed() -> u64 {
    // Short enough to be read out to a class.
    u64::from(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8) as u32)
}

/// The line that reproduces a run.
fn reproduce(args: &RunArgs, seed: u64) -> String {
    let mut line = format!("highwater run {} --seed {seed}", args.scenario.display());
    if let Some(variant) = &args.variant {
        line.push_str(&format!(" --variant {variant}"));
    }
    for change in &args.overrides {
        line.push_str(&format!(" --set '{change}'"));
    }
    for mutant in &args.mutants {
        line.push_str(&format!(" --mutant {mutant}"));
    }
    line
}

/// What is said before a run: the seed, and what is not at its default.
fn announce(scenario: &Scenario, seed: u64) {
    let mut out = anstream::stdout();
    let variant = scenario.variant.as_ref().map_or(String::new(), |v| format!(", variant {v}"));
    let _ = writeln!(out, "seed {seed}{variant}");
    for (name, value) in runner::effective_options(scenario) {
        let _ = writeln!(out, "  {name} = {value}");
    }
    let _ = writeln!(out);
}

fn write_files(args: &RunArgs, text: &str, overrides: Vec<String>, outcome: &Outcome) -> Result<(), String> {
    let fail = |path: &PathBuf| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("error: {path} cannot be written: {e}")
    };
    if let Some(path) = &args.record {
        let record = record::Record {
            build: record::build(),
            path: args.scenario.display().to_string(),
            text: text.to_owned(),
            variant: args.variant.clone(),
            overrides,
            seed: outcome.report.seed,
            trail: outcome.trail.clone(),
        };
        std::fs::write(path, record.to_text()).map_err(fail(path))?;
    }
    if let (Some(path), Some(history)) = (&args.edn, &outcome.edn) {
        std::fs::write(path, history).map_err(fail(path))?;
    }
    if let Some(path) = &args.trace {
        std::fs::write(path, outcome.trace.join("\n") + "\n").map_err(fail(path))?;
    }
    Ok(())
}

/// Prints a report: one JSON document, or the page.
pub fn show(report: &RunReport, json: bool) {
    if json {
        let text = serde_json::to_string(&reports::json::document(report)).expect("plain JSON");
        super::print(&(text + "\n"));
    } else {
        let mut out = anstream::stdout();
        let _ = out.write_all(reports::terminal::render(report).as_bytes());
    }
}
