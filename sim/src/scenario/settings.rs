//! Kafka's settings in a scenario: unknown names and impossible values are refused where they stand.
//!
//! What only the whole of a configuration can show (acks=1 with idempotence) is refused before the run, too, without
//! a place: by [`crate::runner::build`].

use std::collections::BTreeMap;

use broker_core::config::{NODE_KEYS, TOPIC_KEYS, node_key, topic_key, validate_topic};
use client::config::ClientKind;

use super::build::scalar_of;
use super::nearest::nearest;
use super::tree::{Entry, Problem, Tree};

/// Whose settings stand in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A node's, or every node's.
    Node,
    /// A topic's.
    Topic,
    /// A client's.
    Client(ClientKind),
    /// Of a program that has both a producer and a consumer: each goes to the side that knows it.
    Both,
}

/// Checks every setting and gives them as text.
pub(super) fn settings(tree: Option<&Tree>, whose: Whose) -> Result<BTreeMap<String, String>, Problem> {
    let mut settings = BTreeMap::new();
    for entry in tree.map_or(&[][..], Tree::entries) {
        let value = scalar_of(&entry.value);
        match whose {
            Whose::Node => node(entry, &value)?,
            Whose::Topic => topic(entry, &value)?,
            // Where to begin is the runner's business; it looks at this one itself.
            Whose::Client(_) | Whose::Both if entry.key == "bootstrap.servers" => {}
            Whose::Client(kind) => client_setting(entry, kind, &value)?,
            Whose::Both => both_settings(entry, &value)?,
        }
        settings.insert(entry.key.clone(), value);
    }
    Ok(settings)
}

fn unknown<'a>(entry: &Entry, what: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let problem = Problem::new(entry.key_span.clone(), format!("unknown {what} setting \"{}\"", entry.key));
    match nearest(&entry.key, known) {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None => problem.help(format!("expected the name of one of Kafka's {what} settings")),
    }
}

fn node(entry: &Entry, value: &str) -> Result<(), Problem> {
    let key =
        node_key(&entry.key).ok_or_else(|| unknown(entry, "broker", NODE_KEYS.iter().map(|k| k.name)))?;
    key.parse(value).map(|_| ()).map_err(|e| Problem::new(entry.value.span.clone(), e.to_string()))
}

fn topic(entry: &Entry, value: &str) -> Result<(), Problem> {
    topic_key(&entry.key).ok_or_else(|| unknown(entry, "topic", TOPIC_KEYS.iter().map(|k| k.name)))?;
    validate_topic(&entry.key, value).map_err(|why| Problem::new(entry.value.span.clone(), why))
}

fn both_settings(entry: &Entry, value: &str) -> Result<(), Problem> {
    let knows = |kind| client::config::names(kind).any(|name| name == entry.key);
    if knows(ClientKind::Consumer) {
        client_setting(entry, ClientKind::Consumer, value)?;
    }
    match knows(ClientKind::Producer) || !knows(ClientKind::Consumer) {
        true => client_setting(entry, ClientKind::Producer, value),
        false => Ok(()),
    }
}

fn client_setting(entry: &Entry, kind: ClientKind, value: &str) -> Result<(), Problem> {
    let what = match kind {
        ClientKind::Producer => "producer",
        ClientKind::Consumer => "consumer",
        ClientKind::Admin => "admin client",
    };
    if !client::config::names(kind).any(|name| name == entry.key) {
        return Err(unknown(entry, what, client::config::names(kind)));
    }
    client::config::check(kind, &entry.key, value)
        .map_err(|e| Problem::new(entry.value.span.clone(), e.to_string()))
}
