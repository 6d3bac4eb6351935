//! GitHub's annotations: lines on standard output that its runner shows beside the file.

use std::fmt::Write;

use crate::ci::{Outcome, Suite};

/// A line for each failure.
pub fn annotations(suite: &Suite) -> String {
    let mut lines = String::new();
    for case in &suite.cases {
        let Outcome::Failed(failures) = &case.outcome else { continue };
        for failure in failures {
            let (file, title) = (property(&suite.file), property(&failure.message));
            let text = data(&failure.text());
            let _ = writeln!(lines, "::error file={file},line={},title={title}::{text}", failure.line);
        }
    }
    lines
}

/// As the runner's toolkit escapes what stands behind the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// And what stands before it.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_each() {
        let text = super::annotations(&crate::ci::example());
        assert_eq!(text.lines().count(), 2);
        assert_eq!(
            text.lines().next(),
            Some(
                "::error file=scenarios/a.json,line=12,title=lost-write on purchases-0::shop-7 <&> was acknowledged.%0ANobody found it: 100 %25.%0AReproduce with: highwater run a.json --seed 7"
            )
        );
        assert_eq!(super::property("a: b, c"), "a%3A b%2C c");
    }
}
