//! What would have prevented a finding: a setting, named, and tried on the same seed if that is asked for.
//!
//! A remedy is a change of the scenario. Whether it helps is not a matter of opinion: the same seed runs again with it,
//! expectations that no longer hold are passed over, and the finding is there again or it is not.

use std::collections::BTreeMap;

use crate::checkers::{Subject, promise};
use crate::runner::observer::Finding;
use crate::scenario::{Client, ClientKind, Scenario};

/// What would have prevented a finding.
#[derive(Clone, Debug)]
pub struct Remedy {
    /// In words.
    pub text: String,
    /// What is set to what, a line each.
    pub settings: Vec<String>,
    /// The scenario with these settings.
    pub scenario: Scenario,
}

/// The remedies for a finding that are known, the likeliest first.
pub fn of(scenario: &Scenario, finding: &Finding) -> Vec<Remedy> {
    let mended = (!scenario.cluster.mutants.is_empty()).then(|| without_mutants(scenario));
    if finding.excuse.is_none() {
        return mended.into_iter().collect();
    }
    let (Subject::Partition(topic, _), Some(excuse)) = (&finding.subject, finding.excuse) else {
        return Vec::new();
    };
    let all = KINDS.iter().filter(|kind| kind.against(excuse));
    // What it is excused by comes first; what else was weak may be the cause as well, if anything was lost.
    let others = KINDS.iter().filter(|kind| !kind.against(excuse) && kind.may_help(finding));
    let all = all.chain(others.filter(|_| !NOT_OF_DATA.contains(&excuse)));
    let made = all.filter_map(|kind| kind.remedy(scenario, topic));
    mended.into_iter().chain(made).collect()
}

/// A kind of remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Acks,
    Idempotence,
    NoUncleanElection,
    Flush,
    TwoDisks,
    ReadCommitted,
    Verification,
    Expiration,
}

const KINDS: [Kind; 8] = [
    Kind::Acks,
    Kind::Idempotence,
    Kind::NoUncleanElection,
    Kind::Flush,
    Kind::TwoDisks,
    Kind::ReadCommitted,
    Kind::Verification,
    Kind::Expiration,
];

/// What has nothing to do with copies on disks, so that more of them do not help.
const NOT_OF_DATA: [&str; 8] = [
    promise::READS_UNCOMMITTED,
    promise::SHARED_INSTANCE,
    promise::ONE_EPOCH,
    promise::UNVERIFIED,
    promise::FORGOTTEN,
    promise::BY_HAND,
    promise::COPIED_TWICE,
    promise::DELETED,
];

impl Kind {
    /// Whether it takes away what a finding is excused by.
    fn against(self, excuse: &str) -> bool {
        match self {
            Kind::Acks => excuse.starts_with("acks="),
            Kind::Idempotence => excuse == "retries without idempotence",
            Kind::NoUncleanElection => excuse == "unclean election",
            Kind::Flush => excuse == "power loss without fsync" || excuse == promise::WITHOUT_ELR,
            Kind::ReadCommitted => excuse == promise::READS_UNCOMMITTED,
            Kind::Verification => excuse == promise::UNVERIFIED,
            Kind::Expiration => excuse == promise::FORGOTTEN,
            Kind::TwoDisks => {
                matches!(
                    excuse,
                    "power loss after syncs that lied"
                        | "a disk was wiped"
                        | "a disk was replaced by a stale one"
                        | "a bit flipped on a disk"
                )
            }
        }
    }

    fn may_help(self, finding: &Finding) -> bool {
        match self {
            Kind::Idempotence => finding.name == "duplicate",
            Kind::ReadCommitted | Kind::Verification | Kind::Expiration => false,
            Kind::Acks | Kind::NoUncleanElection | Kind::Flush | Kind::TwoDisks => true,
        }
    }

    /// What it changes, if it changes anything.
    fn remedy(self, scenario: &Scenario, topic: &str) -> Option<Remedy> {
        let mut change = Change::of(scenario);
        let mut text = match self {
            Kind::Acks => {
                change.producers(topic, &[("acks", "all"), ("enable.idempotence", "true")]);
                "acks=all waits for every replica in the ISR"
            }
            Kind::Idempotence => {
                change.producers(topic, &[("acks", "all"), ("enable.idempotence", "true")]);
                "with enable.idempotence=true the leader knows a batch that comes again"
            }
            Kind::NoUncleanElection => {
                change.topic_if(topic, "unclean.leader.election.enable", "false", |known| {
                    known == Some("true")
                });
                change.cluster("unclean.leader.election.enable", "false");
                "with unclean.leader.election.enable=false the partition waits for an eligible leader replica"
            }
            Kind::Flush => {
                change.topic_if(topic, "flush.messages", "1", |_| true);
                "with flush.messages=1 every append is on the disk before it counts"
            }
            Kind::TwoDisks => {
                change.at_least_two(topic);
                "with min.insync.replicas=2 what is acknowledged lies on two disks"
            }
            Kind::ReadCommitted => {
                change.consumers(topic, ("isolation.level", "read_committed"));
                "with isolation.level=read_committed consumers get what is committed, and nothing else"
            }
            Kind::Verification => {
                change.cluster("transaction.partition.verification.enable", "true");
                "a leader that asks the coordinator takes no batch of a transaction that has ended"
            }
            Kind::Expiration => {
                change.cluster("producer.id.expiration.ms", "86400000");
                "a leader that remembers producers for a day knows a batch that comes again"
            }
        }
        .to_owned();
        if change.settings.is_empty() {
            return None;
        }
        if self == Kind::Acks {
            let before = change.settings.len();
            change.at_least_two(topic);
            if change.settings.len() > before {
                text.push_str(", and min.insync.replicas=2 for a second one at least");
            }
        }
        Some(Remedy { text, settings: change.settings, scenario: change.scenario })
    }
}

fn without_mutants(scenario: &Scenario) -> Remedy {
    let told = |mutant: &crate::mutants::Mutant| format!("{mutant} ({})", mutant.origin());
    let names: Vec<String> = scenario.cluster.mutants.iter().map(told).collect();
    let mut healed = scenario.clone();
    healed.cluster.mutants.clear();
    Remedy {
        text: format!("the bug that was switched on is mended: {}", names.join(", ")),
        settings: vec!["cluster: no mutants".to_owned()],
        scenario: healed,
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
                // Both are so by default.
                .filter(|(n, v)| {
                    client.config.get(*n).is_some_and(|known| known != v) && set(&mut client.config, n, v)
                })
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            if !changed.is_empty() {
                self.settings.push(format!("{}: {}", client.name, changed.join(", ")));
            }
        }
    }

    fn consumers(&mut self, topic: &str, (name, value): (&str, &str)) {
        let reads = |client: &&mut Client| match &client.kind {
            ClientKind::Consumer { topics, partitions, .. } => {
                topics.iter().any(|of| of == topic) || partitions.iter().any(|(of, _)| of == topic)
            }
            _ => false,
        };
        for client in self.scenario.clients.iter_mut().filter(reads) {
            if set(&mut client.config, name, value) {
                self.settings.push(format!("{}: {name}={value}", client.name));
            }
        }
    }

    fn topic_if(&mut self, name: &str, setting: &str, value: &str, may: impl Fn(Option<&str>) -> bool) {
        if let Some(topic) = self.scenario.topics.iter_mut().find(|topic| topic.name == name)
            && may(topic.config.get(setting).map(String::as_str))
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
            self.topic_if(name, "min.insync.replicas", "2", |_| true);
        }
    }
}

/// Whether that changed anything.
fn set(config: &mut BTreeMap<String, String>, name: &str, value: &str) -> bool {
    config.insert(name.to_owned(), value.to_owned()).as_deref() != Some(value)
}
