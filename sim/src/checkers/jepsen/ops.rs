//! Operations, and how they stand in a file.
//!
//! The form is that of Jepsen's histories for its Kafka workload: a map for an invocation, and later one for its
//! completion, of the same `:process` and `:f`. The order of the file is the order of time. What breaks the form is
//! refused with its place.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::edn::{Form, Forms, Node};
use crate::scenario::nearest::nearest;
use crate::scenario::tree::Problem;

/// What an operation's map says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It began.
    Invoke,
    /// It happened.
    Ok,
    /// It did certainly not happen.
    Fail,
    /// Nobody knows whether it happened.
    Info,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum F {
    /// Sends only.
    Send,
    /// Polls only.
    Poll,
    /// Both, or several, in a transaction.
    Txn,
    /// The consumer takes these keys.
    Assign,
    /// The consumer takes what its group gives it of the topics of these keys.
    Subscribe,
    /// The client is torn down.
    Crash,
    /// Ignored.
    DebugTopicPartitions,
}

const KINDS: &[(&str, Kind)] =
    &[("invoke", Kind::Invoke), ("ok", Kind::Ok), ("fail", Kind::Fail), ("info", Kind::Info)];

const FUNCTIONS: &[(&str, F)] = &[
    ("send", F::Send),
    ("poll", F::Poll),
    ("txn", F::Txn),
    ("assign", F::Assign),
    ("subscribe", F::Subscribe),
    ("crash", F::Crash),
    ("debug-topic-partitions", F::DebugTopicPartitions),
];

/// A part of a `:send`, `:poll` or `:txn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mop {
    /// A value for a key.
    Send {
        /// The topic-partition.
        key: i64,
        /// Where it lies, if the client was told.
        offset: Option<i64>,
        /// The value.
        value: i64,
    },
    /// What one poll returned: by key, offsets (if known) and values in the order in which they came.
    Poll(Vec<(i64, Vec<Pair>)>),
}

/// An offset, if it is known, and a value.
pub type Pair = (Option<i64>, i64);

/// An invocation or a completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Where its map stands in the file, in bytes.
    pub span: Range<usize>,
    /// The client.
    pub process: i64,
    /// Invocation, or how it ended.
    pub kind: Kind,
    /// What was asked for.
    pub f: F,
    /// Of `:send`, `:poll` and `:txn`.
    pub mops: Vec<Mop>,
    /// Of `:assign` and `:subscribe`.
    pub keys: Vec<i64>,
    /// The keys that a rebalance named while it ran.
    pub rebalanced: Vec<i64>,
    /// The invocation's completion, the completion's invocation.
    pub other: usize,
}

impl Op {
    /// Whether it sends or polls.
    pub fn is_data(&self) -> bool {
        matches!(self.f, F::Send | F::Poll | F::Txn)
    }
}

/// All operations of all clients, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Invocations and completions. What was still open at the end is closed there as [`Kind::Info`].
    pub ops: Vec<Op>,
    /// How many operations stood open at the end.
    pub unclosed: usize,
}

impl History {
    /// Reads a file: maps one after the other, or one vector of them.
    pub fn parse(text: &str) -> Result<History, Problem> {
        let mut forms = Forms::new(text);
        let in_vector = forms.enter_vector();
        let mut reading = Reading::default();
        loop {
            let next = if in_vector { forms.next_in_vector() } else { forms.next_form() }?;
            match next {
                Some(node) => reading.take(text, &node)?,
                None => break,
            }
        }
        if let Some(more) = if in_vector { forms.next_form()? } else { None } {
            let text =
                format!("found {} behind the history's vector, expected the end", more.form.describe());
            return Err(Problem::new(more.span, text));
        }
        Ok(reading.finish())
    }
}

/// A history that is being read.
#[derive(Default)]
struct Reading {
    history: History,
    /// How many maps were read, those of no client included.
    maps: i64,
    /// By process: its open invocation.
    open: BTreeMap<i64, usize>,
    /// By key and value: the invocation that sends it.
    sent: BTreeMap<(i64, i64), usize>,
}

/// The keys of an operation's map that matter.
#[derive(Default)]
struct Fields<'n, 't> {
    index: Option<&'n Node<'t>>,
    process: Option<&'n Node<'t>>,
    kind: Option<&'n Node<'t>>,
    f: Option<&'n Node<'t>>,
    value: Option<&'n Node<'t>>,
    rebalance_log: Option<&'n Node<'t>>,
}

impl<'n, 't> Fields<'n, 't> {
    fn of(node: &'n Node<'t>) -> Result<Fields<'n, 't>, Problem> {
        let pairs = match &node.form {
            Form::Map(pairs) => pairs,
            Form::Tagged(_, inner) => return Fields::of(inner),
            other => {
                let text = format!(
                    "found {}, expected an operation: a map with :process, :type, :f and :value",
                    other.describe()
                );
                return Err(Problem::new(node.span.clone(), text));
            }
        };
        let mut fields = Fields::default();
        for (key, value) in pairs {
            let Form::Keyword(name) = key.form else { continue };
            let place = match name {
                "index" => &mut fields.index,
                "process" => &mut fields.process,
                "type" => &mut fields.kind,
                "f" => &mut fields.f,
                "value" => &mut fields.value,
                "rebalance-log" => &mut fields.rebalance_log,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Problem::new(key.span.clone(), format!(":{name} stands twice in one operation")));
            }
        }
        Ok(fields)
    }
}

impl Reading {
    fn take(&mut self, text: &str, node: &Node<'_>) -> Result<(), Problem> {
        let fields = Fields::of(node)?;
        if let Some(index) = fields.index.filter(|index| index.form != Form::Nil) {
            let expected = self.maps;
            if integer(index, "an :index")? != expected {
                let problem = format!("found the :index {}, expected {expected}", &text[index.span.clone()]);
                return Err(Problem::new(index.span.clone(), problem).help(
                    "indexes count the operations of a file from 0, without gaps; they may all be left out",
                ));
            }
        }
        self.maps += 1;
        let process = needed(fields.process, node, "process")?;
        // What is not a client, such as Jepsen's nemesis, is nothing to judge.
        let Form::Integer(process) = process.form else { return Ok(()) };
        let kind = word(needed(fields.kind, node, "type")?, KINDS)?;
        let f = word(needed(fields.f, node, "f")?, FUNCTIONS)?;
        let mut op = Op {
            span: node.span.clone(),
            process,
            kind,
            f,
            mops: Vec::new(),
            keys: Vec::new(),
            rebalanced: Vec::new(),
            other: usize::MAX,
        };
        match (f, fields.value) {
            (F::Send | F::Poll | F::Txn, Some(value)) if value.form != Form::Nil => {
                op.mops = mops(value, f)?;
            }
            (F::Send | F::Poll | F::Txn, _) if matches!(kind, Kind::Invoke | Kind::Ok) => {
                let problem = format!("{} has no :value", described(f, kind));
                return Err(
                    Problem::new(node.span.clone(), problem).help("such as [[:poll]] or [[:send 0 1]]")
                );
            }
            (F::Assign | F::Subscribe, Some(value)) => op.keys = keys(value)?,
            _ => {}
        }
        if let Some(log) = fields.rebalance_log {
            op.rebalanced = rebalanced(log)?;
        }
        self.pair(text, node, op)
    }

    /// Puts an invocation and its completion together.
    fn pair(&mut self, text: &str, node: &Node<'_>, mut op: Op) -> Result<(), Problem> {
        let place = self.history.ops.len();
        let line = |reading: &Reading, at: usize| line_of(text, reading.history.ops[at].span.start);
        if op.kind == Kind::Invoke {
            if let Some(&open) = self.open.get(&op.process) {
                let problem = format!(
                    "process {} begins {} while {} of line {} is open",
                    op.process,
                    function(op.f),
                    function(self.history.ops[open].f),
                    line(self, open)
                );
                return Err(Problem::new(node.span.clone(), problem)
                    .help("a process does one thing at a time; close an operation whose end is not known with :info"));
            }
            self.open.insert(op.process, place);
        } else {
            let Some(open) = self.open.remove(&op.process) else {
                let problem =
                    format!("{} of process {} ends here and never began", function(op.f), op.process);
                return Err(Problem::new(node.span.clone(), problem)
                    .help("an :invoke of this process and :f stands before"));
            };
            let began = &mut self.history.ops[open];
            if began.f != op.f {
                let problem = format!(
                    "{} of process {} ends here, and {} of line {} is open",
                    function(op.f),
                    op.process,
                    function(began.f),
                    line_of(text, began.span.start)
                );
                return Err(Problem::new(node.span.clone(), problem));
            }
            began.other = place;
            op.other = open;
            // Of what nobody heard the end, what was asked for is known.
            if op.mops.is_empty() && op.kind != Kind::Ok {
                op.mops.clone_from(&began.mops);
            }
        }
        self.sends_once(text, node, &op)?;
        self.history.ops.push(op);
        Ok(())
    }

    /// A value is sent once to a key: otherwise nobody can say whose it is that was polled.
    fn sends_once(&mut self, text: &str, node: &Node<'_>, op: &Op) -> Result<(), Problem> {
        let own = if op.kind == Kind::Invoke { self.history.ops.len() } else { op.other };
        let mut within: Vec<(i64, i64)> = Vec::new();
        for mop in &op.mops {
            let Mop::Send { key, value, .. } = *mop else { continue };
            within.push((key, value));
            let first = *self.sent.entry((key, value)).or_insert(own);
            if first != own {
                let line = line_of(text, self.history.ops[first].span.start);
                let problem = format!("the value {value} was sent to key {key} on line {line} already");
                return Err(Problem::new(node.span.clone(), problem).help(
                    "a value is sent once to a key in a whole history; retries of a client are the same send",
                ));
            }
        }
        within.sort_unstable();
        if let Some(twice) = within.windows(2).find(|pair| pair[0] == pair[1]) {
            let problem =
                format!("the value {} is sent to key {} twice in one operation", twice[0].1, twice[0].0);
            return Err(Problem::new(node.span.clone(), problem));
        }
        Ok(())
    }

    /// Closes what is open: nobody heard how it ended.
    fn finish(mut self) -> History {
        self.history.unclosed = self.open.len();
        for (_, open) in std::mem::take(&mut self.open) {
            let place = self.history.ops.len();
            let op = Op { kind: Kind::Info, other: open, ..self.history.ops[open].clone() };
            self.history.ops[open].other = place;
            self.history.ops.push(op);
        }
        self.history
    }
}

/// The line of a place in a text, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn needed<'n, 't>(field: Option<&'n Node<'t>>, op: &Node<'_>, name: &str) -> Result<&'n Node<'t>, Problem> {
    field.ok_or_else(|| {
        Problem::new(op.span.clone(), format!("an operation without :{name}"))
            .help("an operation has :process, :type, :f and, but for :crash, :value")
    })
}

/// One of some keywords.
fn word<T: Copy>(node: &Node<'_>, known: &[(&str, T)]) -> Result<T, Problem> {
    if let Form::Keyword(name) = node.form
        && let Some((_, word)) = known.iter().find(|(known, _)| *known == name)
    {
        return Ok(*word);
    }
    let all: Vec<String> = known.iter().map(|(name, _)| format!(":{name}")).collect();
    let (last, rest) = all.split_last().expect("there are some");
    let text = format!("found {}, expected {} or {last}", node.form.describe(), rest.join(", "));
    let problem = Problem::new(node.span.clone(), text);
    let near = match node.form {
        Form::Keyword(name) | Form::Symbol(name) | Form::Text(name) => {
            nearest(name, known.iter().map(|(known, _)| *known))
        }
        _ => None,
    };
    Err(match near {
        Some(near) => problem.help(format!("did you mean :{near}?")),
        None => problem,
    })
}

fn integer(node: &Node<'_>, what: &str) -> Result<i64, Problem> {
    match node.form {
        Form::Integer(number) => Ok(number),
        ref other => {
            let text = format!("found {}, expected {what}: a whole number of 64 bits", other.describe());
            Err(Problem::new(node.span.clone(), text))
        }
    }
}

fn sequence<'n, 't>(node: &'n Node<'t>, what: &str) -> Result<&'n [Node<'t>], Problem> {
    match &node.form {
        Form::Vector(all) | Form::List(all) => Ok(all),
        other => {
            let text = format!("found {}, expected {what}", other.describe());
            Err(Problem::new(node.span.clone(), text))
        }
    }
}

fn mops(value: &Node<'_>, f: F) -> Result<Vec<Mop>, Problem> {
    let all = sequence(value, "a vector of [:send key value] and [:poll …]")?;
    let mut mops = Vec::with_capacity(all.len());
    for node in all {
        let parts = sequence(node, "[:send key value] or [:poll …]")?;
        let Some((name, rest)) = parts.split_first() else {
            return Err(Problem::new(
                node.span.clone(),
                "found an empty vector, expected [:send key value] or [:poll …]",
            ));
        };
        let function = word(name, &[("send", F::Send), ("poll", F::Poll)])?;
        if f != F::Txn && f != function {
            let text = format!("found {} in {}, which has none", name.form.describe(), self::function(f));
            return Err(Problem::new(name.span.clone(), text).help("an operation that does both is a :txn"));
        }
        mops.push(if function == F::Send { send(node, rest)? } else { poll(node, rest)? });
    }
    Ok(mops)
}

fn send(node: &Node<'_>, rest: &[Node<'_>]) -> Result<Mop, Problem> {
    let [key, value] = rest else {
        let text = format!(
            "found a :send of {} parts, expected [:send key value] or [:send key [offset value]]",
            rest.len()
        );
        return Err(Problem::new(node.span.clone(), text));
    };
    let key = integer(key, "a key")?;
    let (offset, value) = match value.form {
        Form::Integer(value) => (None, value),
        _ => pair(value)?,
    };
    Ok(Mop::Send { key, offset, value })
}

fn poll(node: &Node<'_>, rest: &[Node<'_>]) -> Result<Mop, Problem> {
    let map = match rest {
        [] => return Ok(Mop::Poll(Vec::new())),
        [map] => map,
        _ => {
            let text = format!(
                "found a :poll of {} parts, expected [:poll] or [:poll {{key [[offset value] …]}}]",
                rest.len()
            );
            return Err(Problem::new(node.span.clone(), text));
        }
    };
    let pairs = match &map.form {
        Form::Map(pairs) => pairs,
        Form::Nil => return Ok(Mop::Poll(Vec::new())),
        other => {
            let text =
                format!("found {}, expected what was polled: {{key [[offset value] …]}}", other.describe());
            return Err(Problem::new(map.span.clone(), text));
        }
    };
    let mut polled: Vec<(i64, Vec<Pair>)> = Vec::with_capacity(pairs.len());
    let mut known = std::collections::BTreeSet::new();
    for (key, values) in pairs {
        let number = integer(key, "a key")?;
        if !known.insert(number) {
            return Err(Problem::new(key.span.clone(), format!("the key {number} stands twice in one poll")));
        }
        let values = sequence(values, "a vector of [offset value]")?;
        polled.push((number, values.iter().map(pair).collect::<Result<_, _>>()?));
    }
    Ok(Mop::Poll(polled))
}

fn pair(node: &Node<'_>) -> Result<Pair, Problem> {
    let parts = sequence(node, "[offset value]")?;
    let [offset, value] = parts else {
        let text = format!("found a vector of {}, expected [offset value]", parts.len());
        return Err(Problem::new(node.span.clone(), text));
    };
    let place = match offset.form {
        Form::Nil => None,
        _ => Some(integer(offset, "an offset or nil")?),
    };
    if place.is_some_and(|offset| offset < 0) {
        let text =
            format!("found {}, expected an offset that is not negative, or nil", offset.form.describe());
        return Err(Problem::new(offset.span.clone(), text));
    }
    Ok((place, integer(value, "a value")?))
}

fn keys(value: &Node<'_>) -> Result<Vec<i64>, Problem> {
    match &value.form {
        Form::Nil => Ok(Vec::new()),
        Form::Set(all) | Form::Vector(all) | Form::List(all) => {
            all.iter().map(|key| integer(key, "a key")).collect()
        }
        other => {
            let text = format!("found {}, expected a vector of keys", other.describe());
            Err(Problem::new(value.span.clone(), text))
        }
    }
}

fn rebalanced(log: &Node<'_>) -> Result<Vec<i64>, Problem> {
    if log.form == Form::Nil {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for entry in sequence(log, "a vector of {:keys [key …]}")? {
        let Form::Map(pairs) = &entry.form else {
            let text = format!("found {}, expected {{:keys [key …]}}", entry.form.describe());
            return Err(Problem::new(entry.span.clone(), text));
        };
        for (_, value) in pairs.iter().filter(|(key, _)| key.form == Form::Keyword("keys")) {
            all.extend(keys(value)?);
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The keyword of a function.
pub fn function(f: F) -> String {
    let known = FUNCTIONS.iter().find(|(_, known)| *known == f);
    known.map_or(String::new(), |(name, _)| format!(":{name}"))
}

fn described(f: F, kind: Kind) -> String {
    let known = KINDS.iter().find(|(_, known)| *known == kind);
    known.map_or(String::new(), |(name, _)| format!(":{name} of {}", function(f)))
}
