//! The clients' history as Jepsen's Kafka checker reads it: what `run --edn` writes.
//!
//! Operations are told in the order in which they happened, each with an invocation and a completion, and in the form that
//! [`crate::checkers::jepsen`] describes. A producer has many messages on their way at once, and a process of a history
//! does one thing at a time, so a producer is as many processes as it needs. A message's operation begins when its batch
//! leaves for the first time: a message that was given up before has none. What becomes of it is what the producer was
//! told: acknowledged is `:ok`, certainly not appended `:fail`, anything else `:info`. A program that copies in
//! transactions is one process, each transaction one operation, with what was consumed in it as polls.
//!
//! A process number retires with its client and after `:info`; the next one begins with an assignment. At the end a fresh
//! process reads everything, and polls once more.
//!
//! Nothing is kept unless it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use client::event::TransactionEnd;
use client::{ClientEvent, Fate, Made, MessageId, Polled, TopicPartition};

use crate::scenario::{Client, ClientKind, Scenario};

/// A process of the history.
type Process = u32;

/// A value: a message, and which of its copies. A program whose transaction is aborted copies its messages again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Value {
    message: MessageId,
    copy: u32,
}

/// A part of an operation.
#[derive(Clone, Debug)]
enum Mop {
    Send { key: usize, offset: Option<i64>, value: Value },
    Poll(Vec<(usize, Vec<(i64, MessageId)>)>),
}

/// What an operation is about.
#[derive(Clone, Debug)]
enum About {
    Nothing,
    Keys(Vec<usize>),
    Mops(Vec<Mop>),
}

/// An invocation or a completion.
#[derive(Clone, Debug)]
struct Entry {
    at: u64,
    process: Process,
    kind: &'static str,
    f: &'static str,
    about: About,
    error: Option<&'static str>,
    rebalanced: BTreeSet<usize>,
}

/// What a client of the scenario does.
#[derive(Clone, Debug)]
enum Does {
    Sends {
        /// Its processes that have nothing to do.
        idle: BTreeSet<Process>,
        /// By number: its message's process, key and value.
        open: BTreeMap<u64, (Process, usize)>,
        /// Its index among the producers.
        producer: u32,
    },
    Polls {
        /// The topics of its group; or the partitions that it takes itself.
        subscribes: Option<Vec<String>>,
        takes: BTreeSet<usize>,
        process: Option<Process>,
        /// Its last poll, and the place of its completion.
        last: Option<(u64, usize)>,
    },
    Copies {
        from: String,
        process: Option<Process>,
        open: Option<Transaction>,
    },
}

/// A transaction that is open.
#[derive(Clone, Debug, Default)]
struct Transaction {
    /// The place of its invocation.
    entry: usize,
    /// What was consumed, by poll.
    polls: Vec<(u64, Mop)>,
    /// By the program's own number: which message it is.
    made: BTreeMap<u64, MessageId>,
    /// The number of the message that is told next.
    next: u64,
    /// By the program's own number: where it was sent.
    sends: BTreeMap<u64, Mop>,
    rebalanced: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    does: Does,
    processes: Vec<Process>,
}

/// The clients' history of a run.
#[derive(Clone, Debug)]
pub struct Export {
    title: String,
    producers: Vec<String>,
    /// Topic and partition of each key.
    keys: Vec<(String, i32)>,
    key_of: BTreeMap<(String, i32), usize>,
    /// Topics that clients write, which the reader at the end reads; and those of them that programs copy to.
    written: BTreeSet<String>,
    copied_to: BTreeSet<String>,
    entries: Vec<Entry>,
    processes: Process,
    /// By the place of a process among the observer's clients.
    clients: BTreeMap<usize, Known>,
    reader: Option<Process>,
    /// The number of its last poll.
    last_read: u64,
    /// By key and message: how often it was sent in a transaction.
    copies: BTreeMap<(usize, MessageId), u32>,
    /// Where copies lie.
    placed: BTreeMap<(usize, i64), Value>,
    /// Records that were polled and that no producer of the scenario wrote.
    foreign: u64,
}

impl Export {
    /// Of a scenario that has not begun.
    pub fn new(scenario: &Scenario, seed: u64) -> Export {
        let variant = scenario.variant.as_ref().map_or(String::new(), |v| format!(", variant {v}"));
        let mut export = Export {
            title: format!("{}{variant}, seed {seed}", scenario.name),
            producers: super::build::producer_names(scenario),
            keys: Vec::new(),
            key_of: BTreeMap::new(),
            written: BTreeSet::new(),
            copied_to: BTreeSet::new(),
            entries: Vec::new(),
            processes: 0,
            clients: BTreeMap::new(),
            reader: None,
            last_read: 0,
            copies: BTreeMap::new(),
            placed: BTreeMap::new(),
            foreign: 0,
        };
        for topic in &scenario.topics {
            for partition in 0..topic.partitions {
                export.key(&topic.name, partition);
            }
        }
        for client in &scenario.clients {
            match &client.kind {
                ClientKind::Producer { topic, .. } => drop(export.written.insert(topic.clone())),
                ClientKind::Transactional { to, .. } => {
                    export.written.insert(to.clone());
                    export.copied_to.insert(to.clone());
                }
                _ => {}
            }
        }
        export
    }

    fn key(&mut self, topic: &str, partition: i32) -> usize {
        if let Some(&key) = self.key_of.get(&(topic.to_owned(), partition)) {
            return key;
        }
        self.keys.push((topic.to_owned(), partition));
        self.key_of.insert((topic.to_owned(), partition), self.keys.len() - 1);
        self.keys.len() - 1
    }

    fn keys_of(&self, topics: &[String]) -> Vec<usize> {
        let of_topics = self.keys.iter().enumerate().filter(|(_, (topic, _))| topics.contains(topic));
        of_topics.map(|(key, _)| key).collect()
    }

    // --- clients come and go

    /// A client's process will be started; `own` is its place among the observer's clients.
    pub fn client(&mut self, own: usize, name: &str, client: &Client) {
        let does = match &client.kind {
            ClientKind::Producer { .. } => {
                let Some(producer) = self.producers.iter().position(|p| p == name) else { return };
                Does::Sends { idle: BTreeSet::new(), open: BTreeMap::new(), producer: producer as u32 }
            }
            ClientKind::Consumer { topics, group, partitions, .. } => {
                let takes = partitions.iter().map(|(topic, partition)| self.key(topic, *partition)).collect();
                let subscribes = group.as_ref().filter(|_| !topics.is_empty()).map(|_| topics.clone());
                Does::Polls { subscribes, takes, process: None, last: None }
            }
            ClientKind::Transactional { from, .. } => {
                Does::Copies { from: from.clone(), process: None, open: None }
            }
            ClientKind::Admin { .. } | ClientKind::Hostile { .. } => return,
        };
        let processes = self.clients.get(&own).map_or(Vec::new(), |known| known.processes.clone());
        self.clients.insert(own, Known { name: name.to_owned(), does, processes });
    }

    /// A client's process began.
    pub fn started(&mut self, at: u64, own: usize) {
        let Some(known) = self.clients.get(&own) else { return };
        let (f, keys) = match &known.does {
            Does::Sends { .. } => return,
            Does::Polls { subscribes: Some(topics), .. } => ("subscribe", self.keys_of(topics)),
            Does::Polls { takes, .. } => ("assign", takes.iter().copied().collect()),
            Does::Copies { from, .. } => ("subscribe", self.keys_of(std::slice::from_ref(from))),
        };
        let new = self.new_process(own);
        if let Some(Does::Polls { process, .. } | Does::Copies { process, .. }) =
            self.clients.get_mut(&own).map(|known| &mut known.does)
        {
            *process = Some(new);
        }
        self.at_once(at, new, f, About::Keys(keys), "ok");
    }

    /// A client's process is gone: nobody will hear any more of what is open.
    pub fn gone(&mut self, at: u64, own: usize) {
        let Some(mut known) = self.clients.remove(&own) else { return };
        match &mut known.does {
            Does::Sends { idle, open, producer } => {
                for (number, (process, key)) in std::mem::take(open) {
                    let sent = Mop::Send { key, offset: None, value: plain(*producer, number) };
                    self.complete(at, process, "info", "send", vec![sent], Some("client-gone"));
                }
                if let Some(process) = std::mem::take(idle).first() {
                    self.at_once(at, *process, "crash", About::Nothing, "info");
                }
            }
            Does::Polls { process, last, .. } => {
                *last = None;
                if let Some(process) = process.take() {
                    self.at_once(at, process, "crash", About::Nothing, "info");
                }
            }
            Does::Copies { process, open, .. } => {
                if let Some(process) = process.take() {
                    match open.take() {
                        Some(transaction) => self.end(at, process, transaction, "info", Some("client-gone")),
                        None => self.at_once(at, process, "crash", About::Nothing, "info"),
                    }
                }
            }
        }
        self.clients.insert(own, known);
    }

    fn new_process(&mut self, own: usize) -> Process {
        let process = self.processes;
        self.processes += 1;
        if let Some(known) = self.clients.get_mut(&own) {
            known.processes.push(process);
        }
        process
    }

    // --- what they tell

    /// A client told something.
    pub fn hear(&mut self, at: u64, own: usize, event: &ClientEvent) {
        // Taken out, so that what it does and the history can both be changed.
        let Some(mut known) = self.clients.remove(&own) else { return };
        match &mut known.does {
            Does::Sends { idle, open, producer } => {
                let before = self.processes;
                self.hear_producer(at, (idle, open, *producer), event);
                known.processes.extend(before..self.processes);
            }
            Does::Polls { subscribes, takes, process: Some(process), last } => {
                if let ClientEvent::Polled(polled) = event {
                    let key = self.key(&polled.partition.topic, polled.partition.partition);
                    // A topic that is read as a whole has grown.
                    if subscribes.is_none() && takes.insert(key) {
                        let keys = takes.iter().copied().collect();
                        self.at_once(at, *process, "assign", About::Keys(keys), "ok");
                        *last = None;
                    }
                    self.polled(at, *process, last, polled);
                }
            }
            Does::Copies { process: Some(process), open, .. } => {
                let process = *process;
                self.hear_copier(at, process, open, event);
            }
            Does::Polls { .. } | Does::Copies { .. } => {}
        }
        self.clients.insert(own, known);
    }

    fn hear_producer(
        &mut self,
        at: u64,
        (idle, open, producer): (&mut BTreeSet<Process>, &mut BTreeMap<u64, (Process, usize)>, u32),
        event: &ClientEvent,
    ) {
        match event {
            ClientEvent::BatchSent { partition, records, .. } => {
                let key = self.key(&partition.topic, partition.partition);
                for made in records.iter() {
                    if open.contains_key(&made.number) {
                        continue;
                    }
                    let process = idle.pop_first().unwrap_or_else(|| {
                        self.processes += 1;
                        self.processes - 1
                    });
                    open.insert(made.number, (process, key));
                    let sent = Mop::Send { key, offset: None, value: plain(producer, made.number) };
                    self.tell(at, process, "invoke", "send", About::Mops(vec![sent]));
                }
            }
            ClientEvent::BatchAcked { base_offset, records, .. } => {
                for (i, made) in records.iter().enumerate() {
                    let Some((process, key)) = open.remove(&made.number) else { continue };
                    let offset = (*base_offset >= 0).then_some(base_offset + i as i64);
                    let sent = Mop::Send { key, offset, value: plain(producer, made.number) };
                    self.complete(at, process, "ok", "send", vec![sent], None);
                    idle.insert(process);
                }
            }
            ClientEvent::BatchFailed { error, fate, records, .. } => {
                for made in records.iter() {
                    let Some((process, key)) = open.remove(&made.number) else { continue };
                    let sent = Mop::Send { key, offset: None, value: plain(producer, made.number) };
                    let kind = if *fate == Fate::Failed { "fail" } else { "info" };
                    self.complete(at, process, kind, "send", vec![sent], Some(error));
                    if *fate == Fate::Failed {
                        idle.insert(process);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes what a poll returned of a partition; more of the same poll belong to the same operation.
    fn polled(&mut self, at: u64, process: Process, last: &mut Option<(u64, usize)>, polled: &Polled) {
        let part = self.part(polled);
        if let Some((poll, entry)) = *last
            && poll == polled.poll
            && let About::Mops(mops) = &mut self.entries[entry].about
            && let Some(Mop::Poll(parts)) = mops.first_mut()
        {
            add(parts, part);
            return;
        }
        self.tell(at, process, "invoke", "poll", About::Mops(vec![Mop::Poll(Vec::new())]));
        let mut parts = Vec::new();
        add(&mut parts, part);
        self.complete(at, process, "ok", "poll", vec![Mop::Poll(parts)], None);
        *last = Some((polled.poll, self.entries.len() - 1));
    }

    fn part(&mut self, polled: &Polled) -> (usize, Vec<(i64, MessageId)>) {
        let key = self.key(&polled.partition.topic, polled.partition.partition);
        let known = polled.records.iter().filter(|record| record.message.client != MessageId::FOREIGN);
        let known: Vec<(i64, MessageId)> = known.map(|record| (record.offset, record.message)).collect();
        self.foreign += (polled.records.len() - known.len()) as u64;
        (key, known)
    }

    fn hear_copier(
        &mut self,
        at: u64,
        process: Process,
        open: &mut Option<Transaction>,
        event: &ClientEvent,
    ) {
        match (event, open.as_mut()) {
            (ClientEvent::TransactionBegan { .. }, None) => {
                self.tell(at, process, "invoke", "txn", About::Mops(Vec::new()));
                *open = Some(Transaction { entry: self.entries.len() - 1, ..Transaction::default() });
            }
            (ClientEvent::TransactionEnded { end, .. }, Some(_)) => {
                let transaction = open.take().expect("it is open");
                let (kind, error) = match end {
                    TransactionEnd::Committed => ("ok", None),
                    TransactionEnd::Aborted => ("fail", Some("aborted")),
                    TransactionEnd::Indefinite => ("info", Some("commit-in-doubt")),
                };
                self.end(at, process, transaction, kind, error);
            }
            (ClientEvent::MessagesMade { first, .. }, Some(transaction)) => transaction.next = *first,
            (ClientEvent::Polled(polled), Some(transaction)) => {
                for record in &polled.records {
                    transaction.made.insert(transaction.next, record.message);
                    transaction.next += 1;
                }
                let part = self.part(polled);
                match transaction.polls.last_mut() {
                    Some((poll, Mop::Poll(parts))) if *poll == polled.poll => add(parts, part),
                    _ => {
                        let mut parts = Vec::new();
                        add(&mut parts, part);
                        transaction.polls.push((polled.poll, Mop::Poll(parts)));
                    }
                }
            }
            (ClientEvent::BatchSent { partition, records, .. }, Some(transaction)) => {
                self.copy_sent(transaction, partition, records);
            }
            (ClientEvent::BatchAcked { base_offset, records, .. }, Some(transaction)) => {
                self.copy_acked(transaction, *base_offset, records);
            }
            (
                ClientEvent::PartitionsAssigned { partitions, .. }
                | ClientEvent::PartitionsRevoked { partitions, .. }
                | ClientEvent::PartitionsLost { partitions, .. },
                Some(transaction),
            ) => {
                let keys = partitions.iter().map(|p| self.key(&p.topic, p.partition));
                transaction.rebalanced.extend(keys);
            }
            _ => {}
        }
    }

    fn copy_sent(&mut self, transaction: &mut Transaction, partition: &TopicPartition, records: &[Made]) {
        let key = self.key(&partition.topic, partition.partition);
        for made in records {
            let Some(&message) = transaction.made.get(&made.number) else { continue };
            if message.client == MessageId::FOREIGN || transaction.sends.contains_key(&made.number) {
                continue;
            }
            let copies = self.copies.entry((key, message)).or_insert(0);
            let value = Value { message, copy: *copies };
            *copies += 1;
            transaction.sends.insert(made.number, Mop::Send { key, offset: None, value });
        }
    }

    fn copy_acked(&mut self, transaction: &mut Transaction, base: i64, records: &[Made]) {
        for (i, made) in records.iter().enumerate().filter(|_| base >= 0) {
            if let Some(Mop::Send { key, offset, value }) = transaction.sends.get_mut(&made.number) {
                *offset = Some(base + i as i64);
                self.placed.insert((*key, base + i as i64), *value);
            }
        }
    }

    /// A transaction ended: what was in it is known now, so its invocation is told as well.
    fn end(
        &mut self,
        at: u64,
        process: Process,
        transaction: Transaction,
        kind: &'static str,
        error: Option<&'static str>,
    ) {
        let polls = transaction.polls.into_iter().map(|(_, poll)| poll);
        let mops: Vec<Mop> = polls.chain(transaction.sends.into_values()).collect();
        let asked = mops.iter().map(|mop| match *mop {
            Mop::Send { key, value, .. } => Mop::Send { key, offset: None, value },
            Mop::Poll(_) => Mop::Poll(Vec::new()),
        });
        self.entries[transaction.entry].about = About::Mops(asked.collect());
        self.complete(at, process, kind, "txn", mops, error);
        self.entries.last_mut().expect("just told").rebalanced = transaction.rebalanced;
    }

    /// The reader at the end told something.
    pub fn hear_reader(&mut self, at: u64, event: &ClientEvent) {
        let process = match self.reader {
            Some(process) => process,
            None => {
                let process = self.processes;
                self.processes += 1;
                self.reader = Some(process);
                let topics: Vec<String> = self.written.iter().cloned().collect();
                let keys = self.keys_of(&topics);
                self.at_once(at, process, "assign", About::Keys(keys), "ok");
                process
            }
        };
        match event {
            // Each poll is an operation of its own: they are told apart by their number.
            ClientEvent::Polled(polled) => {
                let end = self.entries.len() - 1;
                let same = self.entries[end].process == process && self.entries[end].f == "poll";
                let mut last = same.then_some((self.last_read, end));
                self.polled(at, process, &mut last, polled);
                self.last_read = polled.poll;
            }
            // It has everything; the poll that returns nothing says so.
            ClientEvent::ClientClosed => {
                self.tell(at, process, "invoke", "poll", About::Mops(vec![Mop::Poll(Vec::new())]));
                self.complete(at, process, "ok", "poll", vec![Mop::Poll(Vec::new())], None);
            }
            _ => {}
        }
    }

    // --- operations

    fn tell(&mut self, at: u64, process: Process, kind: &'static str, f: &'static str, about: About) {
        let (error, rebalanced) = (None, BTreeSet::new());
        self.entries.push(Entry { at, process, kind, f, about, error, rebalanced });
    }

    fn complete(
        &mut self,
        at: u64,
        process: Process,
        kind: &'static str,
        f: &'static str,
        mops: Vec<Mop>,
        error: Option<&'static str>,
    ) {
        self.tell(at, process, kind, f, About::Mops(mops));
        self.entries.last_mut().expect("just told").error = error;
    }

    /// An operation that takes no time.
    fn at_once(&mut self, at: u64, process: Process, f: &'static str, about: About, kind: &'static str) {
        self.tell(at, process, "invoke", f, about.clone());
        self.tell(at, process, kind, f, about);
    }

    // --- the file

    /// The history as a file; `origin` is where its time begins. What is open is closed.
    pub fn into_edn(mut self, origin: u64) -> String {
        let now = self.entries.last().map_or(origin, |entry| entry.at);
        for own in self.clients.keys().copied().collect::<Vec<_>>() {
            self.close(now, own);
        }
        let numbers = self.entries.iter().flat_map(|entry| match &entry.about {
            About::Mops(mops) => mops.as_slice(),
            _ => &[],
        });
        let sent = numbers.filter_map(|mop| match mop {
            Mop::Send { value, .. } => Some(self.number(*value, 0)),
            Mop::Poll(_) => None,
        });
        let stride =
            sent.max().map_or(1, |most| 10u64.saturating_pow(most.checked_ilog10().unwrap_or(0) + 1));
        let mut text = self.head(stride);
        for (index, entry) in self.entries.iter().enumerate() {
            self.line(&mut text, index, entry, origin, stride);
        }
        text
    }

    /// Closes what is open at the end.
    fn close(&mut self, at: u64, own: usize) {
        let open = match self.clients.get(&own).map(|known| &known.does) {
            Some(Does::Sends { open, .. }) => !open.is_empty(),
            Some(Does::Copies { open, .. }) => open.is_some(),
            _ => false,
        };
        if open {
            self.gone(at, own);
        }
    }

    /// What stands at the head, so that a person can read the rest.
    fn head(&self, stride: u64) -> String {
        let mut text =
            format!("; The clients' history of {}, as Jepsen's Kafka checker reads it.\n", self.title);
        for (key, (topic, partition)) in self.keys.iter().enumerate() {
            let _ = writeln!(text, "; key {key}: {topic}-{partition}");
        }
        let count = self.producers.len();
        for (index, name) in self.producers.iter().enumerate() {
            let value = if count == 1 { "N".to_owned() } else { format!("{count} * N + {index}") };
            let _ = writeln!(text, "; value {value}: message {name}-N");
        }
        if self.copies.values().any(|copies| *copies > 1) {
            let _ = writeln!(
                text,
                "; value V + C * {stride}: the C-th further copy of message V in another topic, after an abort"
            );
        }
        for known in self.clients.values().filter(|known| !known.processes.is_empty()) {
            let _ = writeln!(text, "; {}: {}", known.name, ranges(&known.processes));
        }
        if let Some(reader) = self.reader {
            let _ = writeln!(text, "; the reader of everything at the end: process {reader}");
        }
        if self.foreign > 0 {
            let _ = writeln!(
                text,
                "; {} polled records that no producer of the scenario wrote are left out",
                self.foreign
            );
        }
        text
    }

    fn number(&self, value: Value, stride: u64) -> u64 {
        let count = self.producers.len() as u64;
        u64::from(value.message.number) * count
            + u64::from(value.message.client)
            + u64::from(value.copy) * stride
    }

    /// Which copy a record that was read is.
    fn read(&self, key: usize, offset: i64, message: MessageId) -> Value {
        let placed = self.placed.get(&(key, offset)).filter(|placed| placed.message == message);
        placed.copied().unwrap_or(Value { message, copy: 0 })
    }

    fn line(&self, text: &mut String, index: usize, entry: &Entry, origin: u64, stride: u64) {
        let Entry { at, process, kind, f, about, error, rebalanced } = entry;
        let time = at.saturating_sub(origin);
        let _ = write!(
            text,
            "{{:index {index}, :time {time}, :process {process}, :type :{kind}, :f :{f}, :value "
        );
        let invokes = *kind == "invoke";
        match about {
            About::Nothing => text.push_str("nil"),
            About::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(usize::to_string).collect();
                let _ = write!(text, "[{}]", keys.join(" "));
            }
            About::Mops(mops) => {
                text.push('[');
                for (i, mop) in mops.iter().enumerate() {
                    text.push_str(if i > 0 { " " } else { "" });
                    self.mop(text, mop, invokes, *kind == "ok", stride);
                }
                text.push(']');
            }
        }
        if let Some(error) = error {
            let _ = write!(text, ", :error :{}", error.to_ascii_lowercase().replace('_', "-"));
        }
        if !rebalanced.is_empty() {
            let keys: Vec<String> = rebalanced.iter().map(usize::to_string).collect();
            let _ = write!(text, ", :rebalance-log [{{:keys [{}]}}]", keys.join(" "));
        }
        if *f == "assign" && Some(*process) == self.reader {
            text.push_str(", :seek-to-beginning? true");
        }
        text.push_str("}\n");
    }

    fn mop(&self, text: &mut String, mop: &Mop, invokes: bool, happened: bool, stride: u64) {
        match mop {
            Mop::Send { key, offset, value } => {
                let number = self.number(*value, stride);
                let _ = match offset {
                    Some(offset) => write!(text, "[:send {key} [{offset} {number}]]"),
                    None if happened => write!(text, "[:send {key} [nil {number}]]"),
                    None => write!(text, "[:send {key} {number}]"),
                };
            }
            Mop::Poll(_) if invokes => text.push_str("[:poll]"),
            Mop::Poll(parts) => {
                text.push_str("[:poll {");
                // A key of which nothing is told stays away: an empty list would make a checker forget the position.
                for (i, (key, records)) in parts.iter().filter(|(_, records)| !records.is_empty()).enumerate()
                {
                    let _ = write!(text, "{}{key} [", if i > 0 { ", " } else { "" });
                    for (i, (offset, message)) in records.iter().enumerate() {
                        let number = self.number(self.read(*key, *offset, *message), stride);
                        let _ = write!(text, "{}[{offset} {number}]", if i > 0 { " " } else { "" });
                    }
                    text.push(']');
                }
                text.push_str("}]");
            }
        }
    }
}

/// A producer's message.
fn plain(producer: u32, number: u64) -> Value {
    Value { message: MessageId { client: producer, number: number as u32 }, copy: 0 }
}

/// Adds what was polled of a partition to the rest of the poll.
fn add(parts: &mut Vec<(usize, Vec<(i64, MessageId)>)>, (key, records): (usize, Vec<(i64, MessageId)>)) {
    match parts.iter_mut().find(|(known, _)| *known == key) {
        Some((_, known)) => known.extend(records),
        None => parts.push((key, records)),
    }
}

/// Numbers that rise, as words.
fn ranges(processes: &[Process]) -> String {
    let mut runs: Vec<(Process, Process)> = Vec::new();
    for &process in processes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == process => *last = process,
            _ => runs.push((process, process)),
        }
    }
    let words: Vec<String> = runs
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    let one = processes.len() == 1;
    format!("{} {}", if one { "process" } else { "processes" }, words.join(", "))
}
