//! What all checkers of a history need: who wrote and who read each value, and the order of the values of each key.
//!
//! Offsets come from sends whose effect was certainly seen and from all polls, whatever became of them: Kafka hands out
//! only what is safe to read, whether or not the transaction that reads it commits. Offsets have gaps (markers, aborted
//! records), so an [`Order`] counts the places that hold something, and all comparisons are made between these.

use std::collections::{BTreeMap, BTreeSet};

use super::ops::{History, Kind, Mop, Op, Pair};

/// A key and a value: a message.
pub type KeyValue = (i64, i64);

/// What is known of the log of a key.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// By offset: the values that were told to lie there, in the order in which they were told. More than one is an
    /// anomaly of its own.
    pub log: BTreeMap<i64, Vec<i64>>,
    /// The values in their order.
    pub values: Vec<i64>,
    /// By value: its place in `values`, the last one if it has several.
    pub place: BTreeMap<i64, usize>,
}

impl Order {
    fn settle(&mut self) {
        self.values = self.log.values().map(|values| values[0]).collect();
        self.place = self.values.iter().enumerate().map(|(place, value)| (*value, place)).collect();
    }

    /// How far one goes in the log from a value to another; 1 if that is not known.
    pub fn step(&self, from: Option<&i64>, to: Option<&i64>) -> i64 {
        let place = |value: Option<&i64>| self.place.get(value?).map(|place| *place as i64);
        place(from).zip(place(to)).map_or(1, |(from, to)| to - from)
    }

    /// The values between two, and how many they are.
    pub fn between(&self, from: i64, to: i64) -> &[i64] {
        match (self.place.get(&from), self.place.get(&to)) {
            (Some(from), Some(to)) if from < to => &self.values[from + 1..*to],
            _ => &[],
        }
    }
}

/// A history, and what follows from it.
#[derive(Debug)]
pub struct Analysis<'h> {
    /// The history.
    pub history: &'h History,
    /// By message: the completion of the operation that sent it.
    pub writer: BTreeMap<KeyValue, usize>,
    /// By message: the completions of the operations that polled it, in order; one that polled it twice stands twice.
    pub readers: BTreeMap<KeyValue, Vec<usize>>,
    /// The messages that an `:ok` poll returned.
    pub read: BTreeSet<KeyValue>,
    /// By key.
    pub orders: BTreeMap<i64, Order>,
    /// Polls of what nobody sent: operation, key, value.
    pub unknown: Vec<(usize, i64, i64)>,
}

/// By key: what one operation sent or polled of it, in order.
pub type ByKey<T> = BTreeMap<i64, Vec<T>>;

/// What an operation sent.
pub fn sends(op: &Op) -> ByKey<Pair> {
    let mut all = ByKey::new();
    for mop in &op.mops {
        if let Mop::Send { key, offset, value } = *mop {
            all.entry(key).or_default().push((offset, value));
        }
    }
    all
}

/// What an operation polled. A key of which it polled nothing has an empty list.
pub fn polls(op: &Op) -> ByKey<Pair> {
    let mut all = ByKey::new();
    for mop in &op.mops {
        let Mop::Poll(polled) = mop else { continue };
        for (key, pairs) in polled {
            all.entry(*key).or_default().extend(pairs);
        }
    }
    all
}

impl<'h> Analysis<'h> {
    /// Of a history.
    pub fn new(history: &'h History) -> Analysis<'h> {
        let mut analysis = Analysis {
            history,
            writer: BTreeMap::new(),
            readers: BTreeMap::new(),
            read: BTreeSet::new(),
            orders: BTreeMap::new(),
            unknown: Vec::new(),
        };
        for (at, op) in analysis.completions() {
            analysis.know(at, op);
        }
        for (_, op) in analysis.completions() {
            let took_place = analysis.took_place(op);
            analysis.place(op, took_place);
        }
        analysis.orders.values_mut().for_each(Order::settle);
        analysis.find_unknown();
        analysis
    }

    /// The completions of sends, polls and transactions, with their places in the history.
    pub fn completions(&self) -> impl DoubleEndedIterator<Item = (usize, &'h Op)> + use<'h> {
        let all = self.history.ops.iter().enumerate();
        all.filter(|(_, op)| op.is_data() && op.kind != Kind::Invoke)
    }

    /// Whether an operation certainly took place: it says so, or one of its values was seen.
    pub fn took_place(&self, op: &Op) -> bool {
        let seen = |(key, pairs): (&i64, &Vec<Pair>)| {
            pairs.iter().any(|(_, value)| self.read.contains(&(*key, *value)))
        };
        match op.kind {
            Kind::Ok => true,
            Kind::Info => sends(op).iter().any(seen),
            Kind::Invoke | Kind::Fail => false,
        }
    }

    fn know(&mut self, at: usize, op: &Op) {
        for (key, pairs) in sends(op) {
            self.writer.extend(pairs.iter().map(|(_, value)| ((key, *value), at)));
        }
        for (key, pairs) in polls(op) {
            for (_, value) in pairs {
                self.readers.entry((key, value)).or_default().push(at);
                if op.kind == Kind::Ok {
                    self.read.insert((key, value));
                }
            }
        }
    }

    /// Takes the offsets that an operation tells.
    fn place(&mut self, op: &Op, took_place: bool) {
        let sent = if took_place { sends(op) } else { ByKey::new() };
        for (key, pairs) in sent.into_iter().chain(polls(op)) {
            let order = self.orders.entry(key).or_default();
            for (offset, value) in pairs {
                let Some(offset) = offset else { continue };
                let values = order.log.entry(offset).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
    }

    fn find_unknown(&mut self) {
        let nobody = self.readers.iter().filter(|(message, _)| !self.writer.contains_key(message));
        self.unknown = nobody.map(|((key, value), readers)| (readers[0], *key, *value)).collect();
        self.unknown.sort_unstable();
    }
}

/// Some of many values, for a text.
pub fn some(values: &[i64]) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = values.iter().take(MOST).map(i64::to_string).collect();
    match values.len() {
        n if n > MOST => format!("{} and {} more", shown.join(", "), n - MOST),
        _ => shown.join(", "),
    }
}
