//! The schema tables, parsed. The notation is explained at the head of each table.

use std::collections::BTreeSet;

/// Versions from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub from: i16,
    pub to: i16,
}

/// Stands for "and later".
pub const OPEN: i16 = i16::MAX;

impl Versions {
    pub const ALL: Versions = Versions { from: 0, to: OPEN };

    /// `3`, `3+` or `3-7`.
    fn parse(text: &str) -> Versions {
        let number = |t: &str| t.parse::<i16>().unwrap_or_else(|_| panic!("not a version: {text}"));
        if let Some(from) = text.strip_suffix('+') {
            Versions { from: number(from), to: OPEN }
        } else if let Some((from, to)) = text.split_once('-') {
            Versions { from: number(from), to: number(to) }
        } else {
            Versions { from: number(text), to: number(text) }
        }
    }

    pub fn intersect(self, other: Versions) -> Option<Versions> {
        let both = Versions { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from <= both.to).then_some(both)
    }

    pub fn covers(self, other: Versions) -> bool {
        self.from <= other.from && self.to >= other.to
    }

    /// How a reader says it.
    pub fn text(self) -> String {
        match self {
            Versions { from, to: OPEN } => format!("{from}+"),
            Versions { from, to } if from == to => format!("{from}"),
            Versions { from, to } => format!("{from}-{to}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ty {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Ty>),
}

impl Ty {
    fn parse(text: &str) -> Ty {
        match text {
            "bool" => Ty::Bool,
            "int8" => Ty::Int8,
            "int16" => Ty::Int16,
            "uint16" => Ty::Uint16,
            "int32" => Ty::Int32,
            "uint32" => Ty::Uint32,
            "int64" => Ty::Int64,
            "float64" => Ty::Float64,
            "uuid" => Ty::Uuid,
            "string" => Ty::String,
            "bytes" => Ty::Bytes,
            "records" => Ty::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Ty::Array(Box::new(Ty::parse(element))),
                None => {
                    assert!(text.starts_with(|c: char| c.is_ascii_uppercase()), "unknown type {text}");
                    Ty::Struct(text.to_owned())
                }
            },
        }
    }

    /// The structure that it is made of, if it is made of one.
    pub fn structure(&self) -> Option<&str> {
        match self {
            Ty::Struct(name) => Some(name),
            Ty::Array(element) => element.structure(),
            _ => None,
        }
    }

    pub fn text(&self) -> String {
        match self {
            Ty::Struct(name) => name.clone(),
            Ty::Array(element) => format!("[]{}", element.text()),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Ty,
    /// Within those of the structure.
    pub versions: Versions,
    /// Within `versions`.
    pub nullable: Option<Versions>,
    pub tag: Option<u32>,
    /// As the table has it; `null` is a value of its own.
    pub default: Option<String>,
    pub ignorable: bool,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    /// The versions of the message in which it occurs.
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub name: String,
    pub key: Option<i16>,
    pub versions: Versions,
    /// `OPEN` if no version is flexible.
    pub flexible_from: i16,
    /// The first is the message itself; each structure comes after one that uses it.
    pub structs: Vec<Struct>,
}

/// Parses a table of messages.
pub fn parse(table: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    // The structures that are open at the current line, with the indentation of their fields.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut last_struct: Option<String> = None;
    for line in table.lines() {
        if line.trim().is_empty() || (line.starts_with('#') && !line.starts_with("### ")) {
            continue;
        }
        if let Some(head) = line.strip_prefix("### ") {
            messages.push(parse_head(head));
            open = vec![(2, 0)];
            last_struct = None;
            continue;
        }
        let message = messages.last_mut().expect("a field before the first message");
        let indent = line.len() - line.trim_start().len();
        while open.last().is_some_and(|(of, _)| *of > indent) {
            open.pop();
        }
        if open.last().expect("indentation").0 < indent {
            let name = last_struct.take().unwrap_or_else(|| panic!("nothing to indent under: {line}"));
            assert!(message.structs.iter().all(|s| s.name != name), "{name} is described twice");
            message.structs.push(Struct { name, versions: Versions::ALL, fields: Vec::new() });
            open.push((indent, message.structs.len() - 1));
        }
        let field = parse_field(line.trim());
        last_struct = field.ty.structure().map(str::to_owned);
        let within = open.last().expect("indentation").1;
        message.structs[within].fields.push(field);
    }
    for message in &mut messages {
        settle_versions(message);
    }
    messages
}

/// `NAME (key K) versions FROM-TO, flexible FROM+`
fn parse_head(head: &str) -> Message {
    let (name, rest) = head.split_once(' ').expect("a name");
    let key =
        rest.split_once("(key ").map(|(_, k)| k.split_once(')').expect("`)`").0.parse().expect("a key"));
    let versions = rest.split_once("versions ").expect("versions").1;
    let (versions, flexible) = versions.split_once(", flexible ").expect("flexible");
    let flexible = flexible.split(' ').next().expect("flexible");
    let flexible_from = if flexible == "none" { OPEN } else { Versions::parse(flexible).from };
    let versions = Versions::parse(versions);
    let own = Struct { name: name.to_owned(), versions, fields: Vec::new() };
    Message { name: name.to_owned(), key, versions, flexible_from, structs: vec![own] }
}

/// `Name: type  [v3+, null v3+, tag 0 (v3+), def -1, ign, key]`
fn parse_field(line: &str) -> Field {
    let (name, rest) = line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line}"));
    let (ty, flags) = match rest.split_once("  [") {
        Some((ty, flags)) => (ty, flags.strip_suffix(']').expect("`]`")),
        None => (rest, ""),
    };
    let mut field = Field {
        name: name.to_owned(),
        ty: Ty::parse(ty.trim()),
        versions: Versions::ALL,
        nullable: None,
        tag: None,
        default: None,
        ignorable: false,
    };
    let mut own_versions = None;
    for flag in flags.split(", ").filter(|f| !f.is_empty()) {
        if let Some(versions) = flag.strip_prefix("null v") {
            field.nullable = Some(Versions::parse(versions));
        } else if let Some(tag) = flag.strip_prefix("tag ") {
            let (number, versions) = tag.split_once(" (v").expect("the versions of a tag");
            field.tag = Some(number.parse().expect("a tag"));
            field.versions = Versions::parse(versions.strip_suffix(')').expect("`)`"));
        } else if flag == "def" || flag.starts_with("def ") {
            field.default = Some(flag[3..].trim().to_owned());
        } else if flag == "ign" {
            field.ignorable = true;
        } else if let Some(versions) = flag.strip_prefix('v') {
            own_versions = Some(Versions::parse(versions));
        } else {
            assert!(flag == "key", "unknown flag {flag:?} in {line}");
        }
    }
    if let Some(versions) = own_versions {
        assert!(field.tag.is_none() || field.versions == versions, "versions and tag differ: {line}");
        field.versions = versions;
    }
    field
}

/// Narrows the versions of structures to those in which they occur, and those of their fields to theirs.
fn settle_versions(message: &mut Message) {
    let mut seen = BTreeSet::from([message.name.clone()]);
    for i in 0..message.structs.len() {
        let own = message.structs[i].versions;
        assert!(own.to < OPEN, "{} of {} is never used", message.structs[i].name, message.name);
        let fields = std::mem::take(&mut message.structs[i].fields);
        for mut field in fields {
            let Some(versions) = field.versions.intersect(own) else { continue };
            field.versions = versions;
            field.nullable = field.nullable.and_then(|n| n.intersect(versions));
            if let Some(name) = field.ty.structure() {
                let used = message.structs.iter_mut().find(|s| s.name == name);
                let used = used.unwrap_or_else(|| panic!("{name} of {} is not described", message.name));
                used.versions = if seen.insert(name.to_owned()) {
                    versions
                } else {
                    Versions {
                        from: used.versions.from.min(versions.from),
                        to: used.versions.to.max(versions.to),
                    }
                };
            }
            message.structs[i].fields.push(field);
        }
    }
}

/// A line of the table of APIs.
#[derive(Clone, Debug)]
pub struct Api {
    pub key: i16,
    pub name: String,
    pub broker: bool,
    pub controller: bool,
    pub forward: bool,
    /// What Kafka 4.3 knows.
    pub versions: Option<Versions>,
    pub unstable: bool,
}

/// Parses the table of APIs.
pub fn parse_apis(table: &str) -> Vec<Api> {
    let mut apis = Vec::new();
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, name, listeners, versions] = words[..] else { panic!("not an API: {line}") };
        let unstable = versions.ends_with('*');
        let versions = versions.trim_end_matches('*');
        apis.push(Api {
            key: key.parse().expect("a key"),
            name: name.to_owned(),
            broker: listeners.contains('B'),
            controller: listeners.contains('C'),
            forward: listeners.ends_with(",forward"),
            versions: (versions != "-").then(|| Versions::parse(versions)),
            unstable,
        });
    }
    apis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_understood() {
        let table = "\
# A comment.
### FooRequest (key 7) versions 2-5, flexible 4+ (latest unstable)
  Name: string  [null v3+, def , ign]
  Parts: []Part  [v3+]
    Id: int32  [v0-4, def -1]
    Late: uuid  [v9+]
  Again: Part  [tag 1 (v4+)]
";
        let [message] = &parse(table)[..] else { panic!("one message") };
        assert_eq!((message.key, message.versions.text(), message.flexible_from), (Some(7), "2-5".into(), 4));
        let [own, part] = &message.structs[..] else { panic!("two structures") };
        assert_eq!(own.fields[0].default.as_deref(), Some(""));
        assert_eq!(own.fields[0].nullable.unwrap().text(), "3-5");
        assert_eq!((own.fields[2].tag, own.fields[2].versions.text()), (Some(1), "4-5".into()));
        assert_eq!(part.versions.text(), "3-5");
        // A field of versions in which the structure never occurs is left out.
        assert_eq!(part.fields.len(), 1);
        assert_eq!(part.fields[0].versions.text(), "3-4");
    }
}
