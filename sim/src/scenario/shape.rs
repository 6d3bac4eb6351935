//! The shape of a scenario file as tables: what may stand where.
//!
//! One description serves three purposes: a file is checked against it (unknown keys, wrong types, bad units, each
//! with the place and the nearest known word), the JSON Schema for editors is printed from it, and what passes can be
//! read into types without a further error.

use serde_json::{Map, Value, json};

use super::nearest::suggestion;
use super::tree::{Kind, Problem, Tree};
use super::units;

/// What may stand in a place.
#[derive(Clone, Copy)]
pub enum Shape {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number between the two.
    Int(i64, i64),
    /// Any number.
    Number,
    /// `"10s"`
    Duration,
    /// `"10s"` or `"1s..5s"`
    DurationRange,
    /// `"100/s"`
    Rate,
    /// `100` or `"64KiB"`
    Size,
    /// `"100KiB/s"`
    Bandwidth,
    /// A number from 0 to 1.
    Share,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Text, number or boolean: the value of a Kafka setting.
    Scalar,
    /// Anything.
    Json,
    /// A list of these.
    List(&'static Shape),
    /// Exactly two of these.
    Pair(&'static Shape),
    /// An object whose keys are free.
    Map(&'static Shape),
    /// An object with known keys.
    Object(&'static Object),
    /// The first whose JSON type fits; what was expected, in words.
    Either(&'static [Shape], &'static str),
}

/// An object with known keys.
pub struct Object {
    /// Its name in the schema and in messages: "a step".
    pub name: &'static str,
    /// What it is, for the schema.
    pub doc: &'static str,
    /// Its keys.
    pub fields: &'static [Field],
}

/// A key of an object.
#[derive(Clone, Copy)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What it means, for the schema.
    pub doc: &'static str,
}

/// A key that may be left out.
pub const fn opt(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, required: false, doc }
}

/// A key that must be there.
pub const fn req(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, required: true, doc }
}

impl Shape {
    /// What is expected, in words.
    fn expected(&self) -> String {
        match self {
            Shape::Text => "a text".to_owned(),
            Shape::Bool => "true or false".to_owned(),
            Shape::Int(low, high) if *high == i64::MAX => format!("a whole number from {low}"),
            Shape::Int(low, high) => format!("a whole number from {low} to {high}"),
            Shape::Number => "a number".to_owned(),
            Shape::Duration => "a duration such as \"250us\", \"10ms\", \"5s\", \"2m\" or \"1h\"".to_owned(),
            Shape::DurationRange => {
                "a duration such as \"10ms\" or \"5s\", or a range such as \"1s..5s\"".to_owned()
            }
            Shape::Rate => "a rate such as \"100/s\"".to_owned(),
            Shape::Size => "a size such as 100 or \"64KiB\"".to_owned(),
            Shape::Bandwidth => "a bandwidth such as \"100KiB/s\"".to_owned(),
            Shape::Share => "a share from 0 to 1 such as 0.01".to_owned(),
            Shape::Words(words) => format!("one of \"{}\"", words.join("\", \"")),
            Shape::Scalar => "a text, a number, true or false".to_owned(),
            Shape::Json => "anything".to_owned(),
            Shape::List(inner) => format!("a list, each of its elements {}", inner.expected()),
            Shape::Pair(inner) => format!("a list of two, each {}", inner.expected()),
            Shape::Map(_) => "an object".to_owned(),
            Shape::Object(object) => format!("{} (an object)", object.name),
            Shape::Either(_, words) => (*words).to_owned(),
        }
    }

    /// Whether a value has the JSON type of this shape: what decides between alternatives.
    fn fits(&self, tree: &Tree) -> bool {
        match (self, &tree.kind) {
            (Shape::Json, _) => true,
            (Shape::Bool, Kind::Bool(_)) => true,
            (Shape::Int(..) | Shape::Number | Shape::Size | Shape::Share, Kind::Number(_)) => true,
            (Shape::Words(words), Kind::Text(t)) => words.contains(&t.as_str()),
            (
                Shape::Text
                | Shape::Duration
                | Shape::DurationRange
                | Shape::Rate
                | Shape::Size
                | Shape::Bandwidth,
                Kind::Text(_),
            ) => true,
            (Shape::Scalar, Kind::Text(_) | Kind::Number(_) | Kind::Bool(_)) => true,
            (Shape::List(_) | Shape::Pair(_), Kind::List(_)) => true,
            (Shape::Map(_), Kind::Map(_)) => true,
            // Between two objects the keys decide.
            (Shape::Object(object), Kind::Map(entries)) => {
                entries.iter().all(|e| object.fields.iter().any(|f| f.name == e.key))
            }
            (Shape::Either(shapes, _), _) => shapes.iter().any(|s| s.fits(tree)),
            _ => false,
        }
    }

    /// Checks a value; the first problem is told.
    pub fn check(&self, tree: &Tree) -> Result<(), Problem> {
        let wrong = || {
            Err(Problem::new(
                tree.span.clone(),
                format!("found {}, expected {}", tree.what(), self.expected()),
            ))
        };
        let text = |ok: bool| if ok { Ok(()) } else { wrong() };
        match (self, &tree.kind) {
            (Shape::Json, _) => Ok(()),
            (Shape::Text, Kind::Text(_)) | (Shape::Bool, Kind::Bool(_)) => Ok(()),
            (Shape::Scalar, Kind::Text(_) | Kind::Number(_) | Kind::Bool(_)) => Ok(()),
            (Shape::Int(low, high), Kind::Number(n)) => {
                text(n.parse().is_ok_and(|n: i64| (*low..=*high).contains(&n)))
            }
            (Shape::Number, Kind::Number(n)) => text(n.parse().is_ok_and(|n: f64| n.is_finite())),
            (Shape::Share, Kind::Number(n)) => text(n.parse().is_ok_and(|n: f64| (0.0..=1.0).contains(&n))),
            (Shape::Size, Kind::Number(n)) => text(n.parse::<u32>().is_ok()),
            (Shape::Size, Kind::Text(t)) => text(units::size(t).is_some()),
            (Shape::Duration, Kind::Text(t)) => text(units::duration(t).is_some()),
            (Shape::DurationRange, Kind::Text(t)) => text(units::duration_range(t).is_some()),
            (Shape::Rate, Kind::Text(t)) => text(units::rate(t).is_some()),
            (Shape::Bandwidth, Kind::Text(t)) => text(units::bandwidth(t).is_some()),
            (Shape::Words(words), Kind::Text(t)) if words.contains(&t.as_str()) => Ok(()),
            (Shape::Words(words), Kind::Text(t)) => {
                wrong().map_err(|p: Problem| match suggestion(t, words) {
                    Some(help) => p.help(help),
                    None => p,
                })
            }
            (Shape::List(inner), Kind::List(items)) => items.iter().try_for_each(|i| inner.check(i)),
            (Shape::Pair(inner), Kind::List(items)) if items.len() == 2 => {
                items.iter().try_for_each(|i| inner.check(i))
            }
            (Shape::Map(inner), Kind::Map(entries)) => entries.iter().try_for_each(|e| inner.check(&e.value)),
            (Shape::Object(object), Kind::Map(_)) => object.check(tree),
            (Shape::Either(shapes, _), _) => match shapes.iter().find(|s| s.fits(tree)) {
                Some(shape) => shape.check(tree),
                // No alternative has all of these keys: if only one is an object at all, its own message says more.
                None => match (
                    &tree.kind,
                    shapes.iter().filter(|s| matches!(s, Shape::Object(_))).collect::<Vec<_>>().as_slice(),
                ) {
                    (Kind::Map(_), [one]) => one.check(tree),
                    _ => wrong(),
                },
            },
            _ => wrong(),
        }
    }

    /// The JSON Schema (draft-07) of this shape. Objects go to `definitions`.
    pub fn schema(&self, definitions: &mut Map<String, Value>) -> Value {
        match self {
            Shape::Text => json!({ "type": "string" }),
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Int(low, high) if *high == i64::MAX => json!({ "type": "integer", "minimum": low }),
            Shape::Int(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
            Shape::Number => json!({ "type": "number" }),
            Shape::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Shape::Duration => json!({ "type": "string", "pattern": DURATION }),
            Shape::DurationRange => json!({ "type": "string", "pattern": DURATION_RANGE }),
            Shape::Rate => json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?/[smh]$" }),
            Shape::Size => {
                json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": SIZE }] })
            }
            Shape::Bandwidth => json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(B|[KMG]i?B)/s$" }),
            Shape::Words(words) => json!({ "enum": words }),
            Shape::Scalar => json!({ "type": ["string", "number", "boolean"] }),
            Shape::Json => json!(true),
            Shape::List(inner) => json!({ "type": "array", "items": inner.schema(definitions) }),
            Shape::Pair(inner) => {
                json!({ "type": "array", "items": inner.schema(definitions), "minItems": 2, "maxItems": 2 })
            }
            Shape::Map(inner) => {
                json!({ "type": "object", "additionalProperties": inner.schema(definitions) })
            }
            Shape::Object(object) => object.schema(definitions),
            Shape::Either(shapes, words) => {
                let any: Vec<Value> = shapes.iter().map(|s| s.schema(definitions)).collect();
                json!({ "anyOf": any, "description": words })
            }
        }
    }
}

const DURATION: &str = "^[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h)$";
const DURATION_RANGE: &str =
    "^[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h)(\\.\\.[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))?$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)?(B|[KMG]i?B)?$";

impl Object {
    fn check(&self, tree: &Tree) -> Result<(), Problem> {
        for entry in tree.entries() {
            match self.fields.iter().find(|f| f.name == entry.key) {
                Some(field) => field.shape.check(&entry.value)?,
                None => {
                    let known: Vec<&str> = self.fields.iter().map(|f| f.name).collect();
                    let kind = if self.name == "a step" { "verb or key" } else { "key" };
                    let problem = Problem::new(
                        entry.key_span.clone(),
                        format!("unknown {kind} \"{}\" in {}", entry.key, self.name),
                    );
                    return Err(match suggestion(&entry.key, &known) {
                        Some(help) => problem.help(help),
                        None => problem,
                    });
                }
            }
        }
        match self.fields.iter().find(|f| f.required && tree.field(f.name).is_none()) {
            Some(missing) => Err(Problem::new(
                tree.span.start..tree.span.start + 1,
                format!("{} needs the key \"{}\"", self.name, missing.name),
            )
            .help(format!("{}: {}", missing.name, missing.doc))),
            None => Ok(()),
        }
    }

    fn schema(&self, definitions: &mut Map<String, Value>) -> Value {
        if !definitions.contains_key(self.name) {
            // Holds the place while the fields are walked: shapes may contain themselves.
            definitions.insert(self.name.to_owned(), Value::Null);
            let mut properties = Map::new();
            for field in self.fields {
                let mut schema = field.shape.schema(definitions);
                if let Value::Object(map) = &mut schema
                    && !map.contains_key("$ref")
                {
                    map.insert("description".to_owned(), json!(field.doc));
                }
                properties.insert(field.name.to_owned(), schema);
            }
            let required: Vec<&str> = self.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
            let mut schema = json!({ "type": "object", "description": self.doc, "properties": properties, "additionalProperties": false });
            if !required.is_empty() {
                schema["required"] = json!(required);
            }
            definitions.insert(self.name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/definitions/{}", self.name.replace(' ', "%20")) })
    }
}
