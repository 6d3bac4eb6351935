//! Command lines as joptsimple reads them, which is what most of Kafka's tools use.
//!
//! `--name value`, `--name=value`, `-name value`; an option may be repeated if the tool asks for all of its values;
//! names are not abbreviated (Kafka turns that off); arguments that are no options are passed over; `--` ends them.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::session::Exception;

/// A tool's options as the text that Kafka 4.3.1 prints of them: two columns, as joptsimple lays them out. What may be
/// given is read off that text, so it cannot differ from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Help(pub &'static str);

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Nothing.
    Nothing,
    /// A value.
    Value,
    /// A value, or nothing. A value that begins with a hyphen is one if it is a number and a number is asked for.
    Perhaps { number: bool },
}

/// An option that a tool knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opt {
    name: &'static str,
    takes: Takes,
    /// Marked with an asterisk: there is nothing to do without.
    required: bool,
}

impl Help {
    fn options(self) -> impl Iterator<Item = Opt> {
        let mut lines = self.0.lines();
        let header = lines.next().unwrap_or_default();
        let left = header.find("Description").unwrap_or(header.len());
        let mut cells = lines.skip(1).map(move |line| line.get(..left).unwrap_or(line).trim_end()).peekable();
        core::iter::from_fn(move || {
            let mut indicator = cells.find(|cell| cell.starts_with("--") || cell.starts_with("* --"))?;
            let required = indicator.starts_with('*');
            indicator = indicator.trim_start_matches("* ").trim_start_matches("--");
            let (name, described) = indicator.split_once(' ').unwrap_or((indicator, ""));
            // A long indicator goes on below, and may begin there.
            let below = cells.peek().map_or("", |cell| cell.strip_prefix("  ").unwrap_or_default());
            let described = if described.is_empty() { below.trim_start() } else { described };
            let takes = match described.chars().next() {
                Some('<') => Takes::Value,
                Some('[') => Takes::Perhaps {
                    number: ["[Integer", "[Long"].iter().any(|class| described.starts_with(class)),
                },
                _ => Takes::Nothing,
            };
            Some(Opt { name, takes, required })
        })
    }
}

/// What a command line says.
#[derive(Clone, Debug)]
pub(super) struct Options {
    given: Vec<(&'static str, Option<String>)>,
    empty: bool,
}

impl Options {
    /// Reads the words behind the tool's name.
    pub fn parse(help: Help, words: &[String]) -> Result<Options, Exception> {
        let table: Vec<Opt> = help.options().collect();
        let mut options = Options { given: Vec::new(), empty: words.is_empty() };
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
            let opt = *table.iter().find(|opt| opt.name == name).ok_or_else(|| unrecognized(word, name))?;
            let given = match (opt.takes, attached) {
                (Takes::Nothing, _) => None,
                (Takes::Value | Takes::Perhaps { .. }, Some(attached)) => Some(attached),
                (Takes::Value, None) => {
                    let next = words.next().cloned();
                    Some(next.ok_or_else(|| no_argument(opt.name))?)
                }
                (Takes::Perhaps { number }, None) => {
                    words.next_if(|next| is_optional_value(next, number)).cloned()
                }
            };
            options.given.push((opt.name, given));
        }
        options.check_required(&table)?;
        Ok(options)
    }

    /// Who asks for help need not give what is required otherwise.
    fn check_required(&self, table: &[Opt]) -> Result<(), Exception> {
        let missing = table.iter().filter(|opt| opt.required && !self.has(opt.name));
        let names: Vec<&str> = missing.map(|opt| opt.name).collect();
        if names.is_empty() || self.has("help") {
            return Ok(());
        }
        let text = format!("Missing required option(s) [{}]", names.join(", "));
        Err(Exception::new("joptsimple.MissingRequiredOptionsException", text))
    }

    /// Whether there was not a single word.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether an option is given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// What is given, in that order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.given.iter().map(|(name, _)| *name)
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
            Err(_) => {
                let cause = Exception::new(
                    "java.lang.NumberFormatException",
                    format!("For input string: \"{text}\""),
                );
                let cause = Exception::wrapping("joptsimple.internal.ReflectionException", cause);
                Err(Exception { cause: Some(Box::new(cause)), ..cannot_parse(text, name) })
            }
        }
    }
}

/// Whether a word is the value of an option that may do without.
fn is_optional_value(word: &str, number: bool) -> bool {
    match number {
        true => word.parse::<i64>().is_ok(),
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

    const HELP: Help = Help(
        "\
Option                             Description
------                             -----------
--codec [String: codec]            Perhaps with a value.
--help                             Print usage information.
--list                             List all of them, which is what this rather
                                     long text is about.
--partitions <Integer: # of        How many.
  partitions>
--size [Integer: bytes]            Perhaps with a number.
--timestamp/after/max/ms/long      Where the value is told below.
  <Long: timestamp>
--topic <String: topic>            The topic.
",
    );

    fn parse(line: &str) -> Result<Options, Exception> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        Options::parse(HELP, &words)
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
    fn what_is_read_off_a_help_is_what_it_says() {
        const REQUIRED: Help = Help(
            "\
Option (* = required)           Description
---------------------           -----------
* --bootstrap-server <String:   REQUIRED: The server.
  server>
--timestamp-that-is-very-long   The value is told below.
  <Long: --timestamp>
--list                          A list.
",
        );
        let opt = |name, takes, required| Opt { name, takes, required };
        let expected = [
            opt("bootstrap-server", Takes::Value, true),
            opt("timestamp-that-is-very-long", Takes::Value, false),
            opt("list", Takes::Nothing, false),
        ];
        assert_eq!(REQUIRED.options().collect::<Vec<_>>(), expected);
        let missing = Options::parse(REQUIRED, &["--list".into()]).unwrap_err();
        assert_eq!(missing.message.as_deref(), Some("Missing required option(s) [bootstrap-server]"));
        assert!(
            Options::parse(HELP, &["--size".into(), "-1".into()]).unwrap().value("size").unwrap()
                == Some("-1")
        );
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
}
