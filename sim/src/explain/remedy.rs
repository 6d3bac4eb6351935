//! What would have prevented a finding: a setting, named, and tried on the same seed if that is asked for.
//!
//! A remedy is a change of the scenario. Whether it helps is not a matter of opinion: the same seed runs again with it,
//! expectations that no longer hold are passed over, and the finding is there again or it is not.

use std::collections::BTreeMap;

use crate::checkers::Subject;
use crate::runner::observer::Finding;
use crate::scenario::{Client, ClientKind, Scenario};

/// What would have prevented a finding.
#[derive(Clone, Debug)]
pub struct Remedy {
    /// In words.
    pub text: String,
    /// What is set to what, a line each; empty if no setting does it.
    pub settings: Vec<String>,
    /// The scenario with these settings.
    pub scenario: Option<Scenario>,
}

/// The remedy for a finding, if one is known.
pub fn of(scenario: &Scenario, finding: &Finding) -> Option<Remedy> {
    if !scenario.cluster.mutants.is_empty() && finding.excuse.is_none() {
        return Some(without_mutants(scenario));
    }
    let topic = match &finding.subject {
        Subject::Partition(topic, _) => Some(topic.as_str()),
        Subject::Quorum => None,
    };
    let mut change = Change::of(scenario);
    let text = match finding.excuse? {
        "acks=0" | "acks=1" => {
            change.producers(topic?, &[("acks", "all"), ("enable.idempotence", "true")]);
            change.at_least_two(topic?);
            "acks=all waits for every replica in the ISR, and min.insync.replicas=2 for a second one"
        }
        "retries without idempotence" => {
            change.producers(topic?, &[("acks", "all"), ("enable.idempotence", "true")]);
            "with enable.idempotence=true the leader knows a batch that comes again"
        }
        "unclean election" => {
            change.topic(topic?, "unclean.leader.election.enable", "false");
            change.cluster("unclean.leader.election.enable", "false");
            "with unclean.leader.election.enable=false the partition waits for an eligible leader replica"
        }
        "power loss without fsync" => {
            change.topic(topic?, "flush.messages", "1");
            "with flush.messages=1 every append is on the disk before it counts"
        }
        "power loss after syncs that lied"
        | "a disk was wiped"
        | "a disk was replaced by a stale one"
        | "a bit flipped on a disk" => {
            change.at_least_two(topic?);
            "with min.insync.replicas=2 what is acknowledged lies on two disks"
        }
        _ => return None,
    };
    if change.settings.is_empty() {
        let text = "no setting does: all that would help is set already".to_owned();
        return Some(Remedy { text, settings: Vec::new(), scenario: None });
    }
    Some(Remedy { text: text.to_owned(), settings: change.settings, scenario: Some(change.scenario) })
}

fn without_mutants(scenario: &Scenario) -> Remedy {
    let told = |mutant: &crate::mutants::Mutant| format!("{mutant} ({})", mutant.origin());
    let names: Vec<String> = scenario.cluster.mutants.iter().map(told).collect();
    let mut healed = scenario.clone();
    healed.cluster.mutants.clear();
    Remedy {
        text: format!("the bug that was switched on is mended: {}", names.join(", ")),
        settings: vec!["cluster: no mutants".to_owned()],
        scenario: Some(healed),
    }
}

/// A scenario that is changed, and what was changed.
struct Change {
    scenario: Scenario,
    settings: Vec<String>,
}

impl Change {
    fn of(scenario: &Scenario) -> Change {
        Change { scenario: scenario.clone(), settings: Vec::new() }
    }

    fn producers(&mut self, topic: &str, settings: &[(&str, &str)]) {
        let writes = |client: &&mut Client| match &client.kind {
            ClientKind::Producer { topic: to, .. } => to == topic,
            _ => false,
        };
        for client in self.scenario.clients.iter_mut().filter(writes) {
            let changed: Vec<String> = settings
                .iter()
                .filter(|(n, v)| set(&mut client.config, n, v))
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            if !changed.is_empty() {
                self.settings.push(format!("{}: {}", client.name, changed.join(", ")));
            }
        }
    }

    fn topic(&mut self, name: &str, setting: &str, value: &str) {
        if let Some(topic) = self.scenario.topics.iter_mut().find(|topic| topic.name == name)
            && set(&mut topic.config, setting, value)
        {
            self.settings.push(format!("topic {name}: {setting}={value}"));
        }
    }

    /// Where the cluster's setting is another one.
    fn cluster(&mut self, setting: &str, value: &str) {
        let config = &mut self.scenario.cluster.config;
        if config.get(setting).is_some_and(|known| known != value) {
            config.insert(setting.to_owned(), value.to_owned());
            self.settings.push(format!("cluster: {setting}={value}"));
        }
    }

    fn at_least_two(&mut self, name: &str) {
        let by_default = self.scenario.cluster.config.get("min.insync.replicas").cloned();
        let topic = self.scenario.topics.iter().find(|topic| topic.name == name);
        let known = topic.and_then(|topic| topic.config.get("min.insync.replicas").cloned()).or(by_default);
        if known.and_then(|value| value.parse().ok()).unwrap_or(1) < 2 {
            self.topic(name, "min.insync.replicas", "2");
        }
    }
}

/// Whether that changed anything.
fn set(config: &mut BTreeMap<String, String>, name: &str, value: &str) -> bool {
    config.insert(name.to_owned(), value.to_owned()).as_deref() != Some(value)
}
