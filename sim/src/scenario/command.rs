//! The `command` step: a kafka-* command line, split as a POSIX shell splits it.

use super::build::{Names, duration_of};
use super::nearest::suggestion;
use super::tree::{Kind, Problem, Tree};
use super::{Command, Duration, Pattern};

/// The tools that a `command` step may name.
pub fn tools() -> Vec<&'static str> {
    client::command::names().collect()
}

/// Reads a `command` step.
pub(super) fn command(value: &Tree, step: &Tree, names: &mut Names<'_>) -> Result<Command, Problem> {
    let line = value.text().expect("checked").to_owned();
    let words = tool_words(value)?;
    let background = step.field("background").and_then(Tree::text).map(str::to_owned);
    if let Some(name) = &background {
        names.background.insert(name.clone());
    }
    Ok(Command {
        line,
        words,
        prints: patterns(step.field("prints"))?,
        prints_error: patterns(step.field("prints_error"))?,
        lacks: patterns(step.field("lacks"))?,
        exit: step.field("exit").and_then(Tree::integer).unwrap_or(0) as i32,
        stdin: step.field("stdin").map(|t| match &t.kind {
            Kind::Text(text) => text.clone(),
            _ => t.one_or_many().iter().filter_map(Tree::text).map(|l| format!("{l}\n")).collect(),
        }),
        files: step
            .field("files")
            .map_or(&[][..], Tree::entries)
            .iter()
            .map(|e| {
                let content = match &e.value.kind {
                    Kind::Text(text) => text.clone(),
                    _ => e.value.to_json().to_string(),
                };
                (e.key.clone(), content)
            })
            .collect(),
        timeout: step.field("timeout").map_or(Duration(120_000_000_000), duration_of),
        background,
    })
}

/// A command line split into words, the first of them a known tool.
pub(super) fn tool_words(value: &Tree) -> Result<Vec<String>, Problem> {
    let words = words(value.text().expect("checked")).map_err(|why| Problem::new(value.span.clone(), why))?;
    if tools().contains(&words[0].as_str()) {
        return Ok(words);
    }
    let problem = Problem::new(value.span.clone(), format!("there is no tool \"{}\"", words[0]));
    Err(match suggestion(&words[0], &tools()) {
        Some(help) => problem.help(help),
        None => problem,
    })
}

fn patterns(tree: Option<&Tree>) -> Result<Vec<Pattern>, Problem> {
    tree.map_or(&[][..], Tree::one_or_many).iter().map(pattern).collect()
}

fn pattern(tree: &Tree) -> Result<Pattern, Problem> {
    let text = tree.text().expect("checked");
    match text.strip_prefix('/').and_then(|t| t.strip_suffix('/')).filter(|t| !t.is_empty()) {
        None => Ok(Pattern::Text(text.to_owned())),
        // As a class reads output: `.` stays within a line, `^` and `$` stand at its ends.
        Some(source) => match regex::RegexBuilder::new(source).multi_line(true).build() {
            Ok(regex) => Ok(Pattern::Regex(regex)),
            Err(e) => {
                let why = e.to_string();
                let last = why.lines().last().unwrap_or("").trim().trim_start_matches("error: ").to_owned();
                Err(Problem::new(tree.span.clone(), format!("{text} is not a regular expression: {last}")))
            }
        },
    }
}

/// Splits a command line; takes off `docker compose exec [-it] NODE`, a leading path and `.sh`.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = shlex::split(line).ok_or("a quotation that begins in this command line does not end")?;
    if let Some(unsupported) =
        words.iter().find(|w| matches!(w.as_str(), "|" | ">" | ">>" | "<" | "&&" | "||" | ";" | "&"))
    {
        return Err(format!(
            "found \"{unsupported}\": pipes, redirections and lists of commands are not run; use stdin, files, or a step of its own"
        ));
    }
    if words.first().is_some_and(|w| w == "docker-compose") {
        words.splice(0..1, ["docker".to_owned(), "compose".to_owned()]);
    }
    if words.len() > 3 && words[0] == "docker" {
        let exec = words
            .iter()
            .position(|w| w == "exec")
            .ok_or("found docker without exec, expected a kafka-* command")?;
        let mut rest = words.split_off(exec + 1);
        while rest.first().is_some_and(|w| w.starts_with('-')) {
            rest.remove(0);
        }
        if rest.is_empty() {
            return Err("found docker exec without a command".to_owned());
        }
        rest.remove(0);
        words = rest;
    }
    let Some(first) = words.first_mut() else {
        return Err("the command line is empty, expected a kafka-* command".to_owned());
    };
    let name = first.rsplit('/').next().unwrap_or(first);
    *first = name.strip_suffix(".sh").unwrap_or(name).to_owned();
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        for (line, want) in [
            ("kafka-topics --list", vec!["kafka-topics", "--list"]),
            ("/opt/kafka/bin/kafka-topics.sh --list", vec!["kafka-topics", "--list"]),
            ("docker compose exec broker-1 kafka-topics --list", vec!["kafka-topics", "--list"]),
            (
                "docker exec -it broker-1 /opt/bin/kafka-topics.sh --topic 'bad name!'",
                vec!["kafka-topics", "--topic", "bad name!"],
            ),
        ] {
            assert_eq!(words(line).unwrap(), want);
        }
        assert!(words("kafka-topics --list | grep x").unwrap_err().contains("pipes"));
        assert!(words("kafka-topics 'x").is_err());
        assert!(words("").is_err());
    }
}
