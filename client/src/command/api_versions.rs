//! `kafka-broker-api-versions` (`BrokerApiVersionsCommand.java`, `NodeApiVersions.toString`): which versions of which
//! API each broker serves, and which of them this version's clients would use.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use wire::ApiKey;

use super::java::{DEFAULT_ROOM, hash_of_node, hash_order};
use super::options::{Help, Options};
use super::session::{Console, Ran, Session, got, result_of};
use crate::admin::{NodeInfo, Versions};

const ABOUT: &str = "This tool helps to retrieve broker version information.";

const OPTIONS: Help = Help(include_str!("help/kafka-broker-api-versions.txt"));

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    let options = Options::parse(OPTIONS, s.arguments())?;
    s.help_or_version(&options, OPTIONS, ABOUT)?;
    s.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    let settings = s.settings(options.value("command-config")?)?;
    s.connect(options.required("bootstrap-server")?, settings)?;
    let asked = s.ask(|admin, now| admin.describe_cluster(now, false))?;
    let nodes = got(result_of!(asked, Cluster))?.nodes;
    let hash = |node: &NodeInfo| {
        let endpoint = &node.endpoint;
        hash_of_node(&endpoint.host, node.id, i32::from(endpoint.port), node.rack.as_deref())
    };
    let nodes = hash_order(DEFAULT_ROOM, nodes, hash);
    let asked: Vec<_> = nodes
        .iter()
        .map(|node| {
            let id = node.id;
            s.begin(move |admin, now| admin.api_versions(now, id))
        })
        .collect();
    for (node, asked) in nodes.iter().zip(asked) {
        let rack = node.rack.as_deref().unwrap_or("null");
        let name = format!("{} (id: {} rack: {rack} isFenced: {})", node.endpoint, node.id, node.fenced);
        match result_of!(s.wait(asked)?, Features) {
            Ok(features) => s.line(format!("{name} -> {}", versions(&features.apis))),
            Err(error) => {
                s.line(format!("{name} -> ERROR: {}", got::<()>(Err(error)).unwrap_err().message_text()))
            }
        }
    }
    Ok(())
}

fn versions(served: &BTreeMap<i16, Versions>) -> String {
    let mut texts: BTreeMap<i16, String> = BTreeMap::new();
    for (&key, &range) in served {
        texts.insert(key, version(key, range));
    }
    for api in (0..i16::from(u8::MAX)).filter_map(ApiKey::from_i16) {
        if api.info().on_broker {
            texts.entry(api as i16).or_insert_with(|| format!("{}({}): UNSUPPORTED", api.name(), api as i16));
        }
    }
    let texts: Vec<String> = texts.into_values().collect();
    format!("(\n\t{}\n)", texts.join(",\n\t"))
}

/// `Produce(0): 0 to 13 [usable: 13]`.
fn version(key: i16, range: Versions) -> String {
    let both = if range.min == range.max {
        format!("{}", range.min)
    } else {
        format!("{} to {}", range.min, range.max)
    };
    let Some(api) = ApiKey::from_i16(key) else { return format!("UNKNOWN({key}): {both}") };
    let usable = match api.info().kafka {
        Some(known) if known.max < range.min => "unusable: node too new".into(),
        Some(known) if range.max < known.min => "unusable: node too old".into(),
        Some(known) => format!("usable: {}", known.max.min(range.max)),
        None => "unusable: node too old".into(),
    };
    format!("{}({key}): {both} [{usable}]", api.name())
}
