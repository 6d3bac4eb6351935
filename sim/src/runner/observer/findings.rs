//! What checkers found: taken from them, put into words, counted, and told with what allows it.

use std::collections::BTreeSet;

use reports::Tone;

use super::{Finding, Observer};
use crate::checkers::history::{self, Anomaly, Message};
use crate::checkers::transactions::{self, Finding as TransactionFinding, Hanging};
use crate::checkers::{Breach, NAMES, Subject, promise};
use crate::world::SimTime;

impl Observer {
    pub(super) fn take_breaches(&mut self, at: SimTime) {
        let replicas = self.replicas.is_broken() || self.quorum.is_broken();
        if !(replicas || self.groups.is_broken() || self.positions.is_broken()) {
            return;
        }
        let found = self.replicas.take().into_iter().chain(self.quorum.take()).chain(self.groups.take());
        let found = found.chain(self.positions.take());
        for breach in found {
            self.found(at, breach);
        }
        for breach in self.groups.take_shared() {
            self.found_in(at, breach, Some(promise::SHARED_INSTANCE));
        }
    }

    /// Notes what a checker found; more of the same kind on the same subject only count.
    pub(super) fn found(&mut self, at: SimTime, breach: Breach) {
        self.found_in(at, breach, None);
    }

    /// [`Observer::found`] with what allows it whatever else is promised: it is told apart from what nothing allows.
    pub(super) fn found_in(&mut self, at: SimTime, breach: Breach, allowed: Option<&'static str>) {
        let alike = |f: &&mut Finding| f.name == breach.name && f.subject == breach.subject;
        let apart = |f: &&mut Finding| (f.allowed || allowed.is_some()) && f.excuse != allowed;
        if let Some(known) = self.findings.iter_mut().find(|f| alike(f) && !apart(f)) {
            known.count += 1;
            return;
        }
        assert!(NAMES.contains(&breach.name), "no scenario could name {}", breach.name);
        let topic = match &breach.subject {
            Subject::Partition(topic, _) => Some(topic.as_str()),
            Subject::Quorum | Subject::Node(_) => None,
        };
        let excuse = allowed.or_else(|| self.promise.excuse(breach.name, topic));
        let promised = if excuse.is_none() { " although the configuration promised otherwise" } else { "" };
        self.tell(at, "checker", format!("{} on {}{promised}", breach.name, breach.subject), Tone::Bad);
        self.findings.push(Finding {
            name: breach.name,
            subject: breach.subject,
            excuse,
            allowed: allowed.is_some(),
            at,
            text: breach.text,
            count: 1,
        });
    }

    /// What is open in logs although no coordinator will end it.
    pub fn hanging(&mut self, at: SimTime, hanging: &Hanging) {
        for ((topic, partition), producer, since) in hanging.found() {
            let text = format!(
                "A transaction of producer {producer} is open in {topic}-{partition} since offset {since}. No coordinator has it unfinished, so nobody will end it, and who reads committed transactions waits for ever."
            );
            let subject = Subject::Partition(topic.clone(), *partition);
            self.found(at, Breach { name: transactions::HANGING, subject, text });
        }
    }

    pub(super) fn take_anomalies(&mut self, at: SimTime) {
        for anomaly in self.history.take_anomalies() {
            let breach = self.explain(&anomaly);
            self.found(at, breach);
        }
        for finding in self.transactions.take() {
            let (breach, uncommitted) = self.explain_transaction(&finding);
            self.found_in(at, breach, uncommitted.then_some(promise::READS_UNCOMMITTED));
        }
    }

    /// A finding in words, and whether who read wanted to see everything.
    fn explain_transaction(&self, finding: &TransactionFinding) -> (Breach, bool) {
        use TransactionFinding::*;
        let (name, at, offset, (whose, number), wanted) = match finding {
            AbortedRead { at, offset, transaction, uncommitted } => {
                (transactions::ABORTED_READ, at, offset, transaction, *uncommitted)
            }
            PrecommittedRead { at, offset, transaction, uncommitted } => {
                (transactions::PRECOMMITTED_READ, at, offset, transaction, *uncommitted)
            }
            Lost { at, offset, transaction } => (history::LOST_WRITE, at, offset, transaction, false),
            Torn { at, offset, transaction } => (transactions::TORN, at, offset, transaction, false),
        };
        let reader =
            if wanted { "with isolation.level=read_uncommitted" } else { "who reads committed transactions" };
        let what = match finding {
            AbortedRead { .. } => format!("was aborted. Somebody {reader} read"),
            PrecommittedRead { .. } => format!("was not decided yet when somebody {reader} read"),
            Lost { .. } => "was committed. A reader of everything did not find".to_owned(),
            Torn { .. } => {
                "is there in part. A reader of everything that is committed found some of it, but not"
                    .to_owned()
            }
        };
        let (topic, partition) = self.history.name(*at);
        let text = format!("Transaction {number} of {whose} {what} offset {offset} of {topic}-{partition}.");
        (Breach { name, subject: Subject::Partition(topic, partition), text }, wanted)
    }

    fn message(&self, message: Message) -> String {
        let name = self.producers.get(message.client as usize).map_or("?", String::as_str);
        format!("{name}-{}", message.number)
    }

    fn explain(&self, anomaly: &Anomaly) -> Breach {
        let at = |partition: &(String, i32)| Subject::Partition(partition.0.clone(), partition.1);
        let name = |p: &(String, i32)| format!("{}-{}", p.0, p.1);
        match anomaly {
            Anomaly::InconsistentOffset { partition, offset, first, second } => Breach {
                name: history::INCONSISTENT_OFFSETS,
                subject: at(partition),
                text: format!(
                    "Offset {offset} of {} was told to hold {}, and later to hold {}.",
                    name(partition),
                    self.message(*first),
                    self.message(*second)
                ),
            },
            Anomaly::LostWrite { partition, offset, message } => Breach {
                name: history::LOST_WRITE,
                subject: at(partition),
                text: format!(
                    "{} was acknowledged at offset {offset} of {}. A reader who read everything at the end did not find it.",
                    self.message(*message),
                    name(partition)
                ),
            },
            Anomaly::Duplicate { partition, offset, message } => Breach {
                name: history::DUPLICATE,
                subject: at(partition),
                text: format!(
                    "{} lies in the log more than once, again at offset {offset} of {}.",
                    self.message(*message),
                    name(partition)
                ),
            },
            Anomaly::Unseen { partition, offset, message } => Breach {
                name: history::UNSEEN,
                subject: at(partition),
                text: format!(
                    "{} was acknowledged at offset {offset} of {}. Nobody could read the partition up to there at the end.",
                    self.message(*message),
                    name(partition)
                ),
            },
        }
    }

    /// The names of all that was found.
    pub fn found_names(&self) -> BTreeSet<String> {
        self.findings.iter().map(|f| f.name.to_owned()).collect()
    }
}
