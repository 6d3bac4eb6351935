//! A JSON text as a tree that remembers where everything stands, and problems that point there.
//!
//! Comments and trailing commas are accepted, nothing else beyond JSON. Duplicate keys are refused. Every problem
//! shows file, line, column, the line with a caret, what was expected, and the nearest known word.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use jsonc_parser::ast;

/// A value and the bytes of the text where it stands.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Byte range in the text.
    pub span: Range<usize>,
    /// The value.
    pub kind: Kind,
}

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Tree>),
    /// An object, in the order of the text.
    Map(Vec<Entry>),
}

/// A key of an object and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Tree,
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Byte range of what is wrong.
    pub span: Range<usize>,
    /// What stands there and what was expected.
    pub text: String,
    /// What to do: the nearest known word, or a remedy.
    pub help: Option<String>,
}

impl Problem {
    /// A problem without a remedy.
    pub fn new(span: Range<usize>, text: impl Into<String>) -> Problem {
        Problem { span, text: text.into(), help: None }
    }

    /// The same with a remedy.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// The problem as a terminal shows it: `file:line:column`, the line, a caret under the offending value.
    pub fn render(&self, file: &str, source: &str, color: bool) -> String {
        let end = self.span.end.min(source.len());
        let start = self.span.start.min(end);
        let snippet = Snippet::source(source)
            .path(file)
            .annotation(AnnotationKind::Primary.span(start..end.max(start)).label(""));
        let mut group = Level::ERROR.primary_title(self.text.as_str()).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Parses a text. Objects keep their order; a key that stands twice in one object is a problem.
pub fn parse(text: &str) -> Result<Tree, Problem> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        ..Default::default()
    };
    let parsed = jsonc_parser::parse_to_ast(text, &Default::default(), &options).map_err(|e| {
        let range = e.range();
        Problem::new(
            range.start..range.end.max(range.start),
            format!("not JSON: {}", lower_first(&e.kind().to_string())),
        )
        .help("a scenario is one JSON object; // comments and trailing commas are accepted")
    })?;
    match parsed.value {
        Some(value) => convert(value),
        None => Err(Problem::new(
            0..0,
            "the file is empty, expected a scenario: { \"title\": …, \"cluster\": …, \"steps\": […] }",
        )),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(c) => c.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn convert(value: ast::Value<'_>) -> Result<Tree, Problem> {
    use jsonc_parser::common::Ranged;
    let range = value.range();
    let span = range.start..range.end;
    let kind = match value {
        ast::Value::NullKeyword(_) => Kind::Null,
        ast::Value::BooleanLit(b) => Kind::Bool(b.value),
        ast::Value::NumberLit(n) => Kind::Number(n.value.to_owned()),
        ast::Value::StringLit(s) => Kind::Text(s.value.into_owned()),
        ast::Value::Array(a) => Kind::List(a.elements.into_iter().map(convert).collect::<Result<_, _>>()?),
        ast::Value::Object(o) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(o.properties.len());
            for property in o.properties {
                let name = property.name.range();
                let key_span = name.start..name.end;
                let key = property.name.into_string();
                if entries.iter().any(|e| e.key == key) {
                    return Err(Problem::new(
                        key_span,
                        format!("the key \"{key}\" stands twice in this object"),
                    )
                    .help("keep one of the two"));
                }
                entries.push(Entry { key, key_span, value: convert(property.value)? });
            }
            Kind::Map(entries)
        }
    };
    Ok(Tree { span, kind })
}

impl Tree {
    /// What stands here, for a message: `the number 12`, `the text "x"`, `a list`.
    pub fn what(&self) -> String {
        match &self.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(b) => format!("{b}"),
            Kind::Number(n) => format!("the number {n}"),
            Kind::Text(t) if t.chars().count() > 40 => {
                format!("the text \"{}…\"", t.chars().take(40).collect::<String>())
            }
            Kind::Text(t) => format!("the text \"{t}\""),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "an object".to_owned(),
        }
    }

    /// The value of a key, if this is an object that has it.
    pub fn field(&self, key: &str) -> Option<&Tree> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The entries, if this is an object.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements, if this is a list; the value itself, if it is not.
    pub fn one_or_many(&self) -> &[Tree] {
        match &self.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The text, if this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn boolean(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The whole number, if this is one.
    pub fn integer(&self) -> Option<i64> {
        match &self.kind {
            Kind::Number(n) => n.parse().ok(),
            _ => None,
        }
    }

    /// The same value for serde_json, positions forgotten.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(b) => Value::Bool(*b),
            Kind::Number(n) => n.parse::<serde_json::Number>().map_or(Value::Null, Value::Number),
            Kind::Text(t) => Value::String(t.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Tree::to_json).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect())
            }
        }
    }

    /// Makes problems point at the beginning of the file: the value does not stand in it.
    pub fn forget_place(&mut self) {
        self.span = 0..0;
        match &mut self.kind {
            Kind::List(items) => items.iter_mut().for_each(Tree::forget_place),
            Kind::Map(entries) => {
                for entry in entries {
                    entry.key_span = 0..0;
                    entry.value.forget_place();
                }
            }
            _ => {}
        }
    }

    /// Takes a key out of an object that stands under a key of this one, if both are there.
    pub fn remove_entry(&mut self, object: &str, key: &str) {
        let Kind::Map(entries) = &mut self.kind else { return };
        let found = entries.iter_mut().find(|e| e.key == object);
        if let Some(Kind::Map(inner)) = found.map(|e| &mut e.value.kind) {
            inner.retain(|e| e.key != key);
        }
    }

    /// Puts `value` where a JSON pointer (RFC 6901) leads. The parent must exist; a new key of an object is added.
    pub fn set(&mut self, pointer: &str, pointer_span: Range<usize>, value: Tree) -> Result<(), Problem> {
        let bad = |text: String| Problem::new(pointer_span.clone(), text);
        let Some(path) = pointer.strip_prefix('/') else {
            return Err(bad(format!(
                "\"{pointer}\" is not a path: expected one such as /topics/0/config/retention.ms"
            )));
        };
        let mut at = self;
        let parts: Vec<String> = path.split('/').map(|p| p.replace("~1", "/").replace("~0", "~")).collect();
        for (i, part) in parts.iter().enumerate() {
            let last = i + 1 == parts.len();
            let what = at.what();
            at = match &mut at.kind {
                Kind::List(items) => {
                    let len = items.len();
                    part.parse::<usize>().ok().and_then(|n| items.get_mut(n)).ok_or_else(|| {
                        bad(format!("\"{pointer}\" leads nowhere: there is no \"{part}\" in a list of {len}"))
                    })?
                }
                Kind::Map(entries) => match entries.iter().position(|e| &e.key == part) {
                    Some(n) => &mut entries[n].value,
                    None if last => {
                        entries.push(Entry { key: part.clone(), key_span: pointer_span, value });
                        return Ok(());
                    }
                    None => return Err(bad(format!("\"{pointer}\" leads nowhere: there is no \"{part}\""))),
                },
                _ => {
                    return Err(bad(format!(
                        "\"{pointer}\" leads nowhere: \"{part}\" would stand inside {what}"
                    )));
                }
            };
        }
        *at = value;
        Ok(())
    }
}
