//! Command lines as argparse4j reads them: `kafka-cluster`, `kafka-metadata-quorum`, `kafka-features`.
//!
//! Options of the tool come before its command's name, those of the command after it. Long names may be cut short as
//! long as they are not ambiguous.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// An option: its long name, perhaps a short one, and whether it takes a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arg {
    pub name: &'static str,
    pub short: Option<&'static str>,
    pub value: bool,
}

pub(super) const fn arg(name: &'static str, short: Option<&'static str>) -> Arg {
    Arg { name, short, value: true }
}

pub(super) const fn switch(name: &'static str) -> Arg {
    Arg { name, short: None, value: false }
}

/// A tool, or one of its commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parser {
    /// The command's name; empty for the tool itself.
    pub name: &'static str,
    pub args: &'static [Arg],
    /// Of these exactly one must be given, if there are any.
    pub one_of: &'static [&'static str],
    /// The text behind `usage: `.
    pub usage: &'static str,
}

/// What a command line says.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub command: &'static str,
    given: Vec<(&'static str, Option<String>)>,
}

/// Why it cannot be read, or that it asks for help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// What is wrong, and what to say of it on standard error: the usage, and that.
    Error { why: String, text: String },
    /// The usage, for standard output.
    Help(String),
}

impl Arguments {
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The last value of an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name).and_then(|(_, value)| value.as_deref())
    }

    /// Which of these are given, in the order in which they were given first.
    pub fn in_order(&self, names: &[&'static str]) -> Vec<&'static str> {
        let mut given: Vec<&'static str> = Vec::new();
        for (name, _) in &self.given {
            if names.contains(name) && !given.contains(name) {
                given.push(name);
            }
        }
        given
    }

    /// All values of an option that may be repeated.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(given, _)| *given == name).filter_map(|(_, value)| value.as_deref())
    }

    /// Reads the words behind the tool's name.
    pub fn parse(
        program: &str,
        tool: &'static Parser,
        commands: &'static [Parser],
        words: &[String],
    ) -> Result<Arguments, Unread> {
        let mut arguments = Arguments { command: "", given: Vec::new() };
        let mut parser = tool;
        let mut words = words.iter();
        let error = |parser: &Parser, text: String| misused(program, parser.usage, &text);
        while let Some(word) = words.next() {
            if word == "-h" || word == "--help" {
                return Err(Unread::Help(format!("usage: {}\n", parser.usage)));
            }
            if !word.starts_with('-') || word == "-" {
                if !arguments.command.is_empty() {
                    return Err(error(parser, format!("unrecognized arguments: '{word}'")));
                }
                parser = commands.iter().find(|command| command.name == word).ok_or_else(|| {
                    let names: Vec<String> = commands.iter().map(|c| format!("'{}'", c.name)).collect();
                    let known = names.join(", ");
                    error(parser, format!("invalid choice: '{word}' (choose from {known})"))
                })?;
                arguments.command = parser.name;
                continue;
            }
            let (name, attached) = match word.split_once('=') {
                Some((name, attached)) if name.starts_with("--") => (name, Some(attached.to_string())),
                _ => (word.as_str(), None),
            };
            let arg = find(parser, name).map_err(|text| error(parser, text))?;
            let value = match (arg.value, attached) {
                (true, Some(attached)) => Some(attached),
                (true, None) => {
                    let next = words.next().filter(|next| !next.starts_with('-')).cloned();
                    let missing = || error(parser, format!("argument {}: expected one argument", title(arg)));
                    Some(next.ok_or_else(missing)?)
                }
                (false, _) => None,
            };
            arguments.given.push((arg.name, value));
        }
        if arguments.command.is_empty() {
            return Err(error(tool, "too few arguments".into()));
        }
        arguments.check(tool).map_err(|text| error(tool, text))?;
        arguments.check(parser).map_err(|text| error(parser, text))?;
        Ok(arguments)
    }

    fn check(&self, parser: &Parser) -> Result<(), String> {
        match self.in_order(parser.one_of)[..] {
            [] if !parser.one_of.is_empty() => {
                let titles = parser.args.iter().filter(|arg| parser.one_of.contains(&arg.name)).map(title);
                let titles: Vec<String> = titles.collect();
                match &titles[..] {
                    [title] => Err(format!("argument {title} is required")),
                    _ => Err(format!("one of the arguments {} is required", titles.join(" "))),
                }
            }
            [first, second, ..] => {
                let titled = |name: &str| {
                    parser.args.iter().find(|arg| arg.name == name).map(title).unwrap_or_default()
                };
                Err(format!("argument {}: not allowed with argument {}", titled(second), titled(first)))
            }
            _ => Ok(()),
        }
    }
}

/// The usage, and in lines of at most 75 characters what is wrong.
pub(super) fn misused(program: &str, usage: &str, text: &str) -> Unread {
    let lines = justified(&format!("{program}: error: {text}"));
    Unread::Error { why: text.into(), text: format!("usage: {usage}\n{lines}\n") }
}

/// A text in lines of 75 characters, as argparse4j's `TextHelper` makes them: what a line but the last lacks is spread
/// over its spaces.
fn justified(text: &str) -> String {
    const WIDTH: usize = 75;
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut pieces = pieces(text).into_iter().peekable();
    while let Some(piece) = pieces.next() {
        // The space behind a word must fit, too, and so must the end of the last line.
        let end = usize::from(pieces.peek().is_none());
        if line.chars().count() + piece.chars().count() + end > WIDTH && !line.is_empty() {
            lines.push(spread(line.trim_end(), WIDTH));
            line.clear();
        }
        line.push_str(piece);
    }
    lines.push(line.trim_end().into());
    lines.join("\n")
}

/// What cannot be shared out evenly goes to the spaces in the middle.
fn spread(line: &str, width: usize) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let gaps = words.len() - 1;
    if gaps == 0 {
        return line.into();
    }
    let lacking = width.saturating_sub(line.chars().count());
    let (each, rest) = (lacking / gaps, lacking % gaps);
    let first = (gaps - rest) / 2;
    let mut text = String::new();
    for (i, word) in words.iter().enumerate() {
        text.push_str(word);
        let Some(from_right) = (gaps - 1).checked_sub(i) else { break };
        let more = usize::from((first..first + rest).contains(&from_right));
        text.extend(core::iter::repeat_n(' ', 1 + each + more));
    }
    text
}

/// Where a line may be broken, as Java's `BreakIterator.getLineInstance` finds it: behind spaces, hyphens and the marks
/// that end words, and before brackets that open, but not in numbers.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, c) in line.char_indices() {
        if at > start && breaks(&line[start..at], c) {
            pieces.push(&line[start..at]);
            start = at;
        }
    }
    pieces.push(&line[start..]);
    pieces
}

/// Whether a line may be broken between a piece and the character behind it.
fn breaks(piece: &str, next: char) -> bool {
    const ENDS: &str = ".,:;!?%)]}\"";
    let last = piece.chars().next_back().unwrap_or(' ');
    if next == ' ' || next == '\'' && last != ' ' || ENDS.contains(next) {
        return false;
    }
    let has_word = piece.contains(|c: char| c.is_alphanumeric());
    let is_number = piece.chars().all(|c| c.is_ascii_digit() || ".,".contains(c));
    match last {
        ' ' => true,
        '-' => next != '-' && (has_word || !next.is_ascii_digit()),
        '.' | ',' if is_number => !next.is_ascii_digit(),
        '"' => has_word,
        last if ENDS.contains(last) => true,
        _ => "([{".contains(next) && (has_word || piece.ends_with('=')),
    }
}

fn title(arg: &Arg) -> String {
    match arg.short {
        Some(short) => format!("{}/{short}", arg.name),
        None => arg.name.into(),
    }
}

/// The option of that name, or of the only one that begins so.
fn find(parser: &Parser, name: &str) -> Result<&'static Arg, String> {
    if let Some(arg) = parser.args.iter().find(|arg| arg.name == name || arg.short == Some(name)) {
        return Ok(arg);
    }
    let similar = |arg: &&Arg| name.len() > 2 && name.starts_with("--") && arg.name.starts_with(name);
    let similar: Vec<&'static Arg> = parser.args.iter().filter(similar).collect();
    match similar[..] {
        [arg] => Ok(arg),
        [] => Err(format!("unrecognized arguments: '{name}'")),
        _ => {
            let mut names: Vec<&str> = similar.iter().map(|arg| arg.name).collect();
            names.sort();
            Err(format!("ambiguous option: {name} could match {}", names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Java 17 breaks them.
    #[test]
    fn lines_break_where_javas_do() {
        let cases = [
            "a.|b.|c |d",
            "k1=v1,|k2=|[v1,|v2]",
            "foo/bar |baz",
            "a|(b)|c |(d) |e",
            "--|group |x",
            "a-|b |-1 |c-|1d",
            "v1.|2.3 |x1.|5",
            "<host:|port>",
            "100%|a",
            "a-  |b",
            "'{\"a\":|1}'",
            "[a]|b",
            "x |-|y",
            "http:|//foo.|bar/x",
        ];
        for broken in cases {
            let line: String = broken.split('|').collect();
            assert_eq!(pieces(&line), broken.split('|').collect::<Vec<_>>());
        }
    }

    /// As Apache Kafka 4.3.1's tools printed them.
    #[test]
    fn what_is_wrong_is_told_in_lines_of_75_characters() {
        let cases = [
            "kafka-cluster: error: argument --id/-i is required",
            "kafka-producer-perf-test:  error:  --num-records  should  be  greater  than\nzero.",
            "kafka-producer-perf-test: error: argument  --transaction-duration-ms: could\nnot convert 'x' to Long (For \
             input string: \"x\")",
            "kafka-producer-perf-test: error: At  least  one  of  --bootstrap-server, --\ncommand-property, \
             --producer-props,  --producer.config  or --command-config\nmust be specified.",
            "kafka-cluster: error: invalid  choice:  'frob'  (choose  from 'cluster-id',\n'unregister', 'list-endpoints')",
            "kafka-metadata-quorum:  error:   invalid   choice:   'frob'   (choose  from\n'describe', 'add-controller', \
             'remove-controller')",
            "kafka-metadata-quorum: error: one  of  the  arguments --bootstrap-server --\nbootstrap-controller is required",
            "kafka-cluster:  error:  one  of   the  arguments  --bootstrap-server/-b  --\nbootstrap-controller/-C is \
             required",
            "kafka-transactions.sh: error: invalid choice:  'frob'  (choose from 'list',\n'describe',      \
             'describe-producers',       'abort',       'find-hanging',\n'forceTerminateTransaction')",
        ];
        for text in cases {
            let joined = text.replace("--\n", "--").replace('\n', " ");
            let words: Vec<&str> = joined.split_whitespace().collect();
            assert_eq!(justified(&words.join(" ")), text);
        }
    }
}
