//! What a reassignment is: the files that say it, the proposals of `--generate` (`AdminUtils.java`), and which replicas
//! of which partitions a throttle is about.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::schema::json::quote;

use super::super::delete_records::{bad_data, check_version, field, malformed};
use super::super::json::Json;
use super::super::session::Exception;
use crate::admin::Reassignment;
use crate::event::TopicPartition;

/// The log directory of a replica that may lie in any.
pub const ANY: &str = "any";

/// Replicas by partition.
pub type Assignment = BTreeMap<TopicPartition, Vec<i32>>;

/// Log directories by partition and broker.
pub type Dirs = BTreeMap<(TopicPartition, i32), String>;

pub fn failed(text: impl Into<String>) -> Exception {
    Exception::new("org.apache.kafka.tools.AdminCommandFailedException", text)
}

pub fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What a file of reassignments says: partitions with their replicas in the file's order, and the directories named.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub partitions: Vec<(TopicPartition, Vec<i32>)>,
    pub dirs: Dirs,
}

impl Wanted {
    pub fn read(text: &str) -> Result<Wanted, Exception> {
        let json = Json::parse(text).ok_or_else(|| bad_data("Unexpected character"))?;
        check_version(&json)?;
        let mut wanted = Wanted::default();
        let Some(list) = json.get("partitions") else { return Ok(wanted) };
        for item in list.list().ok_or_else(|| malformed("Expected JSON array"))? {
            let topic = field(item, "topic")?.text().ok_or_else(|| malformed("Expected `String` value"))?;
            let number = field(item, "partition")?.integer();
            let partition =
                TopicPartition::new(topic, number.ok_or_else(|| malformed("Expected `Integer` value"))?);
            let replicas = field(item, "replicas")?.list();
            let replicas =
                replicas.and_then(|all| all.iter().map(Json::integer).collect::<Option<Vec<i32>>>());
            let replicas = replicas.ok_or_else(|| malformed("Expected `Integer` value"))?;
            if let Some(dirs) = item.get("log_dirs") {
                let dirs =
                    dirs.list().and_then(|all| all.iter().map(Json::text).collect::<Option<Vec<&str>>>());
                let dirs = dirs.ok_or_else(|| malformed("Expected `String` value"))?;
                wanted.place(&partition, &replicas, &dirs)?;
            }
            wanted.partitions.push((partition, replicas));
        }
        Ok(wanted)
    }

    fn place(
        &mut self,
        partition: &TopicPartition,
        replicas: &[i32],
        dirs: &[&str],
    ) -> Result<(), Exception> {
        if replicas.len() != dirs.len() {
            let listed: Vec<String> = replicas.iter().map(ToString::to_string).collect();
            return Err(failed(format!(
                "Size of replicas list [{}] is different from size of log dirs list [{}] for partition {partition}",
                listed.join(", "),
                dirs.join(", ")
            )));
        }
        for (&broker, &dir) in replicas.iter().zip(dirs) {
            if dir != ANY {
                self.dirs.insert((partition.clone(), broker), dir.into());
            }
        }
        Ok(())
    }

    /// The same as an assignment that may be executed.
    pub fn checked(&self) -> Result<Assignment, Exception> {
        if self.partitions.is_empty() {
            return Err(failed("Partition reassignment list cannot be empty"));
        }
        if self.partitions.iter().any(|(_, replicas)| replicas.is_empty()) {
            return Err(failed("Partition replica list cannot be empty"));
        }
        let twice = duplicates(self.partitions.iter().map(|(partition, _)| partition.clone()));
        if !twice.is_empty() {
            let twice: Vec<String> = twice.iter().map(ToString::to_string).collect();
            let twice = twice.join(",");
            return Err(failed(format!(
                "Partition reassignment contains duplicate topic partitions: {twice}"
            )));
        }
        let mut repeated = Vec::new();
        for (partition, replicas) in &self.partitions {
            let twice = duplicates(replicas.iter().copied());
            if !twice.is_empty() {
                let twice: Vec<i32> = twice.into_iter().collect();
                repeated.push(format!("{partition} contains multiple entries for {}", ids(&twice)));
            }
        }
        if !repeated.is_empty() {
            let repeated = repeated.join(". ");
            return Err(failed(format!(
                "Partition replica lists may not contain duplicate entries: {repeated}"
            )));
        }
        Ok(self.partitions.iter().cloned().collect())
    }
}

fn duplicates<T: Ord + Clone>(all: impl Iterator<Item = T>) -> BTreeSet<T> {
    let mut seen = BTreeSet::new();
    all.filter(|item| !seen.insert(item.clone())).collect()
}

/// The topics of a `--topics-to-move-json-file`.
pub fn topics(text: &str) -> Result<Vec<String>, Exception> {
    let json = Json::parse(text).ok_or_else(|| bad_data("The input string is not a valid JSON"))?;
    check_version(&json)?;
    let list = json.get("topics").map_or(Some(&[][..]), Json::list);
    let mut topics = Vec::new();
    for item in list.ok_or_else(|| malformed("Expected JSON array"))? {
        let topic = field(item, "topic")?.text().ok_or_else(|| malformed("Expected `String` value"))?;
        topics.push(topic.to_string());
    }
    let twice = duplicates(topics.iter().cloned());
    if !twice.is_empty() {
        let twice: Vec<String> = twice.into_iter().collect();
        let twice = twice.join(", ");
        return Err(failed(format!("List of topics to reassign contains duplicate entries: [{twice}]")));
    }
    Ok(topics)
}

/// The brokers of a `--broker-list`.
pub fn brokers(text: &str) -> Result<Vec<i32>, Exception> {
    let mut brokers = Vec::new();
    for part in text.split(',') {
        let not =
            || Exception::new("java.lang.NumberFormatException", format!("For input string: \"{part}\""));
        brokers.push(part.parse::<i32>().map_err(|_| not())?);
    }
    let twice: Vec<String> = duplicates(brokers.iter().copied()).iter().map(ToString::to_string).collect();
    match twice.is_empty() {
        true => Ok(brokers),
        false => Err(failed(format!("Broker list contains duplicate entries: [{}]", twice.join(", ")))),
    }
}

/// An assignment as a file of reassignments.
pub fn json(assignment: &Assignment, dirs: &Dirs) -> String {
    let partition = |(partition, replicas): (&TopicPartition, &Vec<i32>)| {
        let dirs: Vec<String> = replicas
            .iter()
            .map(|&broker| quote(dirs.get(&(partition.clone(), broker)).map_or(ANY, String::as_str)))
            .collect();
        format!(
            "{{\"topic\":{},\"partition\":{},\"replicas\":[{}],\"log_dirs\":[{}]}}",
            quote(&partition.topic),
            partition.partition,
            ids(replicas),
            dirs.join(",")
        )
    };
    let partitions: Vec<String> = assignment.iter().map(partition).collect();
    format!("{{\"version\":1,\"partitions\":[{}]}}", partitions.join(","))
}

// --- proposals

/// A broker that replicas may be given to.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: i32,
    pub rack: Option<String>,
}

/// Where the replicas of a topic may go: round robin from a first broker, followers shifted by `shift`, which grows
/// with every round; with racks, no rack gets a second replica before each has one.
pub fn propose(
    brokers: &[Candidate],
    partitions: usize,
    factor: usize,
    start: usize,
    shift: usize,
) -> Vec<Vec<i32>> {
    let aware = brokers.iter().any(|broker| broker.rack.is_some());
    let order = if aware { by_racks(brokers) } else { brokers.to_vec() };
    let count = order.len();
    let racks = order.iter().map(|broker| &broker.rack).collect::<BTreeSet<_>>().len();
    assert!((1..=count).contains(&factor), "the caller has checked the factor");
    let mut shift = shift;
    let mut proposal = Vec::with_capacity(partitions);
    for number in 0..partitions {
        if number > 0 && number % count == 0 {
            shift += 1;
        }
        let first = (number + start) % count;
        let mut chosen = alloc::vec![&order[first]];
        let mut step = 0;
        while chosen.len() < factor {
            let offset = if aware { shift * racks } else { shift };
            let next = &order[(first + 1 + (offset + step) % (count - 1)) % count];
            step += 1;
            let used: BTreeSet<_> = chosen.iter().map(|broker| &broker.rack).collect();
            let fits = !aware
                || (!used.contains(&next.rack) || used.len() == racks)
                    && !chosen.iter().any(|broker| broker.id == next.id);
            if fits {
                chosen.push(next);
            }
        }
        proposal.push(chosen.iter().map(|broker| broker.id).collect());
    }
    proposal
}

/// The brokers in turns of the racks.
fn by_racks(brokers: &[Candidate]) -> Vec<Candidate> {
    let mut racks: BTreeMap<&Option<String>, Vec<&Candidate>> = BTreeMap::new();
    for broker in brokers {
        racks.entry(&broker.rack).or_default().push(broker);
    }
    racks.values_mut().for_each(|rack| rack.sort_by_key(|broker| broker.id));
    let deepest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..deepest)
        .flat_map(|turn| racks.values().filter_map(move |rack| rack.get(turn)))
        .map(|&b| b.clone())
        .collect()
}

// --- throttles

/// From which brokers to which a partition moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Move {
    pub sources: BTreeSet<i32>,
    pub destinations: BTreeSet<i32>,
}

/// All moves there will be: those that are going on and those that are asked for.
pub fn moves(
    current: &BTreeMap<TopicPartition, Reassignment>,
    proposed: &Assignment,
    placed: &Assignment,
) -> BTreeMap<TopicPartition, Move> {
    let mut moves: BTreeMap<TopicPartition, Move> = BTreeMap::new();
    for (partition, ongoing) in current {
        let destinations: BTreeSet<i32> = ongoing.adding.iter().copied().collect();
        let sources = ongoing.replicas.iter().copied().filter(|id| !destinations.contains(id)).collect();
        moves.insert(partition.clone(), Move { sources, destinations });
    }
    for (partition, replicas) in proposed {
        let sources: BTreeSet<i32> = match moves.get(partition) {
            Some(ongoing) => ongoing.sources.clone(),
            None => placed.get(partition).into_iter().flatten().copied().collect(),
        };
        let destinations = replicas.iter().copied().filter(|id| !sources.contains(id)).collect();
        moves.insert(partition.clone(), Move { sources, destinations });
    }
    moves
}

/// By topic, the replicas that are throttled as leaders and as followers: `0:1,0:2`.
pub fn throttled(moves: &BTreeMap<TopicPartition, Move>) -> BTreeMap<String, (String, String)> {
    let mut topics: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for (partition, moving) in moves {
        let (leaders, followers) = topics.entry(partition.topic.to_string()).or_default();
        let text = |id: &i32| format!("{}:{id}", partition.partition);
        leaders.extend(moving.sources.iter().map(text));
        followers.extend(moving.destinations.difference(&moving.sources).map(text));
    }
    let joined = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join(",");
    topics
        .into_iter()
        .map(|(topic, (leaders, followers))| (topic, (joined(leaders), joined(followers))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(racks: &[&str]) -> Vec<Candidate> {
        let rack = |rack: &str| (!rack.is_empty()).then(|| rack.to_string());
        racks.iter().enumerate().map(|(i, r)| Candidate { id: i as i32, rack: rack(r) }).collect()
    }

    #[test]
    fn replicas_go_round_the_brokers() {
        // The example that AdminUtils.java documents: five brokers, ten partitions, three replicas.
        let proposal = propose(&candidates(&["", "", "", "", ""]), 10, 3, 0, 0);
        let expected: [[i32; 3]; 10] = [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ];
        assert_eq!(proposal, expected.map(Vec::from));
        assert_eq!(propose(&candidates(&[""]), 2, 1, 3, 3), [[0], [0]]);
    }

    #[test]
    fn racks_take_turns() {
        let racks = candidates(&["a", "b", "c", "a", "b", "c"]);
        for seed in 0..20 {
            for replicas in propose(&racks, 7, 3, seed, seed * 7) {
                let used: BTreeSet<&Option<String>> =
                    replicas.iter().map(|&id| &racks[id as usize].rack).collect();
                assert_eq!(used.len(), 3, "{replicas:?} with seed {seed}");
            }
        }
    }

    #[test]
    fn throttles_are_about_sources_and_destinations() {
        let part = |p: i32| TopicPartition::new("foo", p);
        let ongoing =
            Reassignment { replicas: alloc::vec![1, 2, 4], adding: alloc::vec![4], removing: alloc::vec![1] };
        let proposed = Assignment::from([(part(0), alloc::vec![2, 5]), (part(1), alloc::vec![3, 2])]);
        let placed = Assignment::from([(part(0), alloc::vec![1, 2, 4]), (part(1), alloc::vec![1, 2])]);
        let moves = moves(&BTreeMap::from([(part(0), ongoing)]), &proposed, &placed);
        let throttled = throttled(&moves);
        assert_eq!(throttled["foo"], ("0:1,0:2,1:1,1:2".to_string(), "0:5,1:3".to_string()));
    }

    #[test]
    fn files_that_are_refused() {
        let told = |text: &str| match Wanted::read(text).and_then(|wanted| wanted.checked()) {
            Ok(_) => panic!("{text} is taken"),
            Err(exception) => exception.message_text().to_string(),
        };
        let one = |replicas: &str| format!("{{\"topic\":\"t\",\"partition\":0,\"replicas\":[{replicas}]}}");
        let file = |partitions: &str| format!("{{\"version\":1,\"partitions\":[{partitions}]}}");
        assert_eq!(told("{\"version\":2}"), "Not supported version field value 2");
        assert_eq!(told(&file("")), "Partition reassignment list cannot be empty");
        assert_eq!(told(&file(&one(""))), "Partition replica list cannot be empty");
        let twice = format!("{},{}", one("1"), one("2"));
        assert_eq!(told(&file(&twice)), "Partition reassignment contains duplicate topic partitions: t-0");
        let text =
            "Partition replica lists may not contain duplicate entries: t-0 contains multiple entries for 1";
        assert_eq!(told(&file(&one("1,2,1"))), text);
        let dirs =
            "{\"partitions\":[{\"topic\":\"t\",\"partition\":0,\"replicas\":[1,2],\"log_dirs\":[\"any\"]}]}";
        let text =
            "Size of replicas list [1, 2] is different from size of log dirs list [any] for partition t-0";
        assert_eq!(told(dirs), text);
    }
}
