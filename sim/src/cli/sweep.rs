//! `highwater sweep`: one scenario over many seeds, all its variants and a matrix of options, on several cores.

use std::io::{BufWriter, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reports::Verdict;
use serde_json::{Value, json};

use super::ci::CiArgs;
use super::{INTERRUPTED, apply, load, refuse};
use crate::runner;
use crate::scenario::{Sheet, units};
use crate::sweep::fold::Fold;
use crate::sweep::line::Line;
use crate::sweep::merge::{self, Merged};
use crate::sweep::plan::{self, Plan};
use crate::sweep::pool::{self, Ended};
use crate::sweep::show::{self, About};

/// Options of `highwater sweep`.
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// A scenario file, or the name of one that comes with Highwater
    pub scenario: PathBuf,
    /// First and last seed: 1..1000 is a thousand of them
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub seeds: Seeds,
    /// How many at once; as many as there are cores unless given
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub jobs: usize,
    /// Only this variant; `none` is the sheet as it stands
    #[arg(long)]
    pub variant: Option<String>,
    /// Put another value somewhere in the scenario: /topics/0/config/min.insync.replicas=1
    #[arg(long = "set", value_name = "POINTER=VALUE")]
    pub overrides: Vec<String>,
    /// Switch a known bug on (mutants.md lists them); may be given several times
    #[arg(long = "mutant", value_name = "NAME")]
    pub mutants: Vec<String>,
    /// Put each of several values somewhere; given more than once, each combination of them
    #[arg(long, value_name = "POINTER=V1,V2", value_parser = plan::axis)]
    pub matrix: Vec<(String, Vec<String>)>,
    /// Every so-manieth seed only: 2/5 is the second of five parts
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<(u64, u64)>,
    /// Stop at the first run that does not pass
    #[arg(long)]
    pub until_violation: bool,
    /// Begin no run after so much real time: 30s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = budget)]
    pub budget: Option<f64>,
    /// Write a line of JSON for each run, in the order of seeds; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub jsonl: Option<PathBuf>,
    /// Run nothing: add up the lines that --jsonl wrote for all parts of this sweep
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["shard", "jsonl", "until_violation", "budget"])]
    pub merge: Vec<PathBuf>,
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    ci: CiArgs,
}

/// A range of seeds, both ends in it.
#[derive(Clone, Copy, Debug)]
pub struct Seeds(u64, u64);

fn seeds(text: &str) -> Result<Seeds, String> {
    let expected = "expected the first and the last seed, such as 1..1000";
    let (a, b) = text.split_once("..").ok_or(expected)?;
    let b = b.strip_prefix('=').unwrap_or(b);
    let (a, b): (u64, u64) = (a.parse().map_err(|_| expected)?, b.parse().map_err(|_| expected)?);
    if a > b { Err(format!("the first seed {a} is above the last, {b}")) } else { Ok(Seeds(a, b)) }
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let expected = "expected a part and how many there are, such as 2/5";
    let (i, n) = text.split_once('/').ok_or(expected)?;
    let (i, n): (u64, u64) = (i.parse().map_err(|_| expected)?, n.parse().map_err(|_| expected)?);
    if i == 0 || i > n { Err(expected.to_owned()) } else { Ok((i, n)) }
}

/// A real time in seconds.
pub fn budget(text: &str) -> Result<f64, String> {
    let time = units::duration(text).map(units::Duration::as_secs_f64);
    time.filter(|s| *s > 0.0).ok_or_else(|| "expected a time such as 30s, 10m or 2h".to_owned())
}

/// Runs all seeds of all cases, or adds up what others ran; stops on ^C with what it has.
pub fn sweep(args: &SweepArgs) -> u8 {
    let sheet = match load(&args.scenario) {
        Ok(sheet) => sheet,
        Err(why) => return refuse(&why),
    };
    let plan = match plan_of(args, &sheet) {
        Ok(plan) => Arc::new(plan),
        Err(why) => return refuse(&why),
    };
    let file = sheet.path.display().to_string();
    if args.merge.is_empty() { run(args, &plan, file) } else { merge(args, &plan, file) }
}

fn plan_of(args: &SweepArgs, sheet: &Sheet) -> Result<Plan, String> {
    let mutants: String = args.mutants.iter().map(|m| format!(" --mutant {m}")).collect();
    let apply = |variant: Option<&str>, set: &[String]| {
        apply(sheet, variant, set, &args.mutants).map(|(scenario, _)| scenario)
    };
    let plan = Plan {
        scenario: args.scenario.display().to_string(),
        seeds: (args.seeds.0, args.seeds.1),
        cases: plan::cases(
            &plan::variants(sheet, args.variant.as_deref()),
            &args.overrides,
            &args.matrix,
            &mutants,
            apply,
        )?,
        shard: args.shard.unwrap_or((1, 1)),
    };
    let mut names: Vec<String> = plan.cases.iter().map(plan::Case::name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("error: --matrix makes the same case twice: {}", pair[0])),
        None => Ok(plan),
    }
}

fn run(args: &SweepArgs, plan: &Arc<Plan>, file: String) -> u8 {
    let mut lines = match Lines::open(args, plan) {
        Ok(lines) => lines,
        Err(why) => return refuse(&why),
    };
    let (bar, taken) = (bar(args, plan.len()), runner::stopwatch());
    let (mut fold, mut failed) = (Fold::default(), None);
    let ended = pool::run(plan, args.jobs, args.budget, |line| {
        bar.inc(1);
        fold.add(plan, &line);
        if let Err(why) = lines.write(plan, &line) {
            failed = Some(why);
            return ControlFlow::Break(());
        }
        let enough = args.until_violation && line.verdict != Verdict::Pass;
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let ended = match ended {
        Ok(ended) => ended,
        Err(why) if fold.runs == 0 => return refuse(&why),
        Err(why) => {
            failed = Some(why);
            Ended::Enough
        }
    };
    let about = About { planned: plan.len(), ended, wall_seconds: taken() };
    if let Err(why) = lines.end(plan, &fold, &about).and_then(|()| report(args, plan, &fold, &about, file)) {
        return refuse(&why);
    }
    match failed {
        Some(why) => refuse(&why),
        None if ended == Ended::Interrupted => INTERRUPTED,
        None => fold.worst().exit_code(),
    }
}

fn merge(args: &SweepArgs, plan: &Plan, file: String) -> u8 {
    let taken = runner::stopwatch();
    let Merged { fold, missing, repeated } = match merge::merge(plan, &args.merge) {
        Ok(merged) => merged,
        Err(why) => return refuse(&why),
    };
    let about = About { planned: plan.whole(), ended: Ended::Done, wall_seconds: taken() };
    if args.json {
        let mut document = head(plan, &about);
        document.extend(show::tail(plan, &fold, &about));
        super::print(&(Value::Object(document).to_string() + "\n"));
    }
    if let Err(why) = report(args, plan, &fold, &about, file) {
        return refuse(&why);
    }
    if repeated > 0 {
        let _ = writeln!(anstream::stderr(), "{repeated} runs stand in more than one file, and count once");
    }
    match missing {
        Some((count, seed)) if fold.worst() != Verdict::Nondeterministic => refuse(&format!(
            "error: {count} of {} runs stand in none of the files, first of seed {seed}\n  = help: run the part that has it (--shard) and merge again",
            plan.whole()
        )),
        _ => fold.worst().exit_code(),
    }
}

fn bar(args: &SweepArgs, len: u64) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() && !args.json {
        ProgressBar::new(len)
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    };
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}").expect("a valid template"),
    );
    bar
}

/// Whether standard output has JSON and nothing else.
fn json_on_stdout(args: &SweepArgs) -> bool {
    args.json || args.jsonl.as_deref() == Some(Path::new("-"))
}

/// The page and what CI systems read.
fn report(args: &SweepArgs, plan: &Plan, fold: &Fold, about: &About, file: String) -> Result<(), String> {
    let page = show::page(plan, fold, about);
    if args.jsonl.as_deref() == Some(Path::new("-")) {
        let _ = anstream::stderr().write_all(page.as_bytes());
    } else if !args.json {
        let _ = anstream::stdout().write_all(page.as_bytes());
    }
    if args.ci.any() {
        args.ci.write(&show::suite(plan, fold, about, file), json_on_stdout(args))?;
    }
    Ok(())
}

/// How the JSON document begins.
fn head(plan: &Plan, about: &About) -> serde_json::Map<String, Value> {
    let head = json!({ "scenario": plan.scenario, "planned": about.planned, "seeds": [plan.seeds.0, plan.seeds.1], "shard": [plan.shard.0, plan.shard.1] });
    match head {
        Value::Object(head) => head,
        _ => unreachable!("an object was made"),
    }
}

/// Where runs go one by one: a file of lines, and the list in the JSON document, which is printed as it grows.
struct Lines {
    file: Option<(PathBuf, BufWriter<Box<dyn Write>>)>,
    document: bool,
    any: bool,
}

impl Lines {
    fn open(args: &SweepArgs, plan: &Plan) -> Result<Lines, String> {
        let file = match &args.jsonl {
            None => None,
            Some(path) if path == Path::new("-") => {
                if args.json {
                    return Err("error: --json and --jsonl - both want standard output\n  = help: give --jsonl a file".to_owned());
                }
                Some((path.clone(), BufWriter::new(Box::new(std::io::stdout()) as Box<dyn Write>)))
            }
            Some(path) => {
                let file = std::fs::File::create(path).map_err(|e| cannot_write(path, &e))?;
                Some((path.clone(), BufWriter::new(Box::new(file) as Box<dyn Write>)))
            }
        };
        if args.json {
            let about = About { planned: plan.len(), ended: Ended::Done, wall_seconds: 0.0 };
            let head = Value::Object(head(plan, &about)).to_string();
            super::print(&format!("{},\"runs\":[", head.trim_end_matches('}')));
        }
        Ok(Lines { file, document: args.json, any: false })
    }

    fn write(&mut self, plan: &Plan, line: &Line) -> Result<(), String> {
        if self.file.is_none() && !self.document {
            return Ok(());
        }
        let value = line.to_json(plan);
        if let Some((path, file)) = &mut self.file {
            // Flushed, so that who waits for lines has them, and a process that is killed leaves whole ones.
            let written = writeln!(file, "{value}").and_then(|()| file.flush());
            written.map_err(|e| cannot_write(path, &e))?;
        }
        if self.document {
            super::print(&format!("{}{value}", if self.any { "," } else { "" }));
            self.any = true;
        }
        Ok(())
    }

    fn end(&mut self, plan: &Plan, fold: &Fold, about: &About) -> Result<(), String> {
        if self.document {
            let tail = Value::Object(show::tail(plan, fold, about)).to_string();
            super::print(&format!("],{}\n", tail.trim_start_matches('{')));
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, e: &std::io::Error) -> String {
    format!(
        "error: {} cannot be written: {e}\n  = help: name a file in a directory that is there",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::{budget, seeds, shard};

    #[test]
    fn ranges_and_shards() {
        assert_eq!(seeds("1..1000").map(|s| (s.0, s.1)), Ok((1, 1000)));
        assert_eq!(seeds("1..=5").map(|s| (s.0, s.1)), Ok((1, 5)));
        assert!(seeds("5..1").is_err());
        assert!(seeds("7").is_err());
        assert_eq!(shard("2/5"), Ok((2, 5)));
        assert!(shard("0/5").is_err());
        assert!(shard("6/5").is_err());
        assert_eq!(budget("10m"), Ok(600.0));
        assert!(budget("10").is_err());
        assert!(budget("0s").is_err());
    }
}
