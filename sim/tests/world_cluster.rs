//! Real nodes and a real producer in the simulated world: they elect, register, replicate, fail over and return.
#![cfg(madsim)]

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::config::NodeConfig;
use broker_core::disk::Disk;
use broker_core::event::Event;
use broker_core::io::{Input, Listener, Output, Outputs};
use broker_core::node::{NewCluster, NodeState};
use client::ClientEvent;
use client::mutant::Mutants;
use client::workload::{ProducerClient, ProducerSpec, Rate};
use sim::world::*;
use wire::drive::{Endpoint, Instant, Nanos, Now};
use wire::frame::encode_request;
use wire::messages::{CreateTopicsRequest, create_topics_request::CreatableTopic};

const BROKERS: [i32; 3] = [1, 2, 3];

fn at(seconds: u64) -> SimTime {
    SimTime(seconds * 1_000_000_000)
}

fn node(id: i32, role: &str) -> ProcSpec {
    let name = if role == "broker" { format!("broker-{id}") } else { format!("controller-{id}") };
    let listeners = match role {
        "broker" => format!("PLAINTEXT://{name}:9092"),
        _ => format!("CONTROLLER://{name}:9093"),
    };
    let given: BTreeMap<String, String> = [
        ("process.roles", role),
        ("node.id", &id.to_string()),
        ("listeners", &listeners),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
        ("controller.quorum.voters", "101@controller-101:9093"),
        ("log.dirs", "data"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let config = Arc::new(NodeConfig::parse(&given).expect("the configuration is right"));
    let cluster = NewCluster { id: "4L6g3nShT-eMCtK--X86sw".into(), voters: None };
    ProcSpec::node(&name, NodeSetup { config, cluster })
}

/// Creates the topic `purchases` once, then idles.
#[derive(Clone, Default)]
struct TopicMaker {
    asked: bool,
    answered: bool,
}

impl Machine for TopicMaker {
    fn handle(&mut self, _: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
        match input {
            Input::Timer => {
                self.asked = true;
                let conn = out.next_conn();
                out.items.push(Output::Connect { conn, to: Endpoint::new("broker-1", 9092) });
            }
            Input::Connected { conn } => {
                let topic = CreatableTopic {
                    name: "purchases".into(),
                    num_partitions: 3,
                    replication_factor: 3,
                    ..Default::default()
                };
                let request =
                    CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
                let frame = encode_request(7, 1, Some("maker"), &request).expect("it can be encoded");
                out.items.push(Output::Send { conn, frame });
            }
            Input::Frame { .. } => self.answered = true,
            Input::Closed { .. } => assert!(self.answered, "closed before the answer"),
            other => panic!("{other:?}"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        (!self.asked).then_some(Instant(0))
    }

    fn listeners(&self) -> Vec<(u16, Listener)> {
        Vec::new()
    }

    fn box_clone(&self) -> Box<dyn Machine> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn lab(seed: u64) -> World {
    let mut world = World::new(WorldSpec { seed, ..WorldSpec::default() });
    world.add_proc(node(101, "controller"));
    for id in BROKERS {
        world.add_proc(node(id, "broker"));
    }
    for proc in world.procs().collect::<Vec<_>>() {
        world.format(proc).expect("a new disk can be formatted");
    }
    world.add_proc(ProcSpec {
        name: "maker".into(),
        host: "lab".into(),
        start: Between::exactly(Nanos::ZERO),
        cost: WorkCost::NONE,
        make: Make::Machine(Arc::new(|_| Box::new(TopicMaker::default()))),
    });
    let shop: ClientMaker = Arc::new(|boot: ClientBoot| {
        let spec = ProducerSpec {
            name: "shop".into(),
            bootstrap: BROKERS.map(|id| Endpoint::new(format!("broker-{id}"), 9092)).to_vec(),
            topic: "purchases".into(),
            rate: Rate { messages: 100, per: Nanos::from_secs(1) },
            count: None,
            keys: 20,
            size: 1_000,
            partition: None,
            first_message: 0,
            config: BTreeMap::from([("acks".to_owned(), "all".to_owned())]),
            mutants: Mutants::NONE,
        };
        let rng = rand_chacha::rand_core::SeedableRng::from_seed(boot.seed);
        ProducerClient::new(spec, rng)
            .map(|p| client::Process::Producer(Box::new(p)))
            .map_err(|e| e.to_string())
    });
    world.add_proc(ProcSpec::client("shop", "shop", shop));
    world
}

/// What the story counts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    acked: usize,
    failed: usize,
    fenced: Vec<(u64, i32)>,
    led: Vec<u64>,
}

fn listen(stage: &mut Stage, told: &mut Told) {
    for happened in stage.world_mut().take_happened() {
        let ms = happened.at.0 / 1_000_000;
        match happened.what {
            What::Client(ClientEvent::BatchAcked { records, .. }) => told.acked += records.len(),
            What::Client(ClientEvent::BatchFailed { records, .. }) => told.failed += records.len(),
            What::Node(Event::BrokerFenced { broker, .. }) => told.fenced.push((ms, broker)),
            What::Node(Event::BecameLeader { .. }) => told.led.push(ms),
            _ => {}
        }
    }
}

async fn up(stage: &mut Stage) {
    for name in ["controller-101", "broker-1", "broker-2", "broker-3"] {
        let proc = stage.world().proc(name).expect("it was added");
        stage.start(proc).await.expect("it is down");
    }
    stage.run_until(at(8)).expect("the cluster comes up");
    for id in BROKERS {
        let node = stage.world().node(stage.world().proc(&format!("broker-{id}")).unwrap()).unwrap();
        assert_eq!(node.state(), NodeState::Running, "broker-{id}");
    }
    for name in ["maker", "shop"] {
        let proc = stage.world().proc(name).expect("it was added");
        stage.start(proc).await.expect("it is down");
    }
    stage.run_until(at(15)).expect("the topic is made");
}

async fn failover(stage: &mut Stage, told: &mut Told) {
    let victim = stage.world().proc("broker-1").unwrap();
    stage.kill(victim).await.expect("it runs");
    stage.run_until(at(35)).expect("leaders move");
    stage.start(victim).await.expect("it is down");
    stage.run_until(at(50)).expect("it returns");
    listen(stage, told);
}

#[test]
fn a_cluster_fails_over_and_its_digest_is_that_of_its_clone() {
    let story = |seed| {
        run(lab(seed), async move |stage| {
            up(stage).await;
            let maker: &TopicMaker = stage.world().machine(stage.world().proc("maker").unwrap()).unwrap();
            assert!(maker.answered, "the topic was created");
            let clone = stage.world().clone();
            let mut told = Told::default();
            failover(stage, &mut told).await;
            (clone, told)
        })
        .expect("the simulator holds")
    };
    let (world, (clone, told)) = story(7);
    assert!(told.acked > 4_000 && told.failed == 0, "{told:?}");
    let (fenced, broker) = told.fenced[told.fenced.len() - 1];
    assert!(broker == 1 && (23_000..26_000).contains(&fenced), "nine seconds after the kill: {told:?}");
    assert!(told.led.iter().any(|ms| (fenced..fenced + 500).contains(ms)), "{told:?}");
    let image = |name: &str| world.node(world.proc(name).unwrap()).expect("it runs").image().clone();
    let topic = image("broker-2").topics.topic_named("purchases").expect("it is there").clone();
    for partition in topic.partitions.values() {
        assert_eq!(partition.isr.len(), 3, "{partition:?}");
    }
    // Replicas hold the same bytes once.
    let files = |host| world.disk(world.host(host).unwrap()).used() as usize;
    let all: usize = ["broker-1", "broker-2", "broker-3", "controller-101"].map(files).iter().sum();
    assert!(world.disk_bytes_held() < all * 2 / 3, "{} of {all}", world.disk_bytes_held());

    let (again, (_, twice)) = story(7);
    assert_eq!(again.digest().parting(&world.digest()), None);
    assert_eq!(told, twice);
    assert_ne!(story(8).0.digest().end, world.digest().end);

    let (cloned, retold) = run(clone, async move |stage| {
        let mut told = Told::default();
        failover(stage, &mut told).await;
        told
    })
    .expect("the simulator holds");
    assert_eq!(cloned.digest(), world.digest());
    assert_eq!(retold, told);
}

#[test]
fn a_broker_without_its_power_recovers_from_what_its_disk_kept() {
    let (world, told) = run(lab(11), async move |stage| {
        up(stage).await;
        let victim = stage.world().proc("broker-2").unwrap();
        let host = stage.world().host("broker-2").unwrap();
        for second in [15, 35, 55] {
            stage.run_until(at(second)).expect("it runs");
            stage.power_off(host, Unsynced::ByChance).await.expect("it is on");
            stage.run_until(at(second + 2)).expect("the others run");
            stage.start(victim).await.expect("it is down");
        }
        stage.run_until(at(90)).expect("it returns");
        let mut told = Told::default();
        listen(stage, &mut told);
        told
    })
    .expect("the simulator holds");
    assert!(told.acked > 7_000, "{told:?}");
    let log = |host: &str| world.file(world.host(host).unwrap(), "data/purchases-0/00000000000000000000.log");
    let (one, two) = (log("broker-1").expect("it has a replica"), log("broker-2").expect("it has a replica"));
    let both = one.len().min(two.len());
    assert!(both > 10_000 && one[..both] == two[..both], "{} and {}", one.len(), two.len());
}
