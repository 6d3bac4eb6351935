//! Command lines as joptsimple reads them, which is what most of Kafka's tools use.
//!
//! `--name value`, `--name=value`, `-name value`; an option may be repeated if the tool asks for all of its values;
//! names are not abbreviated (Kafka turns that off); arguments that are no options are passed over; `--` ends them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::session::Exception;

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// A value; how the help describes it.
    Value(&'static str),
    /// A value, or nothing. A value that begins with a hyphen is one if it is a number and a number is asked for.
    Perhaps(&'static str),
}

/// An option that a tool knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opt {
    pub name: &'static str,
    pub takes: Takes,
    pub help: &'static str,
}

pub(super) const fn flag(name: &'static str, help: &'static str) -> Opt {
    Opt { name, takes: Takes::Nothing, help }
}

pub(super) const fn value(name: &'static str, described: &'static str, help: &'static str) -> Opt {
    Opt { name, takes: Takes::Value(described), help }
}

/// Every tool has these.
const COMMON: [Opt; 2] =
    [flag("help", "Print usage information."), flag("version", "Display Kafka version.")];

/// What a command line says.
#[derive(Clone, Debug)]
pub(super) struct Options {
    table: &'static [Opt],
    given: Vec<(&'static str, Option<String>)>,
    empty: bool,
}

impl Options {
    /// Reads the words behind the tool's name.
    pub fn parse(table: &'static [Opt], words: &[String]) -> Result<Options, Exception> {
        let mut options = Options { table, given: Vec::new(), empty: words.is_empty() };
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(token) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            match (token.is_empty(), word.as_str()) {
                (true, "--") => break,
                (true, _) => continue,
                (false, _) => {}
            }
            let (name, attached) = match token.split_once('=') {
                Some((name, attached)) => (name, Some(attached.to_string())),
                None => (token, None),
            };
            let opt = options.find(name).ok_or_else(|| unrecognized(word, name))?;
            let given = match (opt.takes, attached) {
                (Takes::Nothing, _) => None,
                (Takes::Value(_) | Takes::Perhaps(_), Some(attached)) => Some(attached),
                (Takes::Value(_), None) => {
                    let next = words.next().cloned();
                    Some(next.ok_or_else(|| no_argument(opt.name))?)
                }
                (Takes::Perhaps(described), None) => {
                    let number = described.starts_with("Integer");
                    words.next_if(|next| is_optional_value(next, number)).cloned()
                }
            };
            options.given.push((opt.name, given));
        }
        Ok(options)
    }

    fn find(&self, name: &str) -> Option<&'static Opt> {
        self.table.iter().chain(&COMMON).find(|opt| opt.name == name)
    }

    /// Whether there was not a single word.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether an option is given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The value of an option that may be given once.
    pub fn value(&self, name: &'static str) -> Result<Option<&str>, Exception> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Exception::new(
                "joptsimple.MultipleArgumentsForOptionException",
                format!("Found multiple arguments for option {name}, but you asked for only one"),
            ));
        }
        Ok(first)
    }

    /// The value of an option that the caller knows to be given.
    pub fn required(&self, name: &'static str) -> Result<&str, Exception> {
        Ok(self.value(name)?.unwrap_or_default())
    }

    /// All values of an option that may be repeated.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.given.iter().filter(move |(given, _)| *given == name).filter_map(|(_, value)| value.as_deref())
    }

    /// The value of an option that is a number.
    pub fn number<T: core::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, Exception> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        match text.strip_prefix('+').unwrap_or(text).parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(cannot_parse(text, name)),
        }
    }

    /// The help: two columns of at most 80 characters, as joptsimple's formatter prints it.
    pub fn usage(table: &[Opt]) -> String {
        let mut rows: Vec<(String, &str)> = table
            .iter()
            .chain(&COMMON)
            .map(|opt| {
                let indicator = match opt.takes {
                    Takes::Nothing => format!("--{}", opt.name),
                    Takes::Value(described) => format!("--{} <{described}>", opt.name),
                    Takes::Perhaps(described) => format!("--{} [{described}]", opt.name),
                };
                (indicator, opt.help)
            })
            .collect();
        rows.sort();
        rows.insert(0, ("Option".into(), "Description"));
        rows.insert(1, ("------".into(), "-----------"));
        let left = rows.iter().map(|row| row.0.chars().count()).max().unwrap_or_default().min(39);
        let right = 78 - left;
        let mut text = String::new();
        for (indicator, help) in &rows {
            let (first, second) = (wrapped(indicator, left), wrapped(help, right));
            for i in 0..first.len().max(second.len()) {
                let cell = |cells: &[String]| cells.get(i).cloned().unwrap_or_default();
                text.push_str(&format!("{:left$}  {:right$}\n", cell(&first), cell(&second)));
            }
        }
        text
    }
}

/// Lines of at most so many characters; all but the first of a paragraph are indented by two.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for piece in pieces(paragraph) {
            // The space behind a word must fit, too.
            if line.chars().count() + piece.chars().count() > width {
                let full = core::mem::replace(&mut line, "  ".into());
                lines.push(full.trim_end().into());
            }
            line.push_str(piece);
        }
        lines.push(line.trim_end().into());
    }
    lines
}

/// Where a line may be broken, as `BreakIterator.getLineInstance` finds it: behind spaces, and behind a hyphen in a word.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut before, mut in_word) = (0, ' ', false);
    for (at, c) in line.char_indices() {
        let behind_hyphen = before == '-' && in_word && !matches!(c, '-' | ' ') && !c.is_ascii_digit();
        if at > start && (before == ' ' && c != ' ' || behind_hyphen) {
            pieces.push(&line[start..at]);
            (start, in_word) = (at, false);
        }
        in_word |= c.is_alphanumeric();
        before = c;
    }
    pieces.push(&line[start..]);
    pieces
}

/// Whether a word is the value of an option that may do without.
fn is_optional_value(word: &str, number: bool) -> bool {
    match number {
        true => word.parse::<i32>().is_ok(),
        false => !word.starts_with('-'),
    }
}

/// A word of single letters is told by its first letter that is unknown, since `-ab` may mean `-a -b`.
fn unrecognized(word: &str, name: &str) -> Exception {
    let told: String = match word.starts_with("--") {
        true => name.into(),
        false => name.chars().take(1).collect(),
    };
    let text = format!("{told} is not a recognized option");
    Exception::new("joptsimple.UnrecognizedOptionException", text)
}

fn no_argument(name: &str) -> Exception {
    let text = format!("Option {name} requires an argument");
    Exception::new("joptsimple.OptionMissingRequiredArgumentException", text)
}

pub(super) fn cannot_parse(text: &str, name: &str) -> Exception {
    let text = format!("Cannot parse argument '{text}' of option {name}");
    Exception::new("joptsimple.OptionArgumentConversionException", text)
}

/// What is wrong with the options that are given, for `CommandLineUtils.printUsageAndExit`.
impl Options {
    /// The first of these that is not given.
    pub fn missing(&self, names: &[&'static str]) -> Result<(), String> {
        match names.iter().find(|name| !self.has(name)) {
            Some(name) => Err(format!("Missing required argument \"[{name}]\"")),
            None => Ok(()),
        }
    }

    /// An option that cannot go with one of these.
    pub fn conflict(&self, name: &str, others: &[&str]) -> Result<(), String> {
        match others.iter().find(|other| self.has(name) && self.has(other)) {
            Some(other) => Err(format!("Option \"[{name}]\" can't be used with option \"[{other}]\"")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Opt] = &[
        value("topic", "String: topic", "The topic."),
        value("partitions", "Integer: # of partitions", "How many."),
        flag("list", "List all of them, which is what this rather long text is about."),
        Opt { name: "codec", takes: Takes::Perhaps("String: codec"), help: "" },
    ];

    fn parse(line: &str) -> Result<Options, Exception> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        Options::parse(TABLE, &words)
    }

    #[test]
    fn options_are_read_as_joptsimple_reads_them() {
        let options = parse("--topic=a --list stray --partitions -1 --codec --topic b").unwrap();
        assert_eq!(options.values("topic").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(options.number::<i32>("partitions").unwrap(), Some(-1));
        assert!(options.has("list") && options.has("codec"));
        assert_eq!(options.value("codec").unwrap(), None);
        assert_eq!(parse("--codec zstd -topic x").unwrap().value("codec").unwrap(), Some("zstd"));
        assert!(!parse("-- --list").unwrap().has("list"));
    }

    #[test]
    fn what_cannot_be_read_is_told_in_its_words() {
        let told = |line: &str| parse(line).unwrap_err().message.unwrap();
        assert_eq!(told("--tpic x"), "tpic is not a recognized option");
        assert_eq!(told("-xyz"), "x is not a recognized option");
        assert_eq!(told("--list --topic"), "Option topic requires an argument");
        let twice = parse("--topic a --topic b").unwrap().value("topic").unwrap_err();
        let text = "Found multiple arguments for option topic, but you asked for only one";
        assert_eq!(twice.message.as_deref(), Some(text));
        let words = parse("--partitions x").unwrap().number::<i32>("partitions").unwrap_err();
        assert_eq!(words.message.as_deref(), Some("Cannot parse argument 'x' of option partitions"));
    }

    #[test]
    fn the_help_has_two_columns() {
        let lines: Vec<String> = Options::usage(TABLE).lines().map(|l| l.trim_end().into()).collect();
        let row = |left: &str, right: &str| format!("{left:39}  {right}");
        let expected = [
            row("Option", "Description"),
            row("------", "-----------"),
            row("--codec [String: codec]", "").trim_end().into(),
            row("--help", "Print usage information."),
            row("--list", "List all of them, which is what this"),
            row("", "  rather long text is about."),
        ];
        assert_eq!(lines[..6], expected);
    }
}
