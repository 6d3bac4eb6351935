//! What whole runs cost: the reference failover, an idle minute, memory, and a sweep on two cores.
//!
//! Each run has a process of its own, so that its peak of memory is its own; time is processor time, the best of
//! several, since other work on the machine does not count. A sweep's is wall time: two cores are what it is about.
//!
//! `cargo bench -p highwater-sim --bench reference`; with ` -- keys` only the cases whose names contain that.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real time is what a benchmark measures"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sim::runner::{RunOptions, run};
use sim::scenario::load;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 7;
const REPEATED: usize = 5;
const FAILOVER: &str = "bench/reference-failover.json";
const IDLE: &str = "bench/idle.json";
const SOAK: &str = "bench/soak.json";
const SWEPT: &str = "labs/stop-broker-1.json";
const SWEPT_SEEDS: &str = "1..100";
const CHAOS: &str = "chaos/everything.json";
const CHAOS_SMALL: &str = "chaos/chaos-small.json";
/// A minute of chaos is as long as what the seed drew: the mean of these counts.
const CHAOTIC: std::ops::RangeInclusive<u64> = 1..=8;
/// So many seeds of a small chaos are swept, and what they take is told for ten thousand.
const CHAOS_SEEDS: u32 = 400;

/// One run.
#[derive(Clone, Copy, Debug)]
struct Figures {
    /// Processor time.
    taken: Duration,
    virtual_seconds: f64,
    frames: u64,
    peak_mib: f64,
}

impl Figures {
    fn times_real(&self) -> f64 {
        self.virtual_seconds / self.taken.as_secs_f64()
    }

    fn frame_ns(&self) -> f64 {
        self.taken.as_nanos() as f64 / self.frames as f64
    }

    fn line(&self) -> String {
        let Figures { taken, virtual_seconds, frames, peak_mib } = self;
        format!("{} {virtual_seconds} {frames} {peak_mib}", taken.as_nanos())
    }

    fn parse(line: &str) -> Option<Figures> {
        let mut words = line.split_whitespace();
        let taken = Duration::from_nanos(words.next()?.parse().ok()?);
        let virtual_seconds = words.next()?.parse().ok()?;
        let (frames, peak_mib) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Figures { taken, virtual_seconds, frames, peak_mib })
    }
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

/// The most memory that this process ever held, if the system tells.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Runs a scenario here and prints what it took.
fn child(seed: u64, path: &str, variant: Option<&str>) {
    let sheet = load(&scenarios().join(path)).expect("a scenario of this repository");
    let scenario = sheet.variant(variant).expect("one of its variants");
    let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
    let start = cpu_time::ProcessTime::now();
    let report = run(&scenario, &options).expect("it runs").report;
    let taken = start.elapsed();
    assert_eq!(report.verdict.word(), "pass", "{:?}", report.why);
    let (virtual_seconds, frames) = (report.virtual_seconds, report.frames);
    println!("{}", Figures { taken, virtual_seconds, frames, peak_mib: peak_mib() }.line());
}

/// One run in a process of its own.
fn one(seed: u64, path: &str, variant: Option<&str>) -> Figures {
    one_in(&[], seed, path, variant)
}

/// One run in a process of its own, with these variables in its environment.
fn one_in(environment: &[(&str, &str)], seed: u64, path: &str, variant: Option<&str>) -> Figures {
    let own = std::env::current_exe().expect("a process has a file");
    let mut child = Command::new(own);
    child.args(["--child", &seed.to_string(), path]).args(variant).envs(environment.iter().copied());
    let done = child.output().expect("it starts");
    let out = String::from_utf8_lossy(&done.stdout);
    Figures::parse(&out).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&done.stderr)))
}

/// The best of several runs, each in a process of its own.
fn best(path: &str, variant: Option<&str>) -> Figures {
    (0..REPEATED)
        .map(|_| one(SEED, path, variant))
        .min_by_key(|figures| figures.taken)
        .expect("there are several")
}

/// How long a sweep takes with so many at once.
fn sweep(jobs: &str) -> f64 {
    let one = || {
        let start = Instant::now();
        let done = Command::new(env!("CARGO_BIN_EXE_highwater"))
            .arg("sweep")
            .arg(scenarios().join(SWEPT))
            .args(["--variant", "none", "--seeds", SWEPT_SEEDS, "--jobs", jobs, "--json"])
            .output()
            .expect("it starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        start.elapsed().as_secs_f64()
    };
    (0..REPEATED).map(|_| one()).fold(f64::MAX, f64::min)
}

/// One line: a figure, its unit, and its budget.
fn print(name: &str, value: f64, unit: &str, budget: &str, held: bool) {
    let held = if held { "held" } else { "NOT HELD" };
    println!("{name:44} {value:9.2} {unit:18} {budget:28} {held}");
}

fn failover() {
    let plain = best(FAILOVER, None);
    let rate = plain.times_real();
    print("reference failover", rate, "x real time", ">= 500 (aim 1,000)", rate >= 500.0);
    let (ns, mib) = (plain.frame_ns(), plain.peak_mib);
    print("  a delivered frame, everything in it", ns, "ns", "<= 700 (aim 450)", ns <= 700.0);
    print("  peak memory", mib, "MiB", "<= 150", mib <= 150.0);
    let long = best(FAILOVER, Some("ten-times-as-long"));
    print("  ten times as long", long.times_real(), "x real time", ">= 500", long.times_real() >= 500.0);
    let ratio = long.peak_mib / mib;
    print("  ten times as long, peak memory", ratio, "x that of once", "<= 1.5", ratio <= 1.5);
}

fn group() {
    let (plain, group) = (best(FAILOVER, None), best(FAILOVER, Some("group")));
    let ratio = group.taken.as_secs_f64() / plain.taken.as_secs_f64();
    print("reference failover with a group of two", ratio, "x that without", "<= 1.3", ratio <= 1.3);
    let ns = group.frame_ns();
    print("  a delivered frame, everything in it", ns, "ns", "<= 700 (aim 450)", ns <= 700.0);
}

fn keys() {
    let keys = best(FAILOVER, Some("keys"));
    let rate = keys.times_real();
    print("reference failover with keys", rate, "x real time", ">= 250 (aim 500)", rate >= 250.0);
    let ns = keys.frame_ns();
    print("  a delivered frame, everything in it", ns, "ns", "<= 700 (aim 450)", ns <= 700.0);
    print("  peak memory", keys.peak_mib, "MiB", "<= 150", keys.peak_mib <= 150.0);
}

fn idle() {
    let ms = best(IDLE, None).taken.as_secs_f64() * 1e3;
    print("an idle minute", ms, "ms", "<= 20", ms <= 20.0);
}

/// Only if it is asked for by name: it takes minutes.
fn soak() {
    let day = one(SEED, SOAK, None).peak_mib;
    print("a day of slow traffic, peak memory", day, "MiB", "<= 150", day <= 150.0);
    // The allocator takes memory in steps of 8 MiB, and keeps for a while what was freed: it is told to give that back at
    // once, so that the peak follows what is held.
    let held = |variant| one_in(&[("MIMALLOC_PURGE_DELAY", "0")], SEED, SOAK, variant);
    let (quarter, day) = (held(Some("six-hours")), held(None));
    print("  freed memory given back at once", day.peak_mib, "MiB", "", true);
    let ratio = day.peak_mib / quarter.peak_mib;
    print("  a day, peak memory", ratio, "x that of six hours", "<= 1.15", ratio <= 1.15);
}

fn sweeps() {
    let ratio = sweep("1") / sweep("2");
    print("sweep on two cores", ratio, "x that of one", ">= 1.8", ratio >= 1.8);
}

/// A minute of everything, and ten thousand small ones.
fn chaos() {
    let plain = best(FAILOVER, None).taken.as_secs_f64();
    let runs: Vec<Figures> = CHAOTIC
        .map(|seed| {
            let runs = (0..2).map(|_| one(seed, CHAOS, None));
            runs.min_by_key(|figures| figures.taken).expect("there are two")
        })
        .collect();
    let ratios = || runs.iter().map(|figures| figures.taken.as_secs_f64() / plain);
    let mean = ratios().sum::<f64>() / runs.len() as f64;
    print("60 virtual seconds of chaos, mean of 8 seeds", mean, "x the failover", "<= 4", mean <= 4.0);
    let longest = ratios().fold(0.0, f64::max);
    print("  the longest of them", longest, "x the failover", "", true);
    let mib = runs.iter().map(|figures| figures.peak_mib).fold(0.0, f64::max);
    print("  peak memory", mib, "MiB", "<= 150", mib <= 150.0);
    let start = Instant::now();
    let done = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .arg("sweep")
        .arg(scenarios().join(CHAOS_SMALL))
        .args(["--seeds", &format!("1..{CHAOS_SEEDS}"), "--jobs", "2", "--json"])
        .output()
        .expect("it starts");
    let minutes = start.elapsed().as_secs_f64() / 60.0 * 10_000.0 / f64::from(CHAOS_SEEDS);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    print("10,000 seeds of chaos-small on two cores", minutes, "minutes", "<= 5", minutes <= 5.0);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, seed, path, variant @ ..] = args.as_slice()
        && flag == "--child"
    {
        return child(seed.parse().expect("a number"), path, variant.first().map(String::as_str));
    }
    let wanted = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    let cases: [(&str, fn()); 6] = [
        ("failover", failover),
        ("group", group),
        ("keys", keys),
        ("idle", idle),
        ("sweep", sweeps),
        ("chaos", chaos),
    ];
    if wanted == "soak" {
        soak();
    }
    for (_, measure) in cases.into_iter().filter(|(name, _)| name.contains(wanted)) {
        measure();
    }
}
