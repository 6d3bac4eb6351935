//! Listeners, voters and servers: the settings that name endpoints.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use wire::drive::Endpoint;

use super::ConfigError;

/// A listener: `CONTROLLER://controller-101:9093`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Its name.
    pub name: String,
    /// Where it listens, or what is told of it.
    pub endpoint: Endpoint,
    /// Whether its name is one of `controller.listener.names`.
    pub controller: bool,
}

/// An entry of `controller.quorum.voters`: `101@controller-101:9093`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// The node's id.
    pub id: i32,
    /// Its controller listener.
    pub endpoint: Endpoint,
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.endpoint)
    }
}

/// Parses `listeners` or `advertised.listeners`.
pub(super) fn parse(
    text: &str,
    setting: &str,
    controller_names: &[String],
) -> Result<Vec<ListenerSpec>, ConfigError> {
    let mut all: Vec<ListenerSpec> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let bad = || ConfigError::Conflict(format!("Unable to parse {entry} to a broker endpoint"));
        let (name, address) = entry.split_once("://").ok_or_else(bad)?;
        let endpoint = parse_endpoint(address, "localhost").ok_or_else(bad)?;
        let name = name.to_uppercase();
        if all.iter().any(|l| l.name == name) {
            return Err(ConfigError::Conflict(format!(
                "Each listener must have a different name, {setting}: {text}"
            )));
        }
        let controller = controller_names.iter().any(|n| n.eq_ignore_ascii_case(&name));
        all.push(ListenerSpec { name, endpoint, controller });
    }
    Ok(all)
}

/// `advertised.listeners` over `listeners`: a controller's listener that is not advertised is told as it is.
pub(super) fn advertise(
    listeners: &[ListenerSpec],
    text: &str,
    controller_names: &[String],
) -> Result<Vec<ListenerSpec>, ConfigError> {
    let mut advertised = parse(text, "advertised.listeners", controller_names)?;
    for listener in listeners.iter().filter(|l| l.controller) {
        if !advertised.iter().any(|a| a.name == listener.name) {
            advertised.push(listener.clone());
        }
    }
    match advertised.iter().find(|a| !listeners.iter().any(|l| l.name == a.name)) {
        Some(unknown) if !unknown.controller => Err(ConfigError::Conflict(format!(
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. Found \
             {} in advertised.listeners",
            unknown.name
        ))),
        _ => Ok(advertised),
    }
}

/// Parses `controller.quorum.voters`.
pub(super) fn parse_voters(entries: &[String]) -> Result<Vec<Voter>, ConfigError> {
    let mut voters = Vec::new();
    for entry in entries {
        let bad = |why: &str| {
            ConfigError::Conflict(format!(
                "Invalid value {} for configuration controller.quorum.voters: {why}",
                entries.join(",")
            ))
        };
        let (id, address) = entry.split_once('@').ok_or_else(|| {
            bad(&format!("No voter id was specified for `{entry}`, use the form id@host:port"))
        })?;
        let id = id
            .trim()
            .parse::<i32>()
            .map_err(|_| bad(&format!("Failed to parse voter ID as an integer from {id}")))?;
        let endpoint = parse_endpoint(address, "")
            .filter(|e| !e.host.is_empty())
            .ok_or_else(|| bad(&format!("Failed to parse host name and port from {address}")))?;
        if voters.iter().any(|v: &Voter| v.id == id) {
            return Err(bad(&format!("voter {id} is given twice")));
        }
        voters.push(Voter { id, endpoint });
    }
    Ok(voters)
}

/// Parses `controller.quorum.bootstrap.servers`.
pub(super) fn parse_servers(entries: &[String]) -> Result<Vec<Endpoint>, ConfigError> {
    let bad = |entry: &String| {
        ConfigError::Conflict(format!("Invalid url in controller.quorum.bootstrap.servers: {entry}"))
    };
    entries.iter().map(|entry| parse_endpoint(entry, "").ok_or_else(|| bad(entry))).collect()
}

/// `host:port`; an empty host becomes `default_host`.
fn parse_endpoint(text: &str, default_host: &str) -> Option<Endpoint> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { default_host } else { host };
    Some(Endpoint::new(host.to_string(), port))
}
