//! JUnit's XML, as Jenkins, GitLab and others read it.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::ci::{Case, Outcome, Suite};

/// The document.
pub fn document(suite: &Suite) -> String {
    let mut report = Report::new("highwater");
    let mut tests = TestSuite::new(suite.name.as_str());
    tests.set_time(duration(suite.seconds));
    tests.add_test_cases(suite.cases.iter().map(|c| case(suite, c)));
    report.add_test_suite(tests);
    report.to_string().expect("text that was escaped")
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn case(suite: &Suite, case: &Case) -> TestCase {
    let status = match &case.outcome {
        Outcome::Passed => TestCaseStatus::success(),
        Outcome::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.as_str());
            status
        }
        Outcome::Failed(failures) => {
            let error = failures.iter().any(|f| f.error);
            let kind = if error { NonSuccessKind::Error } else { NonSuccessKind::Failure };
            let mut status = TestCaseStatus::non_success(kind);
            if let Some(first) = failures.first() {
                status.set_type(first.rule.as_str()).set_message(first.message.as_str());
            }
            let texts: Vec<String> = failures
                .iter()
                .map(|f| format!("{}:{}: {}\n{}", suite.file, f.line, f.message, f.text()))
                .collect();
            status.set_description(texts.join("\n\n"));
            status
        }
    };
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(suite.name.as_str()).set_time(duration(case.seconds));
    test
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_suite() {
        let text = super::document(&crate::ci::example());
        for part in [
            r#"<testsuite name="a" tests="3" skipped="1" errors="1" failures="0""#,
            r#"<testcase name="step 1: expect" classname="a" time="0.250"/>"#,
            r#"<error message="lost-write on purchases-0" type="lost-write">scenarios/a.json:12: lost-write on purchases-0"#,
            "shop-7 &lt;&amp;&gt; was acknowledged.",
            "Reproduce with: highwater run a.json --seed 7",
            r#"<skipped message="a step before it did not hold"/>"#,
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
