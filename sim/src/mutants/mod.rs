//! Mutants: the bugs of nodes and clients that a scenario or a command line can switch on, by name.
//!
//! A scenario names them in `cluster.mutants`, `--mutant` adds one from outside. They concern every node and every
//! client of the run, but not the final reader, whose word the checkers take.

#[cfg(feature = "mutants")]
pub mod catalogue;
#[cfg(feature = "mutants")]
pub mod hunt;

use std::fmt;

use broker_core::mutant as node;
use client::mutant as client_side;

use crate::scenario::nearest::nearest;

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Of a node.
    Node(node::Mutant),
    /// Of a client.
    Client(client_side::Mutant),
}

impl Mutant {
    /// All of them: those of nodes, then those of clients.
    pub fn all() -> impl Iterator<Item = Mutant> {
        let nodes = node::Mutant::ALL.iter().copied().map(Mutant::Node);
        nodes.chain(client_side::Mutant::ALL.iter().copied().map(Mutant::Client))
    }

    /// As a scenario names it.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::Node(mutant) => mutant.name(),
            Mutant::Client(mutant) => mutant.name(),
        }
    }

    /// What it does wrong.
    pub fn story(self) -> &'static str {
        match self {
            Mutant::Node(mutant) => mutant.story(),
            Mutant::Client(mutant) => mutant.story(),
        }
    }

    /// The KIP or issue that tells of it, and the versions of Kafka that had it.
    pub fn origin(self) -> &'static str {
        match self {
            Mutant::Node(mutant) => mutant.origin(),
            Mutant::Client(mutant) => mutant.origin(),
        }
    }

    /// The mutant of that name, or why it cannot be had.
    pub fn find(name: &str) -> Result<Mutant, Refused> {
        if cfg!(not(feature = "mutants")) {
            return Err(Refused {
                text: format!("the mutant \"{name}\" is not in this build"),
                help: "build with the feature `mutants` of highwater-sim, which is on by default".to_owned(),
            });
        }
        Mutant::all().find(|m| m.name() == name).ok_or_else(|| Refused {
            text: format!("there is no mutant \"{name}\""),
            help: match nearest(name, Mutant::all().map(Mutant::name)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "mutants.md lists them".to_owned(),
            },
        })
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a mutant cannot be had, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub help: String,
}

/// The switches of nodes for these mutants.
#[cfg(feature = "mutants")]
pub fn of_nodes(mutants: &[Mutant]) -> node::Mutants {
    mutants.iter().fold(node::Mutants::NONE, |set, mutant| match mutant {
        Mutant::Node(mutant) => set.with(*mutant),
        Mutant::Client(_) => set,
    })
}

/// The switches of clients for these mutants.
#[cfg(feature = "mutants")]
pub fn of_clients(mutants: &[Mutant]) -> client_side::Mutants {
    mutants.iter().fold(client_side::Mutants::NONE, |set, mutant| match mutant {
        Mutant::Node(_) => set,
        Mutant::Client(mutant) => set.with(*mutant),
    })
}

/// The switches of nodes: there are none in this build, and none can be named.
#[cfg(not(feature = "mutants"))]
pub fn of_nodes(_: &[Mutant]) -> node::Mutants {
    node::Mutants::NONE
}

/// The switches of clients: there are none in this build, and none can be named.
#[cfg(not(feature = "mutants"))]
pub fn of_clients(_: &[Mutant]) -> client_side::Mutants {
    client_side::Mutants::NONE
}

/// The override that adds mutants to those that a scenario names itself.
pub fn addition(named: &[Mutant], more: &[String]) -> Option<String> {
    if more.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = named.iter().map(|m| m.name()).collect();
    names.extend(more.iter().map(String::as_str).filter(|name| named.iter().all(|m| m.name() != *name)));
    Some(format!("/cluster/mutants={}", serde_json::json!(names)))
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_found_and_near_misses_helped() {
        for mutant in Mutant::all() {
            assert_eq!(Mutant::find(mutant.name()), Ok(mutant));
            assert!(mutant.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(mutant.story().ends_with('.') && !mutant.origin().is_empty(), "{mutant}");
        }
        let refused = Mutant::find("truncate-to-high-watermarks").unwrap_err();
        assert_eq!(refused.text, "there is no mutant \"truncate-to-high-watermarks\"");
        assert_eq!(refused.help, "did you mean \"truncate-to-high-watermark\"?");
        let distinct: BTreeSet<&str> = Mutant::all().map(Mutant::name).collect();
        assert_eq!(distinct.len(), Mutant::all().count());
    }

    #[test]
    fn switches_are_those_that_were_named() {
        let named = [Mutant::Node(node::Mutant::TruncateToHighWatermark)];
        let set = of_nodes(&named);
        for mutant in node::Mutant::ALL {
            assert_eq!(set.has(*mutant), *mutant == node::Mutant::TruncateToHighWatermark);
        }
        let more = ["truncate-to-high-watermark".to_owned(), "ack-before-replication".to_owned()];
        assert_eq!(
            addition(&named, &more).unwrap(),
            r#"/cluster/mutants=["truncate-to-high-watermark","ack-before-replication"]"#
        );
        assert_eq!(addition(&named, &[]), None);
    }
}
