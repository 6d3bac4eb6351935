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
    /// The usage and the reason, for standard error.
    Error(String),
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
        let error = |parser: &Parser, text: String| {
            Unread::Error(format!("usage: {}\n{program}: error: {text}\n", parser.usage))
        };
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
        arguments.check(tool).map_err(|text| error(tool, text))?;
        if arguments.command.is_empty() {
            return Err(error(tool, "too few arguments".into()));
        }
        arguments.check(parser).map_err(|text| error(parser, text))?;
        Ok(arguments)
    }

    fn check(&self, parser: &Parser) -> Result<(), String> {
        let given: Vec<&&str> = parser.one_of.iter().filter(|name| self.has(name)).collect();
        match given[..] {
            [] if !parser.one_of.is_empty() => {
                Err(format!("one of the arguments {} is required", parser.one_of.join(" ")))
            }
            [first, second, ..] => Err(format!("argument {second}: not allowed with argument {first}")),
            _ => Ok(()),
        }
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
            let names: Vec<&str> = similar.iter().map(|arg| arg.name).collect();
            Err(format!("ambiguous option: {name} could match {}", names.join(", ")))
        }
    }
}
