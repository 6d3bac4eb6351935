//! From a checked tree to the types of a scenario: names, references, and what no table can say.

use std::collections::BTreeSet;
use std::ops::Range;

use super::expect;
use super::format::{ATTACK_WORDS, CLIENT_KINDS, STEP_COMMON, VERBS, companions};
use super::nearest::{nearest, suggestion};
use super::settings::{Whose, settings};
use super::tree::{Kind, Problem, Tree};
use super::units::{self, Duration, DurationRange};
use super::*;
use crate::runner::hostile::frames::ATTACKS;
use crate::world::Between;

// What is read and checked, but cannot be run before the coordinators exist.

/// Names that are known while steps are read.
pub(super) struct Names<'a> {
    pub nodes: Vec<String>,
    pub clients: Vec<String>,
    pub topics: Vec<String>,
    pub kept: BTreeSet<String>,
    pub background: BTreeSet<String>,
    pub snapshots: BTreeSet<String>,
    /// Every node's log directories.
    pub log_dirs: Vec<(String, Vec<String>)>,
    pub text: &'a str,
    pub variants: &'a [String],
    pub warnings: Vec<String>,
}

/// Builds the scenario of a tree that has the right shape.
pub(super) fn scenario(
    root: &Tree,
    name: &str,
    text: &str,
    variant: Option<&str>,
    variants: &[String],
) -> Result<Scenario, Problem> {
    let cluster = cluster(root.field("cluster").expect("checked"))?;
    let topics = topics(root, &cluster)?;
    let clients = clients(root, &cluster)?;
    let mut names = Names {
        nodes: cluster.nodes.iter().map(|n| n.name.clone()).collect(),
        clients: clients.iter().flat_map(|c| std::iter::once(c.name.clone()).chain(c.processes())).collect(),
        topics: topics.iter().map(|t| t.name.clone()).collect(),
        kept: BTreeSet::new(),
        background: BTreeSet::new(),
        snapshots: BTreeSet::new(),
        log_dirs: cluster.nodes.iter().map(|n| (n.name.clone(), cluster.log_dirs(n))).collect(),
        text,
        variants,
        warnings: Vec::new(),
    };
    near_misses(root, &mut names);
    let steps = steps(root.field("steps").expect("checked").one_or_many(), &mut names, variant)?;
    let finally = finally(root.field("finally"), &mut names)?;
    let words = |key: &str| root.field(key).and_then(Tree::text).map(str::to_owned);
    Ok(Scenario {
        name: name.to_owned(),
        variant: variant.map(str::to_owned),
        title: words("title").expect("checked"),
        about: words("about"),
        from: words("from"),
        cluster,
        topics,
        clients,
        steps,
        finally,
        sometimes: sometimes(root.field("sometimes"))?,
        limit: root.field("limit").map_or(Duration(3_600_000_000_000), duration_of),
        warnings: names.warnings,
        swarm: None,
        drawn: Vec::new(),
    })
}

/// Names of domain events.
fn sometimes(tree: Option<&Tree>) -> Result<Vec<String>, Problem> {
    let known = crate::runner::coverage::kinds();
    for name in tree.map_or(&[][..], Tree::one_or_many) {
        let text = name.text().expect("checked");
        if !known.contains(&text) {
            let problem = Problem::new(name.span.clone(), format!("there is no domain event \"{text}\""));
            let help = match nearest(text, known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "a sweep lists those that it saw and those that it did not".to_owned(),
            };
            return Err(problem.help(help));
        }
    }
    Ok(texts_of(tree))
}

// --- small readers of checked values

pub(super) fn duration_of(tree: &Tree) -> Duration {
    tree.text().and_then(units::duration).expect("a checked duration")
}

fn range_of(tree: &Tree) -> DurationRange {
    tree.text().and_then(units::duration_range).expect("a checked range of durations")
}

fn texts_of(tree: Option<&Tree>) -> Vec<String> {
    tree.map_or_else(Vec::new, |t| {
        t.one_or_many().iter().filter_map(|t| t.text().map(str::to_owned)).collect()
    })
}

fn size_of(tree: &Tree) -> u64 {
    tree.integer().map(|n| n as u64).or_else(|| tree.text().and_then(units::size)).expect("a checked size")
}

pub(super) fn scalar_of(tree: &Tree) -> String {
    match &tree.kind {
        Kind::Text(t) | Kind::Number(t) => t.clone(),
        Kind::Bool(b) => b.to_string(),
        _ => String::new(),
    }
}

fn direction_of(tree: Option<&Tree>) -> Direction {
    match tree.and_then(Tree::text) {
        Some("forth") => Direction::Forth,
        Some("back") => Direction::Back,
        _ => Direction::Both,
    }
}

/// `purchases-0` as a topic and a partition.
pub(super) fn partition_of(text: &str, span: &Range<usize>) -> Result<(String, i32), Problem> {
    text.rsplit_once('-')
        .and_then(|(topic, n)| Some((topic, n.parse::<i32>().ok()?)))
        .filter(|(topic, n)| !topic.is_empty() && *n >= 0)
        .map(|(topic, n)| (topic.to_owned(), n))
        .ok_or_else(|| {
            Problem::new(
                span.clone(),
                format!("\"{text}\" is not a partition, expected one such as \"purchases-0\""),
            )
        })
}

// --- the cluster

fn cluster(tree: &Tree) -> Result<Cluster, Problem> {
    let combined = tree.field("controllers").and_then(Tree::text) == Some("combined");
    let brokers = node_list(tree.field("brokers").expect("checked"), 1)?;
    let mut nodes: Vec<NodeDef> = Vec::new();
    for (id, span, def) in brokers {
        push_node(&mut nodes, id, span, def, true, combined)?;
    }
    if !combined {
        let controllers = match tree.field("controllers") {
            Some(list) => node_list(list, 101)?,
            None => vec![(101, tree.span.clone(), None)],
        };
        for (id, span, def) in controllers {
            push_node(&mut nodes, id, span, def, false, true)?;
        }
    }
    nodes.sort_by_key(|n| n.id);
    for (part, what) in [(true, "brokers"), (false, "controllers")] {
        let any = nodes.iter().any(|n| if part { n.broker } else { n.controller });
        if !any {
            return Err(Problem::new(
                tree.span.start..tree.span.start + 1,
                format!("a cluster without {what}, expected at least one"),
            ));
        }
    }
    let config = settings(tree.field("config"), Whose::Node)?;
    voters(tree, &nodes, &config)?;
    Ok(Cluster {
        nodes,
        config,
        network: link_settings(tree.field("network")),
        host: host_cost(tree.field("host")),
        mutants: mutants(tree.field("mutants"))?,
    })
}

/// Controllers that do not vote can only be where the voters are in the log.
fn voters(tree: &Tree, nodes: &[NodeDef], config: &BTreeMap<String, String>) -> Result<(), Problem> {
    let span = tree.span.start..tree.span.start + 1;
    if !nodes.iter().any(|n| n.voter) {
        return Err(Problem::new(span, "a cluster without voters, expected at least one".to_owned()));
    }
    let dynamic = config.contains_key(BOOTSTRAP_SERVERS);
    match nodes.iter().find(|n| n.controller && !n.voter) {
        Some(node) if !dynamic => {
            let text = format!("{} cannot join a quorum whose voters are fixed", node.name);
            let help = format!("name controllers to ask in cluster.config, as \"{BOOTSTRAP_SERVERS}\"");
            Err(Problem::new(span, text).help(help))
        }
        _ => Ok(()),
    }
}

fn mutants(tree: Option<&Tree>) -> Result<Vec<Mutant>, Problem> {
    let find = |item: &Tree| {
        Mutant::find(item.text().expect("checked"))
            .map_err(|refused| Problem::new(item.span.clone(), refused.text).help(refused.help))
    };
    tree.map_or(&[][..], Tree::one_or_many).iter().map(find).collect()
}

type NodeEntry<'a> = (i32, Range<usize>, Option<&'a Tree>);

fn node_list(tree: &Tree, first: i32) -> Result<Vec<NodeEntry<'_>>, Problem> {
    match &tree.kind {
        Kind::Number(_) => {
            let count = tree.integer().expect("checked") as i32;
            Ok((0..count).map(|i| (first + i, tree.span.clone(), None)).collect())
        }
        Kind::List(items) => {
            Ok(items.iter().map(|i| (i.integer().expect("checked") as i32, i.span.clone(), None)).collect())
        }
        _ => tree
            .entries()
            .iter()
            .map(|e| match e.key.parse::<i32>() {
                Ok(id) if id >= 0 => Ok((id, e.key_span.clone(), Some(&e.value))),
                _ => Err(Problem::new(
                    e.key_span.clone(),
                    format!("\"{}\" is not a node id, expected a whole number such as \"1\"", e.key),
                )),
            })
            .collect(),
    }
}

fn push_node(
    nodes: &mut Vec<NodeDef>,
    id: i32,
    span: Range<usize>,
    def: Option<&Tree>,
    broker: bool,
    controller: bool,
) -> Result<(), Problem> {
    let name = if broker { format!("broker-{id}") } else { format!("controller-{id}") };
    if let Some(other) = nodes.iter().find(|n| n.id == id) {
        let text = format!("two nodes of one id: {name} would have the id {id} of {}", other.name);
        return Err(Problem::new(span, text).help("ids are unique across brokers and controllers"));
    }
    let voter = def.and_then(|d| d.field("voter"));
    if let Some(tree) = voter.filter(|_| !controller) {
        let text = format!("{name} has not the controller role: it never votes");
        return Err(Problem::new(tree.span.clone(), text));
    }
    nodes.push(NodeDef {
        name,
        id,
        broker,
        controller,
        voter: controller && voter.and_then(Tree::boolean).unwrap_or(true),
        rack: def.and_then(|d| d.field("rack")).and_then(Tree::text).map(str::to_owned),
        config: settings(def.and_then(|d| d.field("config")), Whose::Node)?,
    });
    Ok(())
}

fn share_of(tree: &Tree) -> f64 {
    scalar_of(tree).parse().expect("a checked share")
}

fn link_settings(tree: Option<&Tree>) -> LinkSettings {
    let field = |key: &str| tree.and_then(|t| t.field(key));
    LinkSettings {
        latency: field("latency").map(range_of),
        bandwidth: field("bandwidth").and_then(Tree::text).and_then(units::bandwidth),
        loss: field("loss").map(share_of),
        tail: field("tail").map(|t| {
            (share_of(t.field("share").expect("checked")), range_of(t.field("latency").expect("checked")))
        }),
        connect: field("connect").map(range_of),
    }
}

fn host_cost(tree: Option<&Tree>) -> HostCost {
    let field = |key: &str| tree.and_then(|t| t.field(key));
    let range = |key: &str, low: u64, high: u64| {
        field(key).map_or(DurationRange { low: Duration(low), high: Duration(high) }, range_of)
    };
    HostCost {
        request: field("request").map_or(Duration(10_000), duration_of),
        per_kib: field("per_kib").map_or(Duration(1_000), duration_of),
        fsync: range("fsync", 200_000, 2_000_000),
        start: range("start", 300_000_000, 600_000_000),
    }
}

// --- topics and clients

fn topics(root: &Tree, cluster: &Cluster) -> Result<Vec<Topic>, Problem> {
    let brokers = cluster.brokers();
    let mut topics: Vec<Topic> = Vec::new();
    for tree in root.field("topics").map_or(&[][..], Tree::one_or_many) {
        let name_tree = tree.field("name").expect("checked");
        let name = name_tree.text().expect("checked").to_owned();
        topic_name(&name).map_err(|why| Problem::new(name_tree.span.clone(), why))?;
        if topics.iter().any(|t| t.name == name) {
            return Err(Problem::new(name_tree.span.clone(), format!("two topics are called \"{name}\"")));
        }
        let assignment = tree.field("assignment").map(|a| assignment(a, &brokers)).transpose()?;
        if let (Some(_), Some(other)) =
            (&assignment, tree.field("partitions").or_else(|| tree.field("replication_factor")))
        {
            return Err(Problem::new(
                other.span.clone(),
                "found this beside assignment, which says it already",
            )
            .help("leave one of the two out"));
        }
        let factor = match (&assignment, tree.field("replication_factor")) {
            (Some(assignment), _) => assignment[0].len() as i64,
            (None, Some(factor)) => factor.integer().expect("checked"),
            (None, None) => 1,
        };
        if factor > brokers.len() as i64 {
            let span = tree.field("replication_factor").map_or(tree.span.clone(), |t| t.span.clone());
            let text = format!(
                "replication factor {factor} of \"{name}\" is above the number of brokers, {}",
                brokers.len()
            );
            return Err(Problem::new(span, text).help(format!("expected at most {}", brokers.len())));
        }
        topics.push(Topic {
            partitions: match &assignment {
                Some(assignment) => assignment.len() as i32,
                None => tree.field("partitions").map_or(1, |p| p.integer().expect("checked") as i32),
            },
            replication_factor: factor as i16,
            assignment,
            config: settings(tree.field("config"), Whose::Topic)?,
            name,
        });
    }
    Ok(topics)
}

/// Kafka's rules for a topic's name.
fn topic_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "." || name == ".." || name.len() > 249 || !name.chars().all(legal) {
        return Err(format!(
            "\"{name}\" is not a topic name: expected 1 to 249 ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

fn assignment(tree: &Tree, brokers: &[i32]) -> Result<Vec<Vec<i32>>, Problem> {
    let mut all: Vec<Vec<i32>> = Vec::new();
    for row in tree.one_or_many() {
        let mut replicas: Vec<i32> = Vec::new();
        for id in row.one_or_many() {
            let broker = id.integer().expect("checked") as i32;
            if !brokers.contains(&broker) {
                let known: Vec<String> = brokers.iter().map(i32::to_string).collect();
                return Err(Problem::new(id.span.clone(), format!("there is no broker {broker}"))
                    .help(format!("brokers: {}", known.join(", "))));
            }
            if replicas.contains(&broker) {
                return Err(Problem::new(
                    id.span.clone(),
                    format!("broker {broker} stands twice among the replicas of a partition"),
                ));
            }
            replicas.push(broker);
        }
        if replicas.is_empty() || all.first().is_some_and(|first| first.len() != replicas.len()) {
            return Err(Problem::new(
                row.span.clone(),
                "expected the same number of replicas, at least one, for every partition",
            ));
        }
        all.push(replicas);
    }
    if all.is_empty() {
        return Err(Problem::new(
            tree.span.clone(),
            "found no partition, expected at least one such as [1, 2, 3]",
        ));
    }
    Ok(all)
}

fn clients(root: &Tree, cluster: &Cluster) -> Result<Vec<Client>, Problem> {
    let mut clients = Vec::new();
    for entry in root.field("clients").map_or(&[][..], Tree::entries) {
        let reserved = ["brokers", "controllers", "lab", "rest", "all", "everything", "none"];
        if reserved.contains(&entry.key.as_str())
            || cluster.nodes.iter().any(|n| n.name == entry.key)
            || entry.key.is_empty()
        {
            return Err(Problem::new(
                entry.key_span.clone(),
                format!("\"{}\" cannot be a client's name: it means something else", entry.key),
            ));
        }
        let kinds = entry.value.entries();
        let [kind] = kinds else {
            return Err(Problem::new(
                entry.value.span.clone(),
                format!(
                    "found {} kinds of client, expected exactly one of {}",
                    kinds.len(),
                    CLIENT_KINDS.join(", ")
                ),
            ));
        };
        clients.push(client(&entry.key, &kind.key, &kind.value, cluster)?);
    }
    Ok(clients)
}

fn client(name: &str, kind: &str, tree: &Tree, cluster: &Cluster) -> Result<Client, Problem> {
    let text = |key: &str| tree.field(key).and_then(Tree::text).map(str::to_owned);
    let number = |key: &str| tree.field(key).and_then(Tree::integer);
    let processing = tree.field("processing").map_or(Duration(0), duration_of);
    if let Some(rate) = tree.field("rate")
        && rate.text().and_then(units::rate) == Some(0.0)
    {
        return Err(Problem::new(
            rate.span.clone(),
            "a producer of no messages, expected a rate such as \"100/s\"",
        )
        .help("a client with \"start\": \"later\" waits for a step to start it"));
    }
    let whose = match kind {
        "consumer" => client::config::ClientKind::Consumer,
        "admin" => client::config::ClientKind::Admin,
        _ => client::config::ClientKind::Producer,
    };
    let whose = if kind == "transactional" { Whose::Both } else { Whose::Client(whose) };
    let config = settings(tree.field("config"), whose)?;
    let kind = match kind {
        "producer" => ClientKind::Producer {
            topic: text("topic").expect("checked"),
            rate: text("rate").map_or(10.0, |r| units::rate(&r).expect("checked")),
            count: number("count").map(|n| n as u64),
            keys: number("keys").unwrap_or(0) as u64,
            size: tree.field("size").map_or(100, |s| size_of(s).min(u64::from(u32::MAX)) as u32),
            partition: number("partition").map(|p| p as i32),
        },
        "consumer" => consumer(tree, processing)?,
        "transactional" => ClientKind::Transactional {
            from: text("from").expect("checked"),
            to: text("to").expect("checked"),
            group: text("group").expect("checked"),
            transaction_size: number("transaction_size").unwrap_or(1) as u32,
            abort_every: number("abort_every").unwrap_or(0) as u32,
            processing,
        },
        "hostile" => hostile(tree, cluster)?,
        _ => {
            let line = tree.field("command").expect("checked");
            ClientKind::Admin {
                every: range_of(tree.field("every").expect("checked")),
                command: line.text().expect("checked").to_owned(),
                words: super::command::tool_words(line)?,
            }
        }
    };
    Ok(Client {
        name: name.to_owned(),
        config,
        later: text("start").as_deref() == Some("later"),
        instances: number("instances").unwrap_or(1) as u32,
        rack: text("rack"),
        kind,
    })
}

fn hostile(tree: &Tree, cluster: &Cluster) -> Result<ClientKind, Problem> {
    let mut targets = Vec::new();
    for target in tree.field("targets").map_or(&[][..], Tree::one_or_many) {
        let name = target.text().expect("checked");
        let nodes = cluster.nodes.iter().filter(|n| match name {
            "brokers" => n.broker,
            "controllers" => n.controller,
            name => n.name == name,
        });
        let before = targets.len();
        targets.extend(nodes.map(|n| n.name.clone()));
        if targets.len() == before {
            let known: Vec<&str> = cluster.nodes.iter().map(|n| n.name.as_str()).collect();
            let problem = Problem::new(target.span.clone(), format!("there is no node \"{name}\""));
            return Err(match suggestion(name, &known) {
                Some(help) => problem.help(help),
                None => problem,
            });
        }
    }
    if targets.is_empty() {
        targets = cluster.nodes.iter().filter(|n| n.broker).map(|n| n.name.clone()).collect();
    }
    let word = |t: &Tree| t.text().and_then(|w| ATTACK_WORDS.iter().position(|known| *known == w));
    let sends = tree.field("sends").map_or(&[][..], Tree::one_or_many);
    Ok(ClientKind::Hostile {
        rate: tree.field("rate").and_then(Tree::text).map_or(20.0, |r| units::rate(r).expect("checked")),
        count: tree.field("count").and_then(Tree::integer).map(|n| n as u64),
        targets,
        sends: sends.iter().filter_map(word).map(|at| ATTACKS[at]).collect(),
    })
}

fn consumer(tree: &Tree, processing: Duration) -> Result<ClientKind, Problem> {
    let mut partitions = Vec::new();
    for p in tree.field("partitions").map_or(&[][..], Tree::one_or_many) {
        partitions.push(partition_of(p.text().expect("checked"), &p.span)?);
    }
    let topics = texts_of(tree.field("topics"));
    if topics.is_empty() == partitions.is_empty() {
        return Err(Problem::new(
            tree.span.start..tree.span.start + 1,
            "a consumer needs either topics with group, or partitions",
        ));
    }
    if !topics.is_empty() && tree.field("group").is_none() {
        return Err(Problem::new(
            tree.span.start..tree.span.start + 1,
            "a consumer with topics needs a group",
        )
        .help("or name partitions such as \"purchases-0\""));
    }
    let from = match tree.field("from") {
        None => From::Reset,
        Some(from) if partitions.is_empty() => {
            return Err(Problem::new(
                from.span.clone(),
                "found from in a group's consumer, where committed offsets say where to begin",
            )
            .help("for a new group set config auto.offset.reset"));
        }
        Some(from) => match from.text() {
            Some("beginning") => From::Beginning,
            Some(_) => From::End,
            None => From::Offsets(
                from.entries()
                    .iter()
                    .map(|e| Ok((partition_of(&e.key, &e.key_span)?, e.value.integer().expect("checked"))))
                    .collect::<Result<_, Problem>>()?,
            ),
        },
    };
    let commit = match tree.field("commit").and_then(Tree::text) {
        Some("before") => Commit::Before,
        Some("after") => Commit::After,
        Some("none") => Commit::None,
        _ => Commit::Auto,
    };
    let group = tree.field("group").and_then(Tree::text).map(str::to_owned);
    Ok(ClientKind::Consumer { topics, group, partitions, from, processing, commit })
}

/// Topics that clients name and that are nearly, but not quite, declared ones: a warning, since a command may make them.
fn near_misses(root: &Tree, names: &mut Names<'_>) {
    let mut used: Vec<String> = Vec::new();
    for entry in root.field("clients").map_or(&[][..], Tree::entries) {
        for kind in entry.value.entries() {
            for key in ["topic", "topics", "from", "to"] {
                used.extend(
                    texts_of(kind.value.field(key)).into_iter().filter(|t| t != "beginning" && t != "end"),
                );
            }
            used.extend(
                texts_of(kind.value.field("partitions"))
                    .iter()
                    .filter_map(|p| p.rsplit_once('-'))
                    .map(|(t, _)| t.to_owned()),
            );
        }
    }
    for topic in used {
        names.topic_used(&topic);
    }
}

impl Names<'_> {
    pub(super) fn topic_used(&mut self, topic: &str) {
        if self.topics.iter().any(|t| t == topic) {
            return;
        }
        if let Some(near) = nearest(topic, self.topics.iter().map(String::as_str)) {
            let warning = format!("the topic \"{topic}\" is not declared; did you mean \"{near}\"?");
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    fn line(&self, at: usize) -> usize {
        self.text[..at.min(self.text.len())].bytes().filter(|&b| b == b'\n').count() + 1
    }
}

// --- steps

fn steps(trees: &[Tree], names: &mut Names<'_>, variant: Option<&str>) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let (only, not_in) = (variants_of(tree, "only", names)?, variants_of(tree, "not_in", names)?);
        let step = step(index, tree, names, variant)?;
        let here = |list: &[String]| variant.is_some_and(|v| list.iter().any(|l| l == v));
        if (only.is_empty() || here(&only)) && !here(&not_in) {
            steps.push(step);
        }
    }
    Ok(steps)
}

fn variants_of(tree: &Tree, key: &str, names: &Names<'_>) -> Result<Vec<String>, Problem> {
    for item in tree.field(key).map_or(&[][..], Tree::one_or_many) {
        let name = item.text().expect("checked");
        if !names.variants.iter().any(|v| v == name) {
            let known: Vec<&str> = names.variants.iter().map(String::as_str).collect();
            let problem = Problem::new(item.span.clone(), format!("there is no variant \"{name}\""));
            return Err(match suggestion(name, &known) {
                Some(help) => problem.help(help),
                None => problem,
            });
        }
    }
    Ok(texts_of(tree.field(key)))
}

pub(super) fn step(
    index: usize,
    tree: &Tree,
    names: &mut Names<'_>,
    variant: Option<&str>,
) -> Result<Step, Problem> {
    let verb_entry = verb_of(tree)?;
    let (word, value) = (verb_entry.key.as_str(), &verb_entry.value);
    for entry in tree.entries() {
        let known = entry.key == word
            || STEP_COMMON.contains(&entry.key.as_str())
            || companions(word).contains(&entry.key.as_str());
        if !known {
            let mut goes: Vec<&str> = companions(word).to_vec();
            goes.extend(STEP_COMMON);
            return Err(Problem::new(
                entry.key_span.clone(),
                format!("\"{}\" does not go with \"{word}\"", entry.key),
            )
            .help(format!("beside \"{word}\" may stand: {}", goes.join(", "))));
        }
    }
    let text = |key: &str| tree.field(key).and_then(Tree::text).map(str::to_owned);
    let verb = verb(word, value, tree, names, variant)?;
    let keep_as = text("as");
    if let Some(name) = &keep_as {
        names.kept.insert(name.clone());
    }
    Ok(Step {
        index,
        line: names.line(tree.span.start),
        verb,
        note: text("note"),
        section: text("section"),
        label: text("label"),
        keep_as,
        covered: tree.field("covered").and_then(Tree::boolean).unwrap_or(false),
    })
}

/// The one verb of a step.
fn verb_of(tree: &Tree) -> Result<&super::tree::Entry, Problem> {
    let is_companion = |e: &super::tree::Entry| e.key == "wait" && matches!(e.value.kind, Kind::Bool(_));
    let mut verbs = tree.entries().iter().filter(|e| VERBS.contains(&e.key.as_str()) && !is_companion(e));
    let start = tree.span.start..tree.span.start + 1;
    match (verbs.next(), verbs.next()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(two)) => Err(Problem::new(
            two.key_span.clone(),
            format!("a step with two verbs, \"{}\" and \"{}\"; expected exactly one", one.key, two.key),
        )
        .help("two steps without a wait between them happen at the same instant, in order")),
        (None, _) => {
            Err(Problem::new(start, "a step without a verb").help(format!("verbs: {}", VERBS.join(", "))))
        }
    }
}

fn verb(
    word: &str,
    value: &Tree,
    step: &Tree,
    names: &mut Names<'_>,
    variant: Option<&str>,
) -> Result<Verb, Problem> {
    Ok(match word {
        "wait" => Verb::Wait(range_of_wait(value)?),
        "command" => Verb::Command(Box::new(super::command::command(value, step, names)?)),
        "kill" => Verb::Kill(whom(value, names)?),
        "stop" => Verb::Stop(whom(value, names)?, step.field("wait").and_then(Tree::boolean).unwrap_or(true)),
        "power_off" => Verb::PowerOff(
            only_nodes(whom(value, names)?, value, names)?,
            match step.field("unsynced").and_then(Tree::text) {
                Some("lost") => Unsynced::Lost,
                Some("kept") => Unsynced::Kept,
                _ => Unsynced::ByChance,
            },
        ),
        "pause" => Verb::Pause(whom(value, names)?),
        "resume" => Verb::Resume(whom(value, names)?),
        "start" => Verb::Start(whom(value, names)?),
        "wipe" => Verb::Wipe(only_nodes(vec![who(value, names)?], value, names)?.remove(0)),
        "snapshot" => Verb::Snapshot(snapshot(value, names)?),
        "restore" => Verb::Restore(restore(value, names)?),
        "cut" => Verb::Cut(cut(value, names)?),
        "reset" => Verb::Reset(cut(value, names)?),
        "names" => Verb::Names(names_fault(value, names)?),
        "heal" => Verb::Heal(match value.text() {
            Some("all") => Heal::All,
            Some(_) => Heal::Everything,
            None => Heal::Between(cut(value, names)?),
        }),
        "link" => Verb::Link(link(value, names)?),
        "disk" => Verb::Disk(disk(value, names)?),
        "clock" => Verb::Clock(clock(value, names)?),
        "chaos" => Verb::Chaos(Box::new(super::chaos::chaos(value)?)),
        "expect" => {
            Verb::Expect(Box::new(expect::expect(value, step.field("within"), step.field("for"), names)?))
        }
        "repeat" => Verb::Repeat(repeat(value, names, variant)?),
        other => unreachable!("{other} is not among VERBS"),
    })
}

fn range_of_wait(tree: &Tree) -> Result<DurationRange, Problem> {
    tree.text().and_then(units::duration_range).ok_or_else(|| {
        Problem::new(
            tree.span.clone(),
            format!(
                "found {}, expected a duration such as \"10s\" or a range such as \"1s..5s\"",
                tree.what()
            ),
        )
    })
}

pub(super) fn who(tree: &Tree, names: &mut Names<'_>) -> Result<Who, Problem> {
    if let Some(name) = tree.text() {
        known_name(name, tree, names)?;
        return Ok(Who::Name(name.to_owned()));
    }
    if let Some(id) = tree.integer() {
        return Ok(Who::Name(id.to_string()));
    }
    let [entry] = tree.entries() else {
        return Err(Problem::new(tree.span.clone(), "a node reference has exactly one key")
            .help("one of leader_of, follower_of, coordinator_of, controller"));
    };
    let text = entry.value.text().expect("checked");
    Ok(match entry.key.as_str() {
        "leader_of" | "follower_of" => {
            let (topic, partition) = partition_of(text, &entry.value.span)?;
            names.topic_used(&topic);
            if entry.key == "leader_of" {
                Who::LeaderOf(topic, partition)
            } else {
                Who::FollowerOf(topic, partition)
            }
        }
        "coordinator_of" => Who::CoordinatorOf(text.to_owned()),
        _ => Who::ActiveController,
    })
}

fn known_name(name: &str, tree: &Tree, names: &Names<'_>) -> Result<(), Problem> {
    let special = ["brokers", "controllers"];
    let mut known: Vec<&str> = names
        .nodes
        .iter()
        .chain(&names.clients)
        .chain(&names.kept)
        .chain(&names.background)
        .map(String::as_str)
        .collect();
    known.extend(special);
    if known.contains(&name) {
        return Ok(());
    }
    let problem = Problem::new(tree.span.clone(), format!("there is no node or client \"{name}\""));
    Err(match suggestion(name, &known) {
        Some(help) => problem.help(help),
        None => problem,
    })
}

fn whom(tree: &Tree, names: &mut Names<'_>) -> Result<Vec<Who>, Problem> {
    let all: Vec<Who> = tree.one_or_many().iter().map(|t| who(t, names)).collect::<Result<_, _>>()?;
    if all.is_empty() {
        return Err(Problem::new(tree.span.clone(), "found an empty list, expected at least one name"));
    }
    Ok(all)
}

/// A client has no disk and no power of its own.
fn only_nodes(all: Vec<Who>, tree: &Tree, names: &Names<'_>) -> Result<Vec<Who>, Problem> {
    for who in &all {
        if let Who::Name(name) = who
            && names.clients.contains(name)
        {
            return Err(Problem::new(tree.span.clone(), format!("\"{name}\" is a client, expected a node"))
                .help("kill ends a client"));
        }
    }
    Ok(all)
}

/// One side of a cut or a link: `lab` and `rest` are known there too.
fn side(tree: &Tree, names: &mut Names<'_>) -> Result<Vec<Who>, Problem> {
    tree.one_or_many()
        .iter()
        .map(|t| match t.text() {
            Some(word @ ("lab" | "rest")) => Ok(Who::Name(word.to_owned())),
            _ => who(t, names),
        })
        .collect()
}

/// Nothing lies between a host and itself.
fn not_itself(a: &[Who], b: &[Who], tree: &Tree) -> Result<(), Problem> {
    let groups = ["brokers", "controllers", "rest"];
    match (a, b) {
        ([Who::Name(one)], [Who::Name(other)]) if one == other && !groups.contains(&one.as_str()) => {
            Err(Problem::new(tree.span.clone(), format!("both sides are {one}: nothing lies between them"))
                .help("\"rest\" is everybody else"))
        }
        _ => Ok(()),
    }
}

fn cut(tree: &Tree, names: &mut Names<'_>) -> Result<Cut, Problem> {
    let [first, second] = tree.field("between").expect("checked").one_or_many() else {
        unreachable!("checked: two sides")
    };
    let (a, b) = (side(first, names)?, side(second, names)?);
    not_itself(&a, &b, second)?;
    Ok(Cut {
        a,
        b,
        direction: direction_of(tree.field("direction")),
        reset: tree.field("reset").and_then(Tree::boolean).unwrap_or(false),
        jam: tree.field("jam").and_then(Tree::boolean).unwrap_or(false),
    })
}

fn names_fault(tree: &Tree, names: &mut Names<'_>) -> Result<NamesFault, Problem> {
    let mut hosts = |key: &str| match tree.field(key) {
        Some(hosts) => side(hosts, names),
        None => Ok(Vec::new()),
    };
    Ok(NamesFault {
        at: hosts("at")?,
        of: hosts("of")?,
        resolved: tree.field("fault").and_then(Tree::text) == Some("none"),
    })
}

fn snapshot(tree: &Tree, names: &mut Names<'_>) -> Result<Snapshot, Problem> {
    let name = tree.field("name").and_then(Tree::text).expect("checked").to_owned();
    names.snapshots.insert(name.clone());
    Ok(Snapshot { node: one_node(tree.field("node").expect("checked"), names)?, name })
}

fn restore(tree: &Tree, names: &mut Names<'_>) -> Result<Restore, Problem> {
    let from = match (tree.field("snapshot"), tree.field("from")) {
        (Some(snapshot), None) => {
            let name = snapshot.text().expect("checked");
            if !names.snapshots.contains(name) {
                let known: Vec<&str> = names.snapshots.iter().map(String::as_str).collect();
                let problem = Problem::new(
                    snapshot.span.clone(),
                    format!("no step before this one takes a snapshot \"{name}\""),
                );
                return Err(match suggestion(name, &known) {
                    Some(help) => problem.help(help),
                    None => problem.help("{ \"snapshot\": { \"node\": …, \"name\": … } } takes one"),
                });
            }
            Source::Snapshot(name.to_owned())
        }
        (None, Some(node)) => Source::Node(one_node(node, names)?),
        _ => {
            return Err(Problem::new(
                tree.span.start..tree.span.start + 1,
                "a restored disk needs either snapshot, or from with a node",
            ));
        }
    };
    Ok(Restore { node: one_node(tree.field("node").expect("checked"), names)?, from })
}

fn one_node(tree: &Tree, names: &mut Names<'_>) -> Result<Who, Problem> {
    Ok(only_nodes(vec![who(tree, names)?], tree, names)?.remove(0))
}

fn link(tree: &Tree, names: &mut Names<'_>) -> Result<Link, Problem> {
    let back = tree.field("default").and_then(Tree::boolean) == Some(true);
    let settings = link_settings(Some(tree));
    if back == (settings != LinkSettings::default()) {
        return Err(Problem::new(
            tree.span.start..tree.span.start + 1,
            "a link needs latency, loss, bandwidth, tail or connect, or else \"default\": true",
        ));
    }
    let to_tree = tree.field("to").expect("checked");
    let (from, to) = (side(tree.field("from").expect("checked"), names)?, side(to_tree, names)?);
    not_itself(&from, &to, to_tree)?;
    Ok(Link {
        from,
        to,
        direction: direction_of(tree.field("direction")),
        settings: (!back).then_some(settings),
    })
}

fn disk(tree: &Tree, names: &mut Names<'_>) -> Result<DiskFault, Problem> {
    let fault = tree.field("fault").expect("checked");
    let word = fault.text().expect("checked");
    let belongs = [("stall", "slow"), ("bits", "bit_flip"), ("where", "bit_flip")];
    for (key, to) in belongs {
        if let Some(part) = tree.field(key).filter(|_| word != to) {
            return Err(Problem::new(part.span.clone(), format!("\"{key}\" does not go with \"{word}\""))
                .help(format!("it goes with the disk fault \"{to}\"")));
        }
    }
    if let Some(part) = tree.field("after").filter(|_| word == "none") {
        return Err(Problem::new(part.span.clone(), "\"after\" does not go with \"none\"")
            .help("a wait before the step does it"));
    }
    let node = one_node(tree.field("node").expect("checked"), names)?;
    let dir = tree.field("dir").map(|dir| log_dir(dir, &node, names)).transpose()?;
    let partition = match tree.field("partition") {
        Some(at) => Some(partition_of(at.text().expect("checked"), &at.span)?),
        None => None,
    };
    if let Some((topic, _)) = &partition {
        names.topic_used(topic);
    }
    Ok(DiskFault {
        node,
        fault: match word {
            "full" => Some(FaultKind::Full),
            "slow" => {
                let second = Duration(1_000_000_000);
                let stall = DurationRange { low: second, high: second };
                let stall = tree.field("stall").map_or(stall, range_of);
                let nanos = |d: Duration| wire::drive::Nanos(d.0);
                Some(FaultKind::Slow(Between { low: nanos(stall.low), high: nanos(stall.high) }))
            }
            "read_error" => Some(FaultKind::ReadError),
            "write_error" => Some(FaultKind::WriteError),
            "sync_error" => Some(FaultKind::SyncError),
            "lying_sync" => Some(FaultKind::LyingSync),
            "bit_flip" => {
                let rot = match tree.field("where").and_then(Tree::text) {
                    Some("disk") => Rot::Medium,
                    Some("cache") => Rot::Cache,
                    _ => Rot::Both,
                };
                let bits = tree.field("bits").and_then(Tree::integer).unwrap_or(1);
                Some(FaultKind::BitFlip(bits as u32, rot))
            }
            "offline" => Some(FaultKind::Offline),
            _ => None,
        },
        dir,
        partition,
        after: tree.field("after").map_or(Ok(After::Now), after)?,
    })
}

/// A size or a duration: they differ by their units.
fn after(tree: &Tree) -> Result<After, Problem> {
    if let Some(bytes) = tree.integer() {
        return Ok(After::Bytes(bytes as u64));
    }
    let text = tree.text().unwrap_or_default();
    match (units::duration(text), units::size(text)) {
        (Some(time), _) => Ok(After::Time(wire::drive::Nanos(time.0))),
        (None, Some(bytes)) => Ok(After::Bytes(bytes)),
        (None, None) => Err(Problem::new(
            tree.span.clone(),
            format!("found {}, expected a duration such as \"10s\" or a size such as \"64KiB\"", tree.what()),
        )),
    }
}

/// A log directory of a node, as its configuration has it. Whom a reference stands for is known when the step runs.
fn log_dir(tree: &Tree, node: &Who, names: &Names<'_>) -> Result<String, Problem> {
    let dir = tree.text().expect("checked").to_owned();
    let Who::Name(node) = node else { return Ok(dir) };
    let Some((_, known)) = names.log_dirs.iter().find(|(name, _)| name == node) else { return Ok(dir) };
    if known.iter().any(|d| super::same_dir(d, &dir)) {
        return Ok(dir);
    }
    Err(Problem::new(tree.span.clone(), format!("{node} has no log directory \"{dir}\""))
        .help(format!("log directories of {node}: {}", known.join(", "))))
}

fn clock(tree: &Tree, names: &mut Names<'_>) -> Result<Clock, Problem> {
    let step = match tree.field("step") {
        None => None,
        Some(step) => {
            let text = step.text().expect("checked");
            let (sign, rest) =
                text.strip_prefix('-').map_or((1, text.strip_prefix('+').unwrap_or(text)), |rest| (-1, rest));
            let size = units::duration(rest).ok_or_else(|| {
                Problem::new(
                    step.span.clone(),
                    format!("\"{text}\" is not a step of a clock, expected one such as \"-2h\""),
                )
            })?;
            Some(sign * size.0 as i64)
        }
    };
    let drift_ppm = tree.field("drift_ppm").and_then(Tree::integer);
    let right = tree.field("default").and_then(Tree::boolean) == Some(true);
    if right == (step.is_some() || drift_ppm.is_some()) {
        return Err(Problem::new(
            tree.span.start..tree.span.start + 1,
            "a clock change needs step or drift_ppm, or else \"default\": true",
        ));
    }
    Ok(Clock { node: who(tree.field("node").expect("checked"), names)?, step, drift_ppm, right })
}

fn repeat(tree: &Tree, names: &mut Names<'_>, variant: Option<&str>) -> Result<Repeat, Problem> {
    let each = match tree.field("each") {
        Some(each) => whom(each, names)?,
        None => Vec::new(),
    };
    let times = tree.field("times").map(|t| t.integer().expect("checked") as u32);
    if times.is_some() != each.is_empty() {
        return Err(Problem::new(
            tree.span.start..tree.span.start + 1,
            "a repetition needs either times, or each with as",
        ));
    }
    let name = tree.field("as").and_then(Tree::text).map(str::to_owned);
    if each.is_empty() == name.is_some() {
        return Err(Problem::new(
            tree.span.start..tree.span.start + 1,
            "each and as go together: as is the name that the steps use",
        ));
    }
    if let Some(name) = &name {
        names.kept.insert(name.clone());
    }
    Ok(Repeat {
        times: times.unwrap_or(1),
        each,
        name,
        steps: steps(tree.field("steps").expect("checked").one_or_many(), names, variant)?,
    })
}

// --- the end

fn finally(tree: Option<&Tree>, names: &mut Names<'_>) -> Result<Finally, Problem> {
    let field = |key: &str| tree.and_then(|t| t.field(key));
    let violations = match field("violations") {
        None => None,
        Some(list) if matches!(list.kind, Kind::List(_)) => {
            Some(WantedViolations::Exactly(wanted_all(Some(list))?))
        }
        Some(both) => {
            Some(WantedViolations::HasLacks(wanted_all(both.field("has"))?, wanted_all(both.field("lacks"))?))
        }
    };
    let expect = match field("expect") {
        None => Vec::new(),
        Some(list) => list
            .one_or_many()
            .iter()
            .map(|e| expect::expect(e, None, None, names))
            .collect::<Result<_, _>>()?,
    };
    Ok(Finally {
        violations,
        expect,
        within: field("within").map_or(Duration(60_000_000_000), duration_of),
        restore: field("restore").and_then(Tree::boolean).unwrap_or(false),
    })
}

fn wanted_all(tree: Option<&Tree>) -> Result<Vec<WantedViolation>, Problem> {
    tree.map_or(&[][..], Tree::one_or_many).iter().map(wanted).collect()
}

fn wanted(tree: &Tree) -> Result<WantedViolation, Problem> {
    let name_tree = tree.field("name").unwrap_or(tree);
    let name = name_tree.text().expect("checked").to_owned();
    expect::checker_name(&name, &name_tree.span)?;
    Ok(WantedViolation { name, topic: tree.field("topic").and_then(Tree::text).map(str::to_owned) })
}
