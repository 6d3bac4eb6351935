//! The command line of `highwater`: what it takes, what it prints, how it exits.
//!
//! Exit codes: 0 everything held; 1 an expectation did not; 2 bad usage or a scenario that cannot be read; 3 something
//! was found that the scenario does not allow; 4 the cluster did not converge; 5 the run is not deterministic; 6 a node
//! stopped on an assertion; 130 interrupted.

mod builtin;
mod check;
mod ci;
mod list;
mod record;
mod replay;
mod run;
mod shrink;
mod sweep;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::mutants::{self, Mutant};
use crate::scenario::{self, LoadError, Scenario, Sheet};

/// Bad usage, or a file that cannot be read.
pub const USAGE: u8 = 2;
/// Interrupted; what was done is printed.
pub const INTERRUPTED: u8 = 130;

/// A Kafka cluster that you can break on purpose, and get the very same break back from a seed.
#[derive(Parser, Debug)]
#[command(name = "highwater", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a scenario once and show what happened
    Run(run::RunArgs),
    /// Run a recorded run again and compare, step by step
    Replay(replay::ReplayArgs),
    /// Run a scenario over many seeds, all its variants
    Sweep(sweep::SweepArgs),
    /// Look for the anomalies of Jepsen's Kafka workload in a history from elsewhere
    Check(check::CheckArgs),
    /// Make a scenario of a few fixed steps out of a run that went wrong
    Shrink(shrink::ShrinkArgs),
    /// List the scenarios that come with Highwater
    Scenarios,
    /// Print the JSON Schema of scenario files, for editors
    Schema,
    /// Say what is in a log segment, an index or a snapshot, as Kafka's tool of that name does
    #[command(name = "kafka-dump-log", disable_help_flag = true)]
    KafkaDumpLog {
        /// The tool's own options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

const GUIDE: &str = "\
Highwater: a Kafka cluster that you can break on purpose, and get the very same
break back from a seed.

Begin with a lab:

  highwater run kill-broker-1

Then:

  highwater scenarios                              what else there is
  highwater run kill-broker-1 --seed 7             the same run, each time
  highwater sweep kill-broker-1 --seeds 1..100     the same lab a hundred times
  highwater run my-own.json                        a scenario of your own
  highwater --help                                 everything
";

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::from(match Cli::parse().command {
        None => print(GUIDE),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Replay(args)) => replay::replay(&args),
        Some(Command::Sweep(args)) => sweep::sweep(&args),
        Some(Command::Check(args)) => check::check(&args),
        Some(Command::Shrink(args)) => shrink::shrink(&args),
        Some(Command::Scenarios) => list::list(),
        Some(Command::Schema) => {
            print(&(serde_json::to_string_pretty(&scenario::format::schema()).expect("plain JSON") + "\n"))
        }
        Some(Command::KafkaDumpLog { args }) => crate::tools::dump_log(&args),
    })
}

/// Prints to standard output; a reader that went away is no error.
fn print(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}

/// Says on standard error why nothing was run.
fn refuse(why: &str) -> u8 {
    let mut err = anstream::stderr();
    let _ = writeln!(err, "{}", why.trim_end());
    USAGE
}

/// Reads a scenario: a file, or the name of one that comes with Highwater.
fn load(path: &Path) -> Result<Sheet, String> {
    let result = match scenario::load(path) {
        Err(LoadError::Unreadable { .. }) if !path.exists() => match builtin::find(&path.to_string_lossy()) {
            Some((path, text)) => scenario::parse(&PathBuf::from(path), text.to_owned()),
            None => return Err(unknown(path)),
        },
        other => other,
    };
    result.map_err(|e| match e {
        LoadError::Refused { problem, .. } if anstream::stderr().is_terminal() => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            problem.render(&path.display().to_string(), &text, true)
        }
        other => other.to_string(),
    })
}

/// The scenario that a command line asks for, and the overrides that give it again: those given, and what `--mutant` adds.
fn apply(
    sheet: &Sheet,
    variant: Option<&str>,
    overrides: &[String],
    mutants: &[String],
) -> Result<(Scenario, Vec<String>), String> {
    for name in mutants {
        Mutant::find(name)
            .map_err(|no| format!("error: --mutant {name}: {}\n  = help: {}", no.text, no.help))?;
    }
    let scenario = sheet.with_overrides(variant, overrides).map_err(|e| e.to_string())?;
    let Some(added) = mutants::addition(&scenario.cluster.mutants, mutants) else {
        return Ok((scenario, overrides.to_vec()));
    };
    let mut all = overrides.to_vec();
    all.push(added);
    let scenario = sheet.with_overrides(variant, &all).map_err(|e| e.to_string())?;
    Ok((scenario, all))
}

fn unknown(path: &Path) -> String {
    let names = builtin::names();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let near = scenario::nearest::nearest(&path.to_string_lossy(), known)
        .map_or(String::new(), |n| format!("did you mean \"{n}\"? "));
    format!(
        "error: {}: there is no such file, and no such scenario comes with Highwater\n  = help: {near}`highwater scenarios` lists them",
        path.display()
    )
}
