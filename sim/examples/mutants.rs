//! Looks for each mutant by blind exploration, and writes what was found into `mutants.md`.
//!
//! `cargo run --release -p highwater-sim --example mutants -- [--budget SECONDS] [--jobs N] [--write] [--silence SEEDS]
//! [NAME …]`
//!
//! The scenarios in `scenarios/explore` are swept from seed 1 on, in turn, until the checker named for the mutant in
//! `sim/src/mutants/catalogue.rs` has fired, or the budget is used up. With `--silence` the scenarios are swept over the
//! seeds from 1 to that one without a mutant, and nothing may be found.
#![cfg(all(madsim, feature = "mutants"))]

use std::process::ExitCode;

use sim::mutants::Mutant;
use sim::mutants::hunt::{self, Hunt};

fn main() -> ExitCode {
    let (mut budget, mut jobs, mut write, mut names) = (60.0, 2, false, Vec::new());
    let mut silence = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<f64>().ok()).expect("a number follows");
        match arg.as_str() {
            "--budget" => budget = number(),
            "--jobs" => jobs = number() as usize,
            "--write" => write = true,
            "--silence" => silence = Some(number() as u64),
            _ => names.push(arg),
        }
    }
    if let Some(seeds) = silence {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let loud = hunt::silence(&names, seeds, jobs);
        loud.iter().for_each(|line| println!("{line}"));
        println!("{} runs found something without a mutant", loud.len());
        return ExitCode::from(u8::from(!loud.is_empty()));
    }
    let wanted = Mutant::all().filter(|m| match names.is_empty() {
        true => hunt::unproven(*m).is_none(),
        false => names.iter().any(|n| n == m.name()),
    });
    let mut missed = 0;
    let mut found = Vec::new();
    for mutant in wanted {
        let hunt = Hunt { mutant: Some(mutant), budget_seconds: budget, jobs };
        let result = hunt::explore(&hunt);
        println!("{}", result.line());
        missed += usize::from(result.caught.is_none());
        found.push(result);
    }
    if write {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        std::fs::write(root.join("mutants.md"), hunt::document(&found)).expect("mutants.md can be written");
    }
    println!("{} mutants, {missed} not caught", found.len());
    ExitCode::from(u8::from(missed > 0))
}
