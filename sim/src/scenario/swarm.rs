//! `swarm`: places of a scenario file for which each seed draws a value of its own, such as the number of brokers.
//!
//! Each place draws from a stream of its own, so that one place less leaves the others as they were. The sheet as it
//! stands, without any draw, is a scenario as well: it is what is checked, shown and listed.

use std::sync::Arc;

use super::tree::{Kind, Problem, Tree};
use super::{Scenario, build, format};
use crate::world::chance::derive;

/// So many values may a range have.
const RANGE_LIMIT: i64 = 1_000;

/// A place, and what may stand there.
#[derive(Clone, Debug)]
struct Place {
    pointer: String,
    values: Vec<Tree>,
}

/// What each seed draws for itself, and the sheet in which it does.
#[derive(Clone, Debug)]
pub struct Swarm {
    root: Tree,
    name: String,
    text: String,
    variant: Option<String>,
    variants: Vec<String>,
    about: Option<String>,
    places: Vec<Place>,
}

/// Two are the same if they draw for the same places of the same sheet.
impl PartialEq for Swarm {
    fn eq(&self, other: &Swarm) -> bool {
        let of = |swarm: &Swarm| {
            let places = swarm.places.iter().map(|p| (p.pointer.clone(), p.values.len()));
            (swarm.name.clone(), swarm.variant.clone(), places.collect::<Vec<_>>())
        };
        of(self) == of(other) && self.text == other.text
    }
}

/// Reads `swarm`. Every value must make a scenario, alone.
pub(super) fn swarm(
    root: &Tree,
    scenario: &Scenario,
    text: &str,
    variants: &[String],
) -> Result<Option<Arc<Swarm>>, Problem> {
    let Some(tree) = root.field("swarm") else { return Ok(None) };
    let mut places = Vec::new();
    for entry in tree.entries() {
        let values = match &entry.value.kind {
            Kind::List(values) if !values.is_empty() => values.clone(),
            Kind::Text(range) => range_of(range, &entry.value)?,
            _ => {
                return Err(Problem::new(
                    entry.value.span.clone(),
                    format!(
                        "found {}, expected values to draw from such as [1, 3, 5], or a range such as \"3..5\"",
                        entry.value.what()
                    ),
                ));
            }
        };
        for value in &values {
            let mut changed = root.clone();
            changed.set(&entry.key, entry.key_span.clone(), value.clone())?;
            format::SCENARIO.check(&changed)?;
            build::scenario(&changed, &scenario.name, text, scenario.variant.as_deref(), variants)?;
        }
        places.push(Place { pointer: entry.key.clone(), values });
    }
    Ok(Some(Arc::new(Swarm {
        root: root.clone(),
        name: scenario.name.clone(),
        text: text.to_owned(),
        variant: scenario.variant.clone(),
        variants: variants.to_vec(),
        about: scenario.about.clone(),
        places,
    })))
}

/// `3..5` as the numbers 3, 4, 5.
fn range_of(text: &str, tree: &Tree) -> Result<Vec<Tree>, Problem> {
    let numbers = text.split_once("..").and_then(|(low, high)| {
        let (low, high): (i64, i64) = (low.parse().ok()?, high.parse().ok()?);
        (low <= high && high - low < RANGE_LIMIT).then_some(low..=high)
    });
    let numbers = numbers.ok_or_else(|| {
        Problem::new(
            tree.span.clone(),
            format!("\"{text}\" is not a range of whole numbers, expected one such as \"3..5\""),
        )
        .help("values of other kinds are given as a list")
    })?;
    Ok(numbers.map(|n| Tree { span: tree.span.clone(), kind: Kind::Number(n.to_string()) }).collect())
}

impl Scenario {
    /// The scenario that a seed runs: itself, unless it has a `swarm`.
    pub fn drawn(&self, seed: u64) -> Result<Scenario, Problem> {
        let Some(swarm) = &self.swarm else { return Ok(self.clone()) };
        let mut root = swarm.root.clone();
        let mut drawn = Vec::new();
        for place in &swarm.places {
            let mut chance = derive(seed, &format!("swarm{}", place.pointer));
            let value = &place.values[chance.below(place.values.len() as u64) as usize];
            drawn.push((place.pointer.clone(), value.to_json().to_string()));
            root.set(&place.pointer, value.span.clone(), value.clone())?;
        }
        format::SCENARIO.check(&root)?;
        let made =
            build::scenario(&root, &swarm.name, &swarm.text, swarm.variant.as_deref(), &swarm.variants)?;
        Ok(Scenario { about: swarm.about.clone().or(made.about), drawn, ..made })
    }
}
