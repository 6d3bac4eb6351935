//! `--validate-regex`: whether an expression is one of those that brokers take in subscriptions (RE2).

use alloc::format;
use alloc::string::String;

use regex_syntax::ast::{self, ErrorKind};

/// What the tool says of an expression.
pub(super) fn verdict(expression: &str) -> String {
    match regex_syntax::Parser::new().parse(expression) {
        Ok(_) => format!("The regular expression `{expression}` is valid."),
        Err(error) => {
            let why = match &error {
                regex_syntax::Error::Parse(error) => described(error.kind()),
                _ => "invalid character class range",
            };
            format!("The regular expression `{expression}` is invalid: {why}.")
        }
    }
}

/// In RE2/J's words.
fn described(kind: &ast::ErrorKind) -> &'static str {
    match kind {
        ErrorKind::GroupUnclosed | ErrorKind::GroupUnopened => "missing closing )",
        ErrorKind::GroupNameDuplicate { .. } => "duplicate capture group name",
        ErrorKind::ClassUnclosed => "missing closing ]",
        ErrorKind::ClassRangeInvalid | ErrorKind::ClassRangeLiteral | ErrorKind::ClassEscapeInvalid => {
            "invalid character class range"
        }
        ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression",
        ErrorKind::RepetitionMissing => "missing argument to repetition operator",
        ErrorKind::RepetitionCountInvalid | ErrorKind::RepetitionCountUnclosed => "invalid repeat count",
        ErrorKind::GroupNameInvalid | ErrorKind::GroupNameEmpty | ErrorKind::GroupNameUnexpectedEof => {
            "invalid named capture"
        }
        ErrorKind::FlagUnrecognized
        | ErrorKind::FlagDanglingNegation
        | ErrorKind::FlagRepeatedNegation { .. }
        | ErrorKind::FlagDuplicate { .. }
        | ErrorKind::FlagUnexpectedEof
        | ErrorKind::UnsupportedLookAround => "invalid or unsupported Perl syntax",
        _ => "invalid escape sequence",
    }
}
