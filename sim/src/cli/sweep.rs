//! `highwater sweep`: one scenario over many seeds, all its variants, on several cores.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use reports::Verdict;
use serde_json::json;

use super::{INTERRUPTED, apply, load, refuse};
use crate::runner::{self, RunOptions};
use crate::scenario::Scenario;

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
    /// Every so-manieth seed only: 2/5 is the second of five parts
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<(u64, u64)>,
    /// Print one JSON document and nothing else
    #[arg(long)]
    pub json: bool,
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

/// What is kept of one run.
struct Line {
    variant: Option<String>,
    seed: u64,
    verdict: Verdict,
    why: String,
    digest: String,
    virtual_seconds: f64,
}

/// Runs all seeds of all variants; stops on ^C with what it has.
pub fn sweep(args: &SweepArgs) -> u8 {
    let sheet = match load(&args.scenario) {
        Ok(sheet) => sheet,
        Err(why) => return refuse(&why),
    };
    let names: Vec<Option<String>> = match args.variant.as_deref() {
        Some("none") => vec![None],
        Some(name) => vec![Some(name.to_owned())],
        None => std::iter::once(None).chain(sheet.variants.iter().cloned().map(Some)).collect(),
    };
    let mut scenarios = Vec::new();
    for name in names {
        match apply(&sheet, name.as_deref(), &args.overrides, &args.mutants) {
            Ok((scenario, _)) => scenarios.push(scenario),
            Err(why) => return refuse(&why),
        }
    }
    let (index, parts) = args.shard.unwrap_or((1, 1));
    let work: Vec<(&Scenario, u64)> = (args.seeds.0..=args.seeds.1)
        .filter(|seed| (seed - args.seeds.0) % parts == index - 1)
        .flat_map(|seed| scenarios.iter().map(move |s| (s, seed)))
        .collect();
    let taken = runner::stopwatch();
    let (lines, interrupted) = match run_all(args, &work) {
        Ok(done) => done,
        Err(why) => return refuse(&why),
    };
    let worst = lines.iter().map(|l| l.verdict).max_by_key(|v| severity(*v)).unwrap_or(Verdict::Pass);
    report(args, &lines, work.len(), taken(), interrupted);
    if interrupted { INTERRUPTED } else { worst.exit_code() }
}

/// Which verdict decides a sweep's exit code.
fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Expectation => 1,
        Verdict::Liveness => 2,
        Verdict::Violation => 3,
        Verdict::Crash => 4,
        Verdict::Nondeterministic => 5,
    }
}

fn run_all(args: &SweepArgs, work: &[(&Scenario, u64)]) -> Result<(Vec<Line>, bool), String> {
    static STOP: AtomicBool = AtomicBool::new(false);
    // A second handler in one process (a test) is refused; the first one does.
    let _ = ctrlc::set_handler(|| STOP.store(true, Ordering::SeqCst));
    let bar = if std::io::stderr().is_terminal() && !args.json {
        ProgressBar::new(work.len() as u64)
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    };
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}").expect("a valid template"),
    );
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(args.jobs).build().map_err(|e| format!("error: {e}"))?;
    let lines = pool.install(|| {
        work.par_iter()
            .progress_with(bar.clone())
            .filter(|_| !STOP.load(Ordering::SeqCst))
            .map(|(scenario, seed)| one(args, scenario, *seed))
            .collect::<Result<Vec<Line>, String>>()
    });
    bar.finish_and_clear();
    Ok((lines?, STOP.load(Ordering::SeqCst)))
}

fn one(args: &SweepArgs, scenario: &Scenario, seed: u64) -> Result<Line, String> {
    let options = RunOptions {
        seed,
        keep_disks: None,
        trace: false,
        reproduce: reproduce(args, scenario.variant.as_deref(), seed),
    };
    let report = runner::run(scenario, &options).map_err(|why| format!("error: seed {seed}: {why}"))?.report;
    let failed_step = report.steps.iter().find(|s| s.held == Some(false));
    let why = match (&report.why, failed_step, report.violations.iter().find(|v| v.promised)) {
        (Some(why), _, _) => why.clone(),
        (None, Some(step), _) => format!("step {} ({}): {}", step.index, step.verb, step.detail),
        (None, None, Some(v)) => format!("{} on {}: {}", v.name, v.subject, v.explanation),
        (None, None, None) => String::new(),
    };
    Ok(Line {
        variant: report.variant,
        seed,
        verdict: report.verdict,
        why,
        digest: report.digest,
        virtual_seconds: report.virtual_seconds,
    })
}

fn reproduce(args: &SweepArgs, variant: Option<&str>, seed: u64) -> String {
    let variant = variant.map_or(String::new(), |v| format!(" --variant {v}"));
    let sets: String = args.overrides.iter().map(|s| format!(" --set '{s}'")).collect();
    let mutants: String = args.mutants.iter().map(|m| format!(" --mutant {m}")).collect();
    format!("highwater run {} --seed {seed}{variant}{sets}{mutants}", args.scenario.display())
}

/// So many failing seeds are shown; the JSON document has all.
const SHOWN: usize = 10;

fn report(args: &SweepArgs, lines: &[Line], planned: usize, wall: f64, interrupted: bool) {
    let mut counts: BTreeMap<(Option<String>, &'static str), u64> = BTreeMap::new();
    let mut hasher = blake3::Hasher::new();
    let mut virtual_seconds = 0.0;
    for line in lines {
        *counts.entry((line.variant.clone(), line.verdict.word())).or_default() += 1;
        hasher.update(line.digest.as_bytes());
        virtual_seconds += line.virtual_seconds;
    }
    let digest = format!("b3{}", hasher.finalize().to_hex());
    if args.json {
        let runs: Vec<_> = lines
            .iter()
            .map(|l| json!({ "variant": l.variant, "seed": l.seed, "verdict": l.verdict.word(), "why": l.why, "digest": l.digest }))
            .collect();
        let document = json!({
            "scenario": args.scenario.display().to_string(), "planned": planned, "done": lines.len(), "interrupted": interrupted,
            "digest": digest, "virtual_seconds": virtual_seconds, "wall_seconds": wall, "runs": runs,
        });
        super::print(&format!("{document}\n"));
        return;
    }
    let mut out = anstream::stdout();
    for ((variant, verdict), count) in &counts {
        let _ =
            writeln!(out, "{:<20} {verdict:<16} {count:>8}", variant.as_deref().unwrap_or("(as it stands)"));
    }
    for line in lines.iter().filter(|l| l.verdict != Verdict::Pass).take(SHOWN) {
        let _ = writeln!(out, "\nseed {}: {}", line.seed, line.verdict.word());
        for text in textwrap::wrap(&line.why, 76) {
            let _ = writeln!(out, "  {text}");
        }
        let _ = writeln!(out, "  {}", reproduce(args, line.variant.as_deref(), line.seed));
    }
    let done =
        if lines.len() < planned { format!("{} of {planned}", lines.len()) } else { planned.to_string() };
    let _ = writeln!(
        out,
        "\n{done} runs, {virtual_seconds:.0} virtual seconds in {wall:.1} s ({:.0}x)",
        virtual_seconds / wall.max(1e-9)
    );
    let _ = writeln!(out, "digest of all {digest}");
}

#[cfg(test)]
mod tests {
    use super::{seeds, shard};

    #[test]
    fn ranges_and_shards() {
        assert_eq!(seeds("1..1000").map(|s| (s.0, s.1)), Ok((1, 1000)));
        assert_eq!(seeds("1..=5").map(|s| (s.0, s.1)), Ok((1, 5)));
        assert!(seeds("5..1").is_err());
        assert!(seeds("7").is_err());
        assert_eq!(shard("2/5"), Ok((2, 5)));
        assert!(shard("0/5").is_err());
        assert!(shard("6/5").is_err());
    }
}
