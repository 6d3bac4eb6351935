//! Reads the lines of parts that were run elsewhere and adds them up, as if they had been run here.
//!
//! A run that stands in several files (a part that was run again because its worker was lost) counts once, and must
//! have the same digest in all of them. What is missing is named.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use reports::Verdict;
use xxhash_rust::xxh3::xxh3_64;

use super::fold::Fold;
use super::line::Line;
use super::plan::Plan;

/// What the files hold.
#[derive(Debug, Default)]
pub struct Merged {
    /// The sum.
    pub fold: Fold,
    /// How many runs of the plan stand in no file, and the seed of the first.
    pub missing: Option<(u64, u64)>,
    /// How many stood in several files.
    pub repeated: u64,
}

/// Adds up the lines of files. An error names the file, the line and a remedy.
pub fn merge(plan: &Plan, files: &[PathBuf]) -> Result<Merged, String> {
    let mut merged = Merged::default();
    // Eight bytes a run, to tell whether it is there and whether a second one is the same.
    let size =
        usize::try_from(plan.whole()).map_err(|_| "error: more runs than fit into memory".to_owned())?;
    let mut seen = vec![0_u64; size];
    for path in files {
        read(plan, path, |line| add(plan, &mut merged, &mut seen, line))?;
    }
    let missing = seen.iter().filter(|seen| **seen == 0).count() as u64;
    let first = seen.iter().position(|seen| *seen == 0);
    let cases = plan.cases.len() as u64;
    merged.missing = first.map(|place| (missing, plan.seeds.0 + place as u64 / cases));
    Ok(merged)
}

fn add(plan: &Plan, merged: &mut Merged, seen: &mut [u64], mut line: Line) {
    let hash = xxh3_64(format!("{} {}", line.verdict.word(), line.digest).as_bytes()).max(1);
    let known = &mut seen[plan.place(line.seed, line.case) as usize];
    if *known == hash {
        merged.repeated += 1;
        return;
    }
    if *known != 0 {
        merged.repeated += 1;
        line.verdict = Verdict::Nondeterministic;
        line.why = "Two files have this run with different digests.".to_owned();
    }
    *known = hash;
    merged.fold.add(plan, &line);
}

fn read(plan: &Plan, path: &Path, mut each: impl FnMut(Line)) -> Result<(), String> {
    let shown = path.display();
    let remedy = "  = help: run that part again; its file is written anew";
    let file = std::fs::File::open(path).map_err(|e| format!("error: {shown}: {e}\n{remedy}"))?;
    let mut reader = std::io::BufReader::new(file);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let refuse = |why: String| format!("error: {shown}:{number}: {why}\n{remedy}");
        if reader.read_until(b'\n', &mut bytes).map_err(|e| refuse(e.to_string()))? == 0 {
            break;
        }
        if bytes.last() != Some(&b'\n') {
            return Err(refuse("the line has no end: the file is cut off".to_owned()));
        }
        let text = std::str::from_utf8(&bytes).map_err(|e| refuse(format!("not UTF-8 text: {e}")))?;
        each(Line::parse(text, plan).map_err(refuse)?);
    }
    Ok(())
}
