//! Quotas of clients, users and addresses. Credentials (SCRAM) are not kept here.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::schema::json::java_double;

use super::super::options::Options;
use super::super::session::{Console, Exception, Ran, Session, got, result_of};
use super::{Entity, added_configs, invalid, removed_configs, updated};
use crate::admin::{QuotaEntity, QuotaMatch};

/// What a client or a user may have a quota of.
const RATES: [&str; 4] =
    ["producer_byte_rate", "consumer_byte_rate", "controller_mutation_rate", "request_percentage"];

/// What an address may have a quota of.
const CONNECTIONS: [&str; 1] = ["connection_creation_rate"];

/// Whether entities of these kinds have quotas rather than settings.
pub fn have(kinds: &[String]) -> bool {
    kinds.iter().any(|kind| matches!(kind.as_str(), "users" | "clients" | "ips"))
}

/// The name of a kind in requests, and what the tool calls it.
fn part(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "users" => ("user", "user-principal"),
        "clients" => ("client-id", "client-id"),
        _ => ("ip", "ip"),
    }
}

type Quotas = Vec<(QuotaEntity, BTreeMap<String, u64>)>;

fn quotas(s: &mut Session<'_>, entity: &Entity) -> Ran<Quotas> {
    let mut components = BTreeMap::new();
    for (i, kind) in entity.kinds.iter().enumerate() {
        let wanted = match entity.names.get(i).map(String::as_str) {
            Some("") => QuotaMatch::Default,
            Some(name) => QuotaMatch::Name(name.into()),
            None => QuotaMatch::Any,
        };
        components.insert(part(kind).0.to_string(), wanted);
    }
    let asked = s.ask(|admin, now| admin.describe_client_quotas(now, components, true))?;
    Ok(got(result_of!(asked, Quotas))?)
}

pub fn describe(s: &mut Session<'_>, entity: &Entity) -> Ran {
    for (parts, values) in quotas(s, entity)? {
        let named = |kind: &str| {
            let (key, title) = part(kind);
            parts.get(key).map(|name| match name {
                Some(name) => format!("{title} '{name}'"),
                None => format!("the default {title}"),
            })
        };
        let names: Vec<String> = ["users", "clients", "ips"].into_iter().filter_map(named).collect();
        let values: Vec<String> = (values.into_iter())
            .map(|(key, bits)| format!("{key}={}", java_double(f64::from_bits(bits))))
            .collect();
        s.line(format!("Quota configs for {} are {}", names.join(", "), values.join(", ")));
    }
    Ok(())
}

pub fn alter(s: &mut Session<'_>, options: &Options, entity: &Entity) -> Ran {
    let added = added_configs(s, options)?;
    let removed = removed_configs(options);
    let (known, kind, what) = match entity.kind.as_str() {
        "ips" => (&CONNECTIONS[..], "ips", "connection quota"),
        "users" if entity.kinds.len() == 1 => (&RATES[..], "users", "quota and SCRAM credential"),
        _ => (&RATES[..], "clients", "quota"),
    };
    for (names, verb) in [(added.keys().collect::<Vec<_>>(), "added"), (removed.iter().collect(), "deleted")]
    {
        let unknown: Vec<&str> =
            names.into_iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
        if !unknown.is_empty() {
            let listed = unknown.join(if kind == "ips" { "," } else { ", " });
            let unknown = match (kind, verb) {
                ("ips", _) => listed,
                (_, "added") => format!("{}({listed})", if unknown.len() > 4 { "HashSet" } else { "Set" }),
                _ => format!("ArrayBuffer({listed})"),
            };
            return Err(invalid(format!(
                "Only {what} configs can be {verb} for '{kind}' using --bootstrap-server. Unexpected config names: \
                 {unknown}"
            ))
            .into());
        }
    }
    let there = quotas(s, entity)?;
    let unset: Vec<&str> = (removed.iter())
        .filter(|name| !there.iter().any(|(_, values)| values.contains_key(*name)))
        .map(String::as_str)
        .collect();
    if !unset.is_empty() {
        let class = "org.apache.kafka.common.errors.InvalidConfigurationException";
        return Err(Exception::new(class, format!("Invalid config(s): {}", unset.join(","))).into());
    }
    let mut changes = BTreeMap::new();
    for (key, value) in added {
        let number: f64 = value
            .parse()
            .map_err(|_| invalid(format!("Cannot parse quota configuration value for {key}: {value}")))?;
        changes.insert(key, Some(number.to_bits()));
    }
    changes.extend(removed.into_iter().map(|key| (key, None)));
    let parts = entity.kinds.iter().zip(&entity.names);
    let parts =
        parts.map(|(kind, name)| (part(kind).0.to_string(), Some(name.clone()).filter(|n| !n.is_empty())));
    let parts: QuotaEntity = parts.collect();
    let asked = s.ask(|admin, now| admin.alter_client_quotas(now, parts, changes))?;
    got(result_of!(asked, Unregistered))?;
    updated(s, entity);
    Ok(())
}
