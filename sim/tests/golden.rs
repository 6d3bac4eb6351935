//! Nodes that open the very directories that Apache Kafka 4.3.1 left behind, serve what these hold and go on from
//! there; and the binary's `kafka-dump-log`, which says of them what Kafka's own tool said.
#![cfg(madsim)]

#[path = "../../testdata/golden.rs"]
mod golden;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use broker_core::config::NodeConfig;
use broker_core::node::{NewCluster, NodeState};
use bytes::Bytes;
use client::Process;
use client::command::dump_log::{DumpOptions, dump};
use client::command::{CommandProcess, CommandSpec};
use codecs::StdCodecs;
use rand_core::SeedableRng;
use sim::runner::build::LOG_DIR;
use sim::world::*;

const BROKERS: [i32; 3] = [1, 2, 3];
const CONTROLLERS: [i32; 3] = [101, 102, 103];
/// As in `meta.properties`.
const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAA";
/// 2026-11-20T22:00:00Z, half an hour after Kafka was stopped.
const LATER_MS: i64 = 1_795_212_000_000;
const SEGMENT: &str = "00000000000000000000.log";

fn nodes() -> impl Iterator<Item = (String, i32, &'static str)> {
    let brokers = BROKERS.map(|id| (format!("broker-{id}"), id, "broker"));
    let controllers = CONTROLLERS.map(|id| (format!("controller-{id}"), id, "controller"));
    brokers.into_iter().chain(controllers)
}

fn node(name: &str, id: i32, role: &str) -> ProcSpec {
    let listeners = match role {
        "broker" => format!("PLAINTEXT://{name}:9092"),
        _ => format!("CONTROLLER://{name}:9093"),
    };
    let voters = CONTROLLERS.map(|id| format!("{id}@controller-{id}:9093")).join(",");
    let given: BTreeMap<String, String> = [
        ("process.roles", role),
        ("node.id", &id.to_string()),
        ("listeners", &listeners),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
        ("controller.quorum.voters", &voters),
        ("log.dirs", LOG_DIR),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let config = Arc::new(NodeConfig::parse(&given).expect("the configuration is right"));
    ProcSpec::node(name, NodeSetup { config, cluster: NewCluster { id: CLUSTER.into(), voters: None } })
}

/// Six nodes, none of them formatted here: their disks hold Kafka's files and nothing else.
fn kafkas_world(seed: u64) -> World {
    let mut world = World::new(WorldSpec { seed, ..WorldSpec::default() });
    let files = golden::files();
    for (name, id, role) in nodes() {
        world.add_proc(node(&name, id, role));
        let host = world.host(&name).expect("it was added");
        let wall_ms = world.clocks(host).wall_ms;
        world.step_clock(host, (LATER_MS - wall_ms) * 1_000_000);
        let root = format!("failover/{name}/");
        let mut put = 0;
        for (path, content) in &files {
            if let Some(path) = path.strip_prefix(&root) {
                let content = Bytes::from(content.clone());
                world.put_file(host, &format!("{LOG_DIR}/{path}"), content).expect("the disk has room");
                put += 1;
            }
        }
        assert!(put > 8, "{root} holds {put} files");
    }
    world.add_host("lab");
    world
}

fn seconds(world: &World, more: u64) -> SimTime {
    SimTime(world.now().0 + more * 1_000_000_000)
}

/// Starts everything and waits until all brokers are unfenced.
async fn up(stage: &mut Stage) {
    for proc in stage.world().procs().collect::<Vec<_>>() {
        stage.start(proc).await.expect("it is down");
    }
    for _ in 0..60 {
        let until = seconds(stage.world(), 1);
        stage.run_until(until).expect("the simulator holds");
        let state = |id| stage.world().node(proc(stage.world(), &format!("broker-{id}"))).map(|n| n.state());
        if BROKERS.iter().all(|id| state(*id) == Some(NodeState::Running)) {
            return;
        }
    }
    let told: Vec<String> = stage.world_mut().take_happened().iter().map(|h| format!("{h:?}")).collect();
    panic!("not all brokers are unfenced:\n{}", told.join("\n"));
}

fn proc(world: &World, name: &str) -> ProcId {
    world.proc(name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// Runs a tool on the lab host; its standard output.
async fn tool(stage: &mut Stage, line: &str, stdin: &str) -> String {
    let words = line.split_whitespace().map(str::to_owned).collect();
    let spec = CommandSpec { words, ..CommandSpec::default() };
    let maker: ClientMaker = Arc::new(move |boot| {
        Ok(Process::Command(Box::new(CommandProcess::new(spec.clone(), client::Rng::from_seed(boot.seed)))))
    });
    let name = format!("command at {}", stage.world().now().0);
    let tool = stage.world_mut().add_proc(ProcSpec::client(&name, "lab", maker));
    stage.world_mut().take_happened();
    stage.start(tool).await.expect("it is new");
    stage.world_mut().stdin(tool, Bytes::from(stdin.to_owned())).expect("it runs");
    stage.world_mut().close_stdin(tool).expect("it runs");
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let until = seconds(stage.world(), 120);
    while stage.world().state(tool) != ProcState::Down && stage.world().now() < until {
        stage.step().expect("the simulator holds");
    }
    for happened in stage.world_mut().take_happened() {
        match happened.what {
            What::Stdout(text) if happened.proc == Some(tool) => stdout += &text,
            What::Stderr(text) if happened.proc == Some(tool) => stderr += &text,
            _ => {}
        }
    }
    assert_eq!(stage.world().exit_code(tool), Some(0), "{line}:\n{stdout}{stderr}");
    stdout
}

/// What the console consumer must print of a partition, from the segment that Kafka's leader wrote.
fn records(broker: i32, partition: &str, from: i64) -> Vec<String> {
    let (_, number) = partition.rsplit_once('-').expect("topic-partition");
    let options = DumpOptions::parse(["--files", SEGMENT, "--print-data-log"]).expect("right options");
    let content = Bytes::from(golden::file(&format!("failover/broker-{broker}/{partition}/{SEGMENT}")));
    let dumped = dump(&options, &StdCodecs, &mut |_| Some(content.clone()));
    assert_eq!((dumped.exit, dumped.stderr.as_str()), (0, ""), "{partition}");
    let mut lines = Vec::new();
    for line in dumped.stdout.lines().filter_map(|line| line.strip_prefix("| offset: ")) {
        let (offset, rest) = line.split_once(" CreateTime: ").expect("the tool's form");
        let (time, rest) = rest.split_once(' ').expect("the tool's form");
        let (_, value) = rest.split_once(" payload: ").expect("the tool's form");
        assert!(rest.starts_with("keySize: -1 "), "the session's producers made no keys: {line}");
        if offset.parse::<i64>().expect("a number") >= from {
            lines.push(format!("CreateTime:{time}\tPartition:{number}\tOffset:{offset}\tnull\t{value}"));
        }
    }
    lines
}

/// Everything that a partition serves, by the console consumer.
async fn read(stage: &mut Stage, topic: &str, partition: i32) -> Vec<String> {
    let line = format!(
        "kafka-console-consumer --bootstrap-server broker-1:9092 --topic {topic} --partition {partition} \
         --offset earliest --timeout-ms 4000 --formatter-property print.timestamp=true \
         --formatter-property print.partition=true --formatter-property print.offset=true \
         --formatter-property print.key=true"
    );
    tool(stage, &line, "").await.lines().map(str::to_owned).collect()
}

async fn offsets(stage: &mut Stage, what: &str) -> Vec<String> {
    let line = format!("kafka-get-offsets --bootstrap-server broker-2:9092 {what}");
    tool(stage, &line, "").await.lines().map(str::to_owned).collect()
}

/// What lies on a disk of the world, and what of the archive it was made from.
fn now_and_then(world: &World, node: &str, path: &str) -> (Vec<u8>, Vec<u8>) {
    let host = world.host(node).expect("it was added");
    let now = world.file(host, format!("{LOG_DIR}/{path}").trim_start_matches('/'));
    let now = now.unwrap_or_else(|| panic!("{node} has lost {path}"));
    (now, golden::file(&format!("failover/{node}/{path}")))
}

#[test]
fn nodes_serve_what_kafka_wrote_and_go_on_from_there() {
    let told = run(kafkas_world(7), async |stage| {
        up(stage).await;
        let until = seconds(stage.world(), 10);
        stage.run_until(until).expect("the simulator holds");
        same_cluster(stage).await;

        let earliest = offsets(stage, "--topic purchases|p2 --time earliest").await;
        assert_eq!(earliest, ["p2:0:0", "p2:1:0", "purchases:0:3", "purchases:1:0", "purchases:2:0"]);
        let latest = offsets(stage, "--topic purchases|p2 --time latest").await;
        assert_eq!(latest, ["p2:0:0", "p2:1:0", "purchases:0:672", "purchases:1:810", "purchases:2:647"]);
        let internal = offsets(stage, "--topic-partitions __consumer_offsets:11,__consumer_offsets:16").await;
        assert_eq!(internal, ["__consumer_offsets:11:1680", "__consumer_offsets:16:3"]);
        for (partition, from, len) in [(0, 3, 669), (1, 0, 810), (2, 0, 647)] {
            let expected = records(1, &format!("purchases-{partition}"), from);
            assert_eq!(expected.len(), len, "purchases-{partition}");
            assert_eq!(read(stage, "purchases", partition).await, expected, "purchases-{partition}");
        }
        for partition in [0, 1] {
            assert_eq!(read(stage, "p2", partition).await, [""; 0], "p2-{partition}");
        }
        for broker in BROKERS {
            for partition in 0..3 {
                let (node, path) = (format!("broker-{broker}"), format!("purchases-{partition}/{SEGMENT}"));
                let (now, then) = now_and_then(stage.world(), &node, &path);
                assert!(now == then, "{node} changed {path}: {} and {} bytes", now.len(), then.len());
            }
        }
        goes_on(stage).await;
    });
    told.expect("the simulator holds");
}

/// The quorum, the brokers and the topics are those of the metadata log.
async fn same_cluster(stage: &mut Stage) {
    let status =
        tool(stage, "kafka-metadata-quorum --bootstrap-server broker-1:9092 describe --status", "").await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{status}")).trim().to_owned()
    };
    assert_eq!(field("ClusterId:"), CLUSTER);
    assert!(field("LeaderEpoch:").parse::<i32>().expect("a number") > 3, "Kafka ended in epoch 3:\n{status}");
    assert!(field("HighWatermark:").parse::<i64>().expect("a number") > 1_134, "{status}");
    for id in ["wsvgy2wu-yYpHLVo713HPQ", "Awdmg4wlbX7sYlnRHofmJw", "zXo8rMIjUl7YBHseBBg94g"] {
        assert!(status.contains(id), "the brokers keep their directory ids:\n{status}");
    }
    let described = tool(stage, "kafka-topics --bootstrap-server broker-3:9092 --describe", "").await;
    let lines: Vec<&str> = described.lines().collect();
    for header in [
        "Topic: purchases\tTopicId: A4KVwXePTNqMm_FxtPoFyw\tPartitionCount: 3\tReplicationFactor: 3\tConfigs: min.insync.replicas=2",
        "Topic: p2\tTopicId: KdbeQWvzRX27hYbs7tCafw\tPartitionCount: 2\tReplicationFactor: 2\tConfigs: min.insync.replicas=1",
    ] {
        assert!(lines.contains(&header), "{header:?} is not in\n{described}");
    }
    let internal = "Topic: __consumer_offsets\tTopicId: Dh9vWZ6tSFOLVnjYXqH5fA\tPartitionCount: 50\t";
    assert!(lines.iter().any(|line| line.starts_with(internal)), "{described}");
    for (topic, partition, replicas) in [
        ("purchases", 0, [1, 2, 3].as_slice()),
        ("purchases", 1, &[2, 3, 1]),
        ("purchases", 2, &[3, 1, 2]),
        ("p2", 0, &[3, 1]),
        ("p2", 1, &[2, 3]),
    ] {
        let list = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let mut isr = replicas.to_vec();
        isr.sort_unstable();
        let start = format!("\tTopic: {topic}\tPartition: {partition}\tLeader: ");
        let line = lines.iter().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{start:?} is not in\n{described}"));
        assert!(line.contains(&format!("\tReplicas: {}\t", list(replicas))), "{line}");
        let mut found: Vec<i32> = line
            .split_once("Isr: ")
            .and_then(|(_, rest)| rest.split('\t').next())
            .map(|ids| ids.split(',').filter_map(|id| id.parse().ok()).collect())
            .unwrap_or_default();
        found.sort_unstable();
        assert_eq!(found, isr, "{line}");
        assert!(line.ends_with("\tElr: \tLastKnownElr: "), "{line}");
    }
}

/// What is written now comes behind what Kafka wrote, on every replica.
async fn goes_on(stage: &mut Stage) {
    let line = "kafka-console-producer --bootstrap-server broker-1:9092 --topic purchases";
    tool(stage, line, "one more\n").await;
    let mut appended = 0;
    for (partition, end) in [(0, 672), (1, 810), (2, 647)] {
        let at = format!("\tPartition:{partition}\tOffset:{end}\t");
        for line in read(stage, "purchases", partition).await.iter().filter(|line| line.contains(&at)) {
            assert!(line.ends_with("\tone more"), "{line}");
            appended += 1;
        }
    }
    assert_eq!(appended, 1, "one record, at the end of one partition");
    let grown = |node: &str, path: &str| {
        let (now, then) = now_and_then(stage.world(), node, path);
        assert!(now.starts_with(&then), "{node}: {path} does not begin with what Kafka wrote");
        now.len() > then.len()
    };
    for broker in BROKERS {
        let node = format!("broker-{broker}");
        let longer = (0..3).filter(|p| grown(&node, &format!("purchases-{p}/{SEGMENT}"))).count();
        assert_eq!(longer, 1, "{node} has one record more");
    }
    for (node, _, _) in nodes() {
        assert!(grown(&node, &format!("__cluster_metadata-0/{SEGMENT}")), "{node}: the metadata log goes on");
    }
}

/// Unpacks what lies under `root` of the archive, below a directory of the test's own.
fn unpack(root: &str, below: &Path) -> PathBuf {
    for (path, content) in golden::files() {
        if path.starts_with(root) {
            let at = below.join(&path);
            std::fs::create_dir_all(at.parent().expect("it has a directory")).expect("it can be made");
            std::fs::write(&at, content).expect("it can be written");
        }
    }
    below.join(root)
}

#[test]
fn the_binary_dumps_kafkas_logs_as_kafkas_tool_did() {
    let below = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden-dump");
    let (offsets, transactions) = ("--offsets-decoder", "--transaction-log-decoder");
    for (root, dir, decoder, dump) in [
        ("failover/broker-1", "p2-0", None, "broker-1.p2-0"),
        ("failover/broker-1", "purchases-0", None, "broker-1.purchases-0"),
        ("failover/broker-1", "purchases-1", None, "broker-1.purchases-1"),
        (
            "failover/controller-101",
            "__cluster_metadata-0",
            Some("--cluster-metadata-decoder"),
            "controller-101.metadata",
        ),
        ("coordinators/broker-2", "__consumer_offsets-0", Some(offsets), "coordinators.consumer_offsets-0"),
        (
            "coordinators/broker-2",
            "__transaction_state-0",
            Some(transactions),
            "coordinators.transaction_state-0",
        ),
    ] {
        // Kafka's tool was run in the log directory: its first line names the file as it was given.
        let output = Command::new(env!("CARGO_BIN_EXE_highwater"))
            .current_dir(unpack(root, &below))
            .args(["kafka-dump-log", "--files", &format!("{dir}/{SEGMENT}")])
            .args(decoder)
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        let ours = String::from_utf8(output.stdout).expect("text");
        let kafkas = String::from_utf8(golden::file(&format!("dumps/{dump}.txt"))).expect("text");
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{dump}");
        for (i, (our, kafka)) in ours.lines().zip(kafkas.lines()).enumerate() {
            assert_eq!(our, kafka, "{dump}, line {}", i + 1);
        }
        assert!(ours == kafkas, "{dump}: {} bytes of ours, {} of Kafka's", ours.len(), kafkas.len());
    }
}
