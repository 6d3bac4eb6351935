//! Histories of clients in EDN: those with a planted anomaly are told by its name, those of correct runs say nothing, and
//! what is no history is refused with its place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sim::checkers::jepsen::{History, Options, SubVia, judge};
use sim::runner::{RunOptions, run_with_history};
use sim::scenario;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/histories")
}

fn highwater(args: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_highwater")).args(args).env("NO_COLOR", "1").output();
    command.expect("the binary starts")
}

/// What a judged history shows: not allowed, and allowed.
fn found(text: &str, options: &Options) -> (BTreeSet<&'static str>, BTreeSet<&'static str>) {
    let history =
        History::parse(text).unwrap_or_else(|problem| panic!("{}", problem.render("history", text, false)));
    let verdict = judge(&history, options);
    assert_eq!(verdict.unknown, []);
    let names =
        |allowed| verdict.found.iter().filter(|f| f.allowed.is_some() == allowed).map(|f| f.name).collect();
    (names(false), names(true))
}

/// The files say themselves, in a comment, what is to be found.
#[test]
fn planted_anomalies_are_found_by_name() {
    let mut planted = 0;
    for file in std::fs::read_dir(data()).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let said = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word));
            line.into_iter().flat_map(str::split_whitespace).collect::<BTreeSet<&str>>()
        };
        let (bad, allowed) = (said("; finds: "), said("; allows: "));
        planted += usize::from(!bad.is_empty());
        assert_eq!(found(&text, &Options::default()), (bad, allowed), "{}", path.display());
    }
    assert!(planted >= 14, "{planted}");
}

#[test]
fn options_decide_what_is_allowed() {
    let text = |name: &str| std::fs::read_to_string(data().join(name)).unwrap();
    let bad = |name: &str, options: &Options| {
        found(&text(name), options).0.into_iter().collect::<Vec<_>>().join(" ")
    };
    let subscribe = Options { sub_via: Some(SubVia::Subscribe), ..Options::default() };
    let assign = Options { sub_via: Some(SubVia::Assign), ..Options::default() };
    assert_eq!(bad("poll-skip.edn", &subscribe), "");
    assert_eq!(bad("subscribed-consumers-go-back.edn", &assign), "nonmonotonic-poll");
    let writes = |ww_deps| Options { ww_deps: Some(ww_deps), ..Options::default() };
    assert_eq!(bad("G1c.edn", &writes(false)), "G1c");
    assert_eq!(bad("G1c.edn", &writes(true)), "");
    assert_eq!(found(&text("G0-is-allowed.edn"), &writes(false)).1.len(), 0);
    let strict = Options { strict: true, ..Options::default() };
    assert_eq!(bad("G0-is-allowed.edn", &strict), "G0");
    let allow = Options { allow: ["G1a".to_owned()].into(), ..Options::default() };
    assert_eq!(bad("G1a.edn", &allow), "");
}

/// Runs whose promise holds leave a history in which nothing is found.
#[test]
fn histories_of_correct_runs_say_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, variant, seed) in [
        ("labs/kill-broker-1", None, 7),
        ("labs/consumer-group-of-two", None, 3),
        ("kills/transactions", Some("copier"), 2),
        ("kills/consumer-group", None, 5),
    ] {
        let sheet = scenario::load(&root.join(format!("scenarios/{file}.json"))).unwrap();
        let scenario = sheet.variant(variant).unwrap();
        let options = RunOptions { seed, keep_disks: None, trace: false, reproduce: String::new() };
        let outcome = run_with_history(&scenario, &options).unwrap();
        let text = outcome.edn.expect("it was asked for");
        assert_eq!(outcome.report.verdict, reports::Verdict::Pass, "{file}");
        let (bad, _) = found(&text, &Options::default());
        assert_eq!(bad, BTreeSet::new(), "{file}, seed {seed}");
        ends_with_a_reader_of_everything(&text);
    }
}

/// Jepsen's checker demands a fresh process that reads all keys, and polls once more.
fn ends_with_a_reader_of_everything(text: &str) {
    let last = text.lines().last().unwrap();
    assert!(last.contains(":type :ok, :f :poll, :value [[:poll {}]]"), "{last}");
    let process = last.split(", ").find(|part| part.starts_with(":process")).unwrap();
    let assign = text.lines().find(|line| line.contains(&format!("{process}, "))).unwrap();
    assert!(assign.contains(":f :assign") && assign.contains(":seek-to-beginning? true"), "{assign}");
    assert!(text.contains(":type :info, :f :crash"));
}

#[test]
fn check_tells_what_it_found_and_exits_with_3() {
    let path = data().join("lost-write.edn");
    let output = highwater(&["check", path.to_str().unwrap()]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{page}");
    for told in [
        "lost-write.edn: 6 operations of 2 processes",
        "lost-write (1): a value that was acknowledged is missing",
        "    line 7: {:index 3, :time 30,",
        "Not allowed: lost-write, poll-skip, unseen",
    ] {
        assert!(page.contains(told), "{told} is not in\n{page}");
    }
    let output = highwater(&["check", path.to_str().unwrap(), "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["valid"], false);
    assert_eq!(document["found"][0]["name"], "lost-write");
    assert_eq!(document["found"][0]["cases"][0]["operations"][0]["line"], 7);
    let clean = data().join("clean-with-transactions.edn");
    let output = highwater(&["check", clean.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
}

/// A text, and where and why it is refused.
#[test]
fn what_is_no_history_is_refused_with_its_place() {
    // Where a refusal points to is told by what stands there; "" is the end.
    for (text, points_to, told) in [
        ("{:process 0, :type :invoke, :f :poll, :value [[:poll]]", "", "the text ends here, expected }"),
        (
            "\n{:process 0 :type :okay :f :poll :value [[:poll]]}",
            ":okay",
            "found :okay, expected :invoke, :ok, :fail or :info",
        ),
        (
            "{:process 0 :type :invoke :f :read :value nil}",
            ":read",
            "found :read, expected :send, :poll, :txn",
        ),
        (
            "{:process 0 :type :ok :f :poll :value [[:poll {}]]}",
            "{:process",
            ":poll of process 0 ends here and never began",
        ),
        ("{:process 0 :type :invoke :f :send :value [[:send 0]]}", "[:send", "found a :send of 1 parts"),
        ("{:process 0 :type :invoke :f :send :value [[:send :x 1]]}", ":x", "found :x, expected a key"),
        (
            "{:process 0 :type :invoke :f :send :value [[:send 0 99999999999999999999]]}",
            "9999",
            "found the number 99999999999999999999, expected [offset value]",
        ),
        (
            "{:process 0 :type :invoke :f :send :value [[:send 0 [-1 1]]]}",
            "-1",
            "expected an offset that is not negative",
        ),
        ("{:process 0 :type :invoke :f :send :value [[:poll]]}", ":poll]", "found :poll in :send"),
        ("{:process 0 :type :invoke :f :poll}", "{:process", ":invoke of :poll has no :value"),
        (
            "{:index 1 :process 0 :type :invoke :f :poll :value [[:poll]]}",
            "1 :process",
            "found the :index 1, expected 0",
        ),
        ("{:process 0 :process 1}", ":process 1", ":process stands twice"),
        ("[] {}", "{}", "found a map behind the history's vector"),
        (
            "{:process 0 :type :invoke :f :poll :value [[:poll]]}\n{:process 0 :type :invoke :f :poll :value [[:poll ]]}",
            "{:process 0 :type :invoke :f :poll :value [[:poll ]]}",
            "process 0 begins :poll while :poll of line 1 is open",
        ),
        (
            "{:process 0 :type :invoke :f :send :value [[:send 0 1]]}\n{:process 1 :type :invoke :f :send :value [[:send 0 1]]}",
            "{:process 1",
            "the value 1 was sent to key 0 on line 1 already",
        ),
    ] {
        let problem = History::parse(text).expect_err(text);
        let page = problem.render("history.edn", text, false);
        assert!(page.contains(told), "{told} is not in\n{page}");
        let at = if points_to.is_empty() { text.len() } else { text.find(points_to).unwrap() };
        assert_eq!(problem.span.start, at, "{page}");
        let (line, column) =
            (text[..at].lines().count().max(1), at - text[..at].rfind('\n').map_or(0, |n| n + 1) + 1);
        let line = line + usize::from(text[..at].ends_with('\n'));
        assert!(page.contains(&format!("history.edn:{line}:{column}")), "{line}:{column} is not in\n{page}");
    }
    let path = std::env::temp_dir().join("highwater-no-history.edn");
    std::fs::write(&path, "{:process 0, :type :invok, :f :poll, :value [[:poll]]}\n").unwrap();
    let output = highwater(&["check", path.to_str().unwrap()]);
    let page = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{page}");
    assert!(page.contains("did you mean :invoke?"), "{page}");
    let poll = "{:process 0, :type :invoke, :f :poll, :value [[:poll]]}\n";
    let polled = "{:process 0, :type :ok, :f :poll, :value [[:poll {0 [[0 1]]}]]}\n";
    let nothing = "{:process 0, :type :ok, :f :poll, :value [[:poll {}]]}\n";
    std::fs::write(&path, [poll, polled, poll, nothing].concat()).unwrap();
    let output = highwater(&["check", path.to_str().unwrap()]);
    let page = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{page}");
    assert!(page.contains(":2: the value 1 of key 0 is polled here, and no operation sends it"), "{page}");
}

/// Nothing that somebody may hand in takes long, whatever is in it.
#[test]
fn hostile_histories_are_judged_or_refused() {
    let mut many = String::new();
    // Huge offsets, keys and values, and as many processes as operations, all open at once, twice.
    for round in 0..2i64 {
        for process in 0..3_000i64 {
            let process = process + round * 3_000;
            let value = i64::MAX - process;
            many.push_str(&format!(
                "{{:process {process} :type :invoke :f :send :value [[:send {} {value}]]}}\n",
                i64::MIN
            ));
        }
        for process in 0..3_000i64 {
            let process = process + round * 3_000;
            let (offset, value) = (i64::MAX - process, i64::MAX - process);
            many.push_str(&format!(
                "{{:process {process} :type :ok :f :send :value [[:send {} [{offset} {value}]]]}}\n",
                i64::MIN
            ));
        }
    }
    let (bad, allowed) = found(&many, &Options::default());
    assert_eq!(bad.into_iter().collect::<Vec<_>>(), ["unseen"]);
    assert!(allowed.contains("G0-realtime"), "later sends lie before earlier ones: {allowed:?}");
    for text in ["[".repeat(1_000_000), "{:a ".repeat(100_000), "#_".repeat(500_000), "\"".to_owned()] {
        assert!(History::parse(&text).is_err());
    }
}

/// Histories that were drawn at random, with a log that is right or wrong in many ways. Each says what Jepsen's own
/// checker says of it, without and with `:ww-deps`; its hints that a circle exists somewhere are left out.
#[test]
fn histories_are_judged_as_by_jepsen() {
    let mut judged = 0;
    for file in std::fs::read_dir(data().parent().unwrap().join("judged")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for (word, ww_deps) in [("; without:", false), ("; with:", true)] {
            let said = text.lines().find_map(|line| line.strip_prefix(word)).unwrap();
            let said: BTreeSet<&str> = said.split_whitespace().collect();
            let options = Options { ww_deps: Some(ww_deps), strict: true, ..Options::default() };
            assert_eq!(found(&text, &options).0, said, "{}, {word}", path.display());
        }
        judged += 1;
    }
    assert!(judged >= 20, "{judged}");
}
