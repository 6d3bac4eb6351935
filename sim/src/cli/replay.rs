//! `highwater replay`: a recorded run again, compared on the way.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use reports::Verdict;

use super::{record::Record, refuse, run::show};
use crate::runner::{self, RunOptions};
use crate::scenario;

/// Options of `highwater replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A record, as `highwater run --record` writes it
    pub record: PathBuf,
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
}

/// What to do about a record that cannot be read.
const REMEDY: &str = "  = help: write it again: `highwater run SCENARIO --seed N --record FILE` with the scenario and seed it was made from";

/// Reads a record. An error names the file, the line and the remedy.
pub fn read(path: &Path) -> Result<Record, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| format!("error: {shown}: {e}\n{REMEDY}"))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("error: {shown}: byte {at} is not UTF-8 text: the record is damaged\n{REMEDY}")
    })?;
    Record::parse(&text).map_err(|why| format!("error: {shown}: {why}\n{REMEDY}"))
}

/// Runs a record again; exit code 5 if it does not repeat itself.
pub fn replay(args: &ReplayArgs) -> u8 {
    let shown = args.record.display();
    let record = match read(&args.record) {
        Ok(record) => record,
        Err(why) => return refuse(&why),
    };
    let scenario = match scenario::parse(record.path.as_ref(), record.text.clone())
        .and_then(|sheet| sheet.with_overrides(record.variant.as_deref(), &record.overrides))
    {
        Ok(scenario) => scenario,
        Err(why) => return refuse(&why.to_string()),
    };
    let options = RunOptions {
        seed: record.seed,
        keep_disks: None,
        trace: false,
        reproduce: format!("highwater replay {shown}"),
    };
    let mut outcome = match runner::run(&scenario, &options) {
        Ok(outcome) => outcome,
        Err(why) => return refuse(&format!("error: {why}")),
    };
    if outcome.trail != record.trail {
        let build = super::record::build();
        let other = if build == record.build {
            String::new()
        } else {
            format!(" The record was made by {}, this is {build}.", record.build)
        };
        let place = match outcome.trail.parting(&record.trail) {
            Some(parting) => format!("The two runs are {parting}."),
            None => String::new(),
        };
        outcome.report.verdict = Verdict::Nondeterministic;
        outcome.report.why =
            Some(format!("The digest of the record is {}. {place}{other}", record.trail.end));
    }
    show(&outcome.report, args.json);
    if !args.json && outcome.report.verdict != Verdict::Nondeterministic {
        let _ = writeln!(anstream::stderr(), "the same digest as the record");
    }
    outcome.report.verdict.exit_code()
}
