//! The world as small state machines see it.

use std::any::Any;
use std::sync::Arc;

use broker_core::disk::{Disk, FileId};
use broker_core::event::Event;
use broker_core::io::{Input, Listener, Output, Outputs};
use bytes::{BufMut, Bytes, BytesMut};
use wire::Rope;
use wire::drive::{ConnError, ConnId, Endpoint, Instant, Nanos, Now};

use super::process::Machine;
use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> SimTime {
    SimTime(seconds * SECOND)
}

fn frame(payload: &[u8]) -> Rope {
    let mut bytes = BytesMut::new();
    bytes.put_u32(payload.len() as u32);
    bytes.put_slice(payload);
    Rope::from(bytes.freeze())
}

/// A server that answers each frame with its own bytes, counts, tells of it, and appends each frame to a file.
#[derive(Clone, Default)]
struct Echo {
    log: Vec<String>,
    frames: Vec<(u64, Bytes)>,
    file: Option<FileId>,
    /// Takes frames of a connection only until so many have come; then it pauses the connection.
    pause_after: Option<usize>,
    resume_at: Option<u64>,
    paused: Option<ConnId>,
    mute: bool,
    assert_on: Option<&'static [u8]>,
    conns: Vec<ConnId>,
}

impl Machine for Echo {
    fn handle(&mut self, now: Now, input: Input, disk: &mut dyn Disk, out: &mut Outputs) {
        match input {
            Input::Accepted { conn, peer, .. } => {
                self.conns.push(conn);
                self.log.push(format!("accepted {peer}"));
            }
            Input::Frame { conn, frame } => {
                assert!(self.assert_on.is_none_or(|odd| frame.to_bytes() != odd), "an odd frame");
                self.frames.push((now.mono.0, frame.to_bytes()));
                if let Some(file) = self.file {
                    disk.append(file, frame.pieces()).unwrap();
                }
                if out.events_wanted {
                    out.items.push(Output::Event(Event::ControllerResigned { epoch: 1 }));
                }
                if !self.mute {
                    out.items.push(Output::Send { conn, frame: super::tests::frame(&frame.to_bytes()) });
                }
                if Some(self.frames.len()) == self.pause_after {
                    self.paused = Some(conn);
                    out.items.push(Output::Pause { conn });
                }
            }
            Input::Timer => {
                self.resume_at = None;
                if let Some(conn) = self.paused.take() {
                    out.items.push(Output::Resume { conn });
                }
            }
            Input::Closed { why, .. } => self.log.push(format!("closed: {why}")),
            Input::Oversized { announced, .. } => self.log.push(format!("oversized {announced}")),
            Input::Shutdown => {
                self.log.push("shutdown".into());
                out.items.push(Output::Stopped);
            }
            Input::Sent { bytes_left, .. } => self.log.push(format!("left {bytes_left}")),
            other => self.log.push(format!("{other:?}")),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.paused.and(self.resume_at).map(Instant)
    }

    fn listeners(&self) -> Vec<(u16, Listener)> {
        vec![(9092, Listener::Broker)]
    }

    fn frame_limit(&self) -> i32 {
        1 << 20
    }

    fn box_clone(&self) -> Box<dyn Machine> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A client that connects (again, after `retry`) and sends a frame of `size` bytes every `every`.
#[derive(Clone)]
struct Talker {
    to: Endpoint,
    every: u64,
    size: usize,
    retry: Option<u64>,
    next_at: u64,
    conn: Option<ConnId>,
    sent: u64,
    left: Vec<usize>,
    /// When each frame was sent, and when it came back.
    round_trips: Vec<(u64, u64)>,
    log: Vec<(u64, String)>,
    until: u64,
}

fn talker(to: &str, every: Nanos) -> Talker {
    Talker {
        to: Endpoint::new(to, 9092),
        every: every.0,
        size: 100,
        retry: Some(SECOND / 10),
        next_at: 0,
        conn: None,
        sent: 0,
        left: Vec::new(),
        round_trips: Vec::new(),
        log: Vec::new(),
        until: u64::MAX,
    }
}

impl Talker {
    fn lost(&mut self, now: Now, why: ConnError) {
        self.log.push((now.mono.0, why.to_string()));
        self.conn = None;
        self.next_at = self.retry.map_or(u64::MAX, |retry| now.mono.0 + retry);
    }
}

impl Machine for Talker {
    fn handle(&mut self, now: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
        match input {
            Input::Timer => match self.conn {
                None => {
                    let conn = out.next_conn();
                    self.conn = Some(conn);
                    self.next_at = u64::MAX;
                    out.items.push(Output::Connect { conn, to: self.to.clone() });
                }
                Some(conn) => {
                    let mut payload = vec![self.sent as u8; self.size];
                    payload[..8].copy_from_slice(&now.mono.0.to_be_bytes());
                    out.items.push(Output::Send { conn, frame: frame(&payload) });
                    self.sent += 1;
                    self.next_at = now.mono.0 + self.every;
                    if self.next_at > self.until {
                        self.next_at = u64::MAX;
                    }
                }
            },
            Input::Connected { .. } => {
                self.log.push((now.mono.0, "connected".into()));
                self.next_at = now.mono.0;
            }
            Input::ConnectFailed { why, .. } | Input::Closed { why, .. } => self.lost(now, why),
            Input::Frame { frame, .. } => {
                let mut sent = [0; 8];
                frame.copy_to(0, &mut sent);
                self.round_trips.push((u64::from_be_bytes(sent), now.mono.0));
            }
            Input::Sent { bytes_left, .. } => self.left.push(bytes_left),
            Input::Shutdown => out.items.push(Output::Stopped),
            other => panic!("{other:?}"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        (self.next_at != u64::MAX).then_some(Instant(self.next_at))
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

fn machine(
    name: &str,
    start: Between,
    cost: WorkCost,
    machine: impl Machine + Sync + Clone + 'static,
) -> ProcSpec {
    let make: MachineMaker = Arc::new(move |boot| {
        let _ = boot.seed;
        machine.box_clone()
    });
    ProcSpec { name: name.into(), host: name.into(), start, cost, make: Make::Machine(make) }
}

const AT_ONCE: Between = Between::exactly(Nanos::ZERO);

/// A server `s` and a client `c` that talks to it every 10 ms.
fn pair(seed: u64, echo: Echo, mut talks: Talker) -> (World, ProcId, ProcId) {
    let mut world = World::new(WorldSpec { seed, ..WorldSpec::default() });
    talks.to = Endpoint::new("s", 9092);
    let s = world.add_proc(machine("s", NODE_START, WorkCost::NODE, echo));
    let c = world.add_proc(machine("c", AT_ONCE, WorkCost::NONE, talks));
    (world, s, c)
}

fn every_10ms() -> Talker {
    talker("s", Nanos::from_millis(10))
}

fn echo(stage: &Stage, s: ProcId) -> &Echo {
    stage.world().machine(s).expect("the server runs")
}

fn client(stage: &Stage, c: ProcId) -> &Talker {
    stage.world().machine(c).expect("the client runs")
}

fn words(log: &[(u64, String)]) -> Vec<&str> {
    log.iter().map(|(_, word)| word.as_str()).collect()
}

#[test]
fn a_conversation_refused_until_the_server_listens() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    let (world, ()) = run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        assert_eq!(stage.world().state(s), ProcState::Starting);
        stage.run_until(at(2)).unwrap();
        let client = client(stage, c);
        let refused = words(&client.log).iter().filter(|w| **w == "connection refused").count();
        assert!((3..=6).contains(&refused), "300 to 600 ms of start, tried every 100 ms: {:?}", client.log);
        assert_eq!(client.log.last().unwrap().1, "connected");
        let started = client.log.last().unwrap().0;
        assert!((SECOND * 3 / 10..SECOND * 8 / 10).contains(&started));
        for (sent, back) in &client.round_trips {
            let took = back - sent;
            // Two latencies of 200 to 600 µs, 10 µs of work, and 2 × 100 bytes at 1 µs a KiB.
            assert!((410_000..=1_211_000).contains(&took), "{took}");
        }
        assert!(client.round_trips.len() as u64 + 1 >= client.sent && client.sent > 100);
        assert_eq!(echo(stage, s).log, ["accepted 10.0.0.2"]);
        assert!(stage.step().unwrap().is_some());
    })
    .unwrap();
    assert!(world.counts().frames > 200);
    assert_eq!(world.connections(), 1);
}

#[test]
fn a_host_that_is_off_is_silent_until_the_time_out() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.run_until(at(1)).unwrap();
        let host = stage.world().host("s").unwrap();
        stage.power_off(host, Unsynced::ByChance).await.unwrap();
        assert_eq!(stage.world().state(s), ProcState::Down);
        stage.start(c).await.unwrap();
        stage.run_until(at(127)).unwrap();
        assert!(client(stage, c).log.is_empty());
        stage.run_until(at(129)).unwrap();
        assert_eq!(client(stage, c).log, [(128 * SECOND, "connection timed out".to_owned())]);
        assert!(stage.power_off(host, Unsynced::ByChance).await.is_err());
    })
    .unwrap();
    let (mut world, _, _) = pair(7, Echo::default(), every_10ms());
    let mut lost = every_10ms();
    (lost.to, lost.retry) = (Endpoint::new("nowhere", 9092), None);
    let l = world.add_proc(machine("lost", AT_ONCE, WorkCost::NONE, lost));
    run(world, async move |stage| {
        stage.start(l).await.unwrap();
        stage.run_until(at(1)).unwrap();
        assert_eq!(words(&client(stage, l).log), ["unknown host"]);
    })
    .unwrap();
}

#[test]
fn what_a_cut_holds_back_arrives_after_the_heal() {
    for direction in [Direction::Both, Direction::Forth, Direction::Back] {
        let (world, s, c) = pair(7, Echo::default(), every_10ms());
        run(world, async move |stage| {
            stage.start(s).await.unwrap();
            stage.start(c).await.unwrap();
            stage.run_until(at(2)).unwrap();
            let (hc, hs) = ([stage.world().host("c").unwrap()], [stage.world().host("s").unwrap()]);
            stage.world_mut().cut(&hc, &hs, direction, false);
            stage.run_until(at(3)).unwrap();
            let (heard, answered) = (echo(stage, s).frames.len(), client(stage, c).round_trips.len());
            stage.run_until(at(12)).unwrap();
            let reached = echo(stage, s).frames.len() > heard;
            assert_eq!(reached, direction == Direction::Back, "only what c sends to s is cut with forth");
            assert_eq!(client(stage, c).round_trips.len(), answered);
            stage.world_mut().heal(&hc, &hs, direction);
            stage.run_until(at(40)).unwrap();
            let (client, echo) = (client(stage, c), echo(stage, s));
            assert_eq!(words(&client.log).last(), Some(&"connected"), "nothing was reset");
            assert!(client.sent > 3_700);
            assert!(client.round_trips.len() as u64 >= client.sent - 2, "all of it was answered");
            assert!(
                echo.frames.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1[..8] < w[1].1[..8]),
                "in order"
            );
        })
        .unwrap();
    }
}

#[test]
fn a_cut_with_reset_breaks_connections_and_new_ones_hang() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        stage.run_until(at(2)).unwrap();
        let (hc, hs) = ([stage.world().host("c").unwrap()], [stage.world().host("s").unwrap()]);
        let log = client(stage, c).log.len();
        stage.world_mut().cut(&hc, &hs, Direction::Both, true);
        assert_eq!(words(&client(stage, c).log[log..]), ["connection reset by peer"]);
        assert_eq!(echo(stage, s).log.last().unwrap(), "closed: connection reset by peer");
        stage.run_until(at(10)).unwrap();
        assert_eq!(client(stage, c).log.len(), log + 1, "the new connection hangs");
        stage.world_mut().heal_everything();
        stage.run_until(at(18)).unwrap();
        assert_eq!(words(&client(stage, c).log).last(), Some(&"connected"), "its request was sent again");
    })
    .unwrap();
}

#[test]
fn a_jam_accepts_and_delivers_nothing() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.run_until(at(1)).unwrap();
        let (hc, hs) = ([stage.world().host("c").unwrap()], [stage.world().host("s").unwrap()]);
        stage.world_mut().jam(&hc, &hs, Direction::Forth);
        stage.start(c).await.unwrap();
        stage.run_until(at(5)).unwrap();
        assert_eq!(words(&client(stage, c).log), ["connected"]);
        assert!(echo(stage, s).log.is_empty() && echo(stage, s).frames.is_empty());
        stage.world_mut().heal(&hc, &hs, Direction::Forth);
        stage.run_until(at(15)).unwrap();
        assert!(client(stage, c).round_trips.len() > 1_000);
    })
    .unwrap();
}

#[test]
fn a_dead_process_resets_and_a_dead_host_does_not() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        stage.run_until(at(2)).unwrap();
        stage.kill(s).await.unwrap();
        assert_eq!(stage.world().state(s), ProcState::Down);
        assert!(stage.world().machine::<Echo>(s).is_none());
        assert!(stage.kill(s).await.is_err(), "killing what is down is refused");
        stage.run_until(SimTime(2 * SECOND + SECOND / 20)).unwrap();
        assert_eq!(words(&client(stage, c).log).last(), Some(&"connection reset by peer"));
        stage.start(s).await.unwrap();
        assert!(stage.start(s).await.is_err(), "starting what runs is refused");
        assert_eq!(stage.world().incarnation(s), 2);
        stage.run_until(at(4)).unwrap();
        assert_eq!(words(&client(stage, c).log).last(), Some(&"connected"));

        // A host without power says nothing; when it is back, it resets what it does not know.
        let log = client(stage, c).log.len();
        stage.power_off(stage.world().host("s").unwrap(), Unsynced::ByChance).await.unwrap();
        stage.run_until(at(10)).unwrap();
        assert_eq!(client(stage, c).log.len(), log);
        stage.start(s).await.unwrap();
        stage.run_until(at(30)).unwrap();
        let mut told = words(&client(stage, c).log[log..]);
        told.dedup();
        assert_eq!(told, ["connection reset by peer", "connection refused", "connected"]);

        // A server that exits closes in an orderly way, after what it had sent.
        let log = client(stage, c).log.len();
        stage.stop(s).await.unwrap();
        stage.run_until(SimTime(30 * SECOND + SECOND / 20)).unwrap();
        assert_eq!(stage.world().state(s), ProcState::Down);
        assert_eq!(stage.world().exit_code(s), Some(0));
        assert_eq!(words(&client(stage, c).log[log..]), ["connection closed by peer"]);
    })
    .unwrap();
}

#[test]
fn a_process_that_dies_under_a_cut_is_found_out_by_the_next_frame() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        stage.run_until(at(2)).unwrap();
        let (hc, hs) = ([stage.world().host("c").unwrap()], [stage.world().host("s").unwrap()]);
        stage.world_mut().cut(&hc, &hs, Direction::Both, false);
        stage.run_until(at(3)).unwrap();
        stage.kill(s).await.unwrap();
        stage.run_until(at(4)).unwrap();
        assert_eq!(words(&client(stage, c).log).last(), Some(&"connected"));
        stage.world_mut().heal_cuts();
        stage.run_until(at(8)).unwrap();
        assert_eq!(words(&client(stage, c).log).last(), Some(&"connection refused"));
        assert!(words(&client(stage, c).log).contains(&"connection reset by peer"));
        assert!(stage.world().connections() <= 1, "only the one that is being tried");
    })
    .unwrap();
}

#[test]
fn a_sender_hears_of_a_jam_and_of_its_draining() {
    let mut talks = talker("s", Nanos::from_millis(1));
    (talks.size, talks.until) = (10_000, 2 * SECOND);
    let paused = Echo { pause_after: Some(5), resume_at: Some(3 * SECOND), mute: true, ..Echo::default() };
    let (world, s, c) = pair(7, paused, talks);
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        stage.run_until(at(2)).unwrap();
        assert_eq!(echo(stage, s).frames.len(), 5, "the connection is paused");
        let (sent, left) = (client(stage, c).sent, client(stage, c).left.clone());
        let fits = super::net::WINDOW as u64 / 10_004;
        assert_eq!(left.len() as u64, sent - 5 - fits, "each frame that does not fit is told of");
        assert!(left.windows(2).all(|w| w[0] < w[1]));
        stage.run_until(at(4)).unwrap();
        assert_eq!(echo(stage, s).frames.len() as u64, client(stage, c).sent);
        let drained = &client(stage, c).left[left.len()..];
        assert_eq!(drained.last(), Some(&0));
        assert!(drained.windows(2).all(|w| w[0] > w[1]));
    })
    .unwrap();
}

#[test]
fn a_stopped_process_takes_nothing_until_it_goes_on() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        stage.run_until(at(2)).unwrap();
        stage.pause(s).await.unwrap();
        assert_eq!(stage.world().state(s), ProcState::Paused);
        let taken = echo(stage, s).frames.len();
        stage.run_until(at(5)).unwrap();
        assert_eq!(echo(stage, s).frames.len(), taken);
        assert!(stage.pause(s).await.is_err());
        stage.resume(s).await.unwrap();
        assert!(stage.resume(s).await.is_err());
        stage.run_until(at(6)).unwrap();
        assert!(echo(stage, s).frames.len() as u64 + 1 >= client(stage, c).sent);
        assert_eq!(words(&client(stage, c).log).last(), Some(&"connected"));
        // Paused while it starts: it runs only after it goes on.
        stage.kill(s).await.unwrap();
        stage.start(s).await.unwrap();
        stage.pause(s).await.unwrap();
        stage.run_until(at(8)).unwrap();
        assert!(stage.world().machine::<Echo>(s).is_none());
        stage.resume(s).await.unwrap();
        stage.run_until(at(9)).unwrap();
        assert!(!echo(stage, s).frames.is_empty());
        // SIGKILL ends a stopped process, too.
        stage.pause(s).await.unwrap();
        stage.kill(s).await.unwrap();
        assert_eq!(stage.world().state(s), ProcState::Down);
    })
    .unwrap();
}

#[test]
fn work_takes_time() {
    let mut talks = talker("s", Nanos::from_millis(100));
    talks.size = 1 << 16;
    let (world, s, c) = pair(7, Echo { mute: true, ..Echo::default() }, talks);
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(c).await.unwrap();
        stage.run_until(at(2)).unwrap();
        let mut busy = 0;
        while stage.world().now() < at(3) {
            let frames = echo(stage, s).frames.len();
            stage.step().unwrap();
            if echo(stage, s).frames.len() > frames {
                let ready = stage.world().procs[s.0 as usize].busy_until.unwrap();
                busy += 1;
                let size = client(stage, c).size as u64;
                assert_eq!(ready.since(stage.world().now()).0, 10_000 + size * 1_000 / 1024);
            }
        }
        assert_eq!(busy, 10);
    })
    .unwrap();
}

#[test]
fn bytes_that_are_no_frames_are_put_together_and_oversized_ones_refused() {
    #[derive(Clone)]
    struct Odd(u32, Option<ConnId>);
    impl Machine for Odd {
        fn handle(&mut self, _: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
            match input {
                Input::Timer => {
                    self.0 += 1;
                    let conn = out.next_conn();
                    out.items.push(Output::Connect { conn, to: Endpoint::new("s", 9092) });
                }
                Input::Connected { conn } => {
                    self.1 = Some(conn);
                    let mut stream = frame(b"one");
                    stream.append(frame(b"two"));
                    stream.append(frame(b"three").slice(0, 6));
                    for bytes in [stream, frame(b"three").slice(6, 3)] {
                        out.items.push(Output::Send { conn, frame: bytes });
                    }
                    let huge = Bytes::from_static(&[0x00, 0x20, 0, 0, 1, 2, 3]);
                    out.items.push(Output::Send { conn, frame: Rope::from(huge) });
                    out.items.push(Output::Send { conn, frame: frame(b"never read") });
                }
                _ => {}
            }
        }
        fn deadline(&self) -> Option<Instant> {
            (self.0 == 0).then_some(Instant(SECOND))
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
    let (mut world, s, _) = pair(7, Echo { mute: true, ..Echo::default() }, every_10ms());
    let o = world.add_proc(machine("odd", AT_ONCE, WorkCost::NONE, Odd(0, None)));
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(o).await.unwrap();
        stage.run_until(at(2)).unwrap();
        let frames: Vec<&[u8]> = echo(stage, s).frames.iter().map(|(_, f)| &f[..]).collect();
        assert_eq!(frames, [&b"one"[..], b"two", b"three"]);
        assert_eq!(echo(stage, s).log[1..], ["oversized 2097152"]);
    })
    .unwrap();
}

/// A story with something of everything, for digests.
async fn story(
    stage: &mut Stage,
    s: ProcId,
    c: ProcId,
    cloned_at: Option<u64>,
) -> (DigestTrail, Option<World>) {
    let mut clone = None;
    let mut pass = async |stage: &mut Stage, until: u64| {
        stage.run_until(at(until)).unwrap();
        if cloned_at == Some(until) {
            clone = Some(stage.world().clone());
        }
    };
    stage.start(s).await.unwrap();
    stage.start(c).await.unwrap();
    pass(stage, 2).await;
    let (hc, hs) = ([stage.world().host("c").unwrap()], [stage.world().host("s").unwrap()]);
    stage.world_mut().cut(&hc, &hs, Direction::Back, false);
    pass(stage, 4).await;
    stage.pause(s).await.unwrap();
    pass(stage, 5).await;
    finish(stage, s, c).await;
    (stage.world().digest(), clone)
}

/// The rest of the story, from its fifth second on.
async fn finish(stage: &mut Stage, s: ProcId, c: ProcId) {
    stage.resume(s).await.unwrap();
    stage.world_mut().heal_everything();
    stage.run_until(at(7)).unwrap();
    stage.power_off(stage.world().host("s").unwrap(), Unsynced::ByChance).await.unwrap();
    stage.run_until(at(8)).unwrap();
    stage.start(s).await.unwrap();
    stage.run_until(at(20)).unwrap();
    stage.kill(c).await.unwrap();
    stage.start(c).await.unwrap();
    stage.run_until(at(60)).unwrap();
}

/// A server that also keeps a file, syncs it, and opens it again.
#[derive(Clone)]
struct Keeper(Echo);

impl Machine for Keeper {
    fn handle(&mut self, now: Now, input: Input, disk: &mut dyn Disk, out: &mut Outputs) {
        let frame = matches!(input, Input::Frame { .. });
        if let Input::Synced { result, .. } = input {
            return assert!(result.is_ok());
        }
        self.0.handle(now, input, disk, out);
        if frame && self.0.frames.len().is_multiple_of(10) {
            disk.sync(self.0.file.unwrap());
        }
    }
    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }
    fn listeners(&self) -> Vec<(u16, Listener)> {
        self.0.listeners()
    }
    fn box_clone(&self) -> Box<dyn Machine> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn keepers_world(seed: u64) -> (World, ProcId, ProcId) {
    let mut world = World::new(WorldSpec { seed, ..WorldSpec::default() });
    let make: MachineMaker = Arc::new(|boot: Boot<'_>| {
        boot.disk.mkdir("data").unwrap();
        boot.disk.sync_dir("data");
        let file = boot.disk.open("data/log", true).unwrap();
        boot.disk.sync_dir("data");
        Box::new(Keeper(Echo { file: Some(file), ..Echo::default() }))
    });
    let (name, host) = ("s".to_owned(), "s".to_owned());
    let s = world.add_proc(ProcSpec {
        name,
        host,
        start: NODE_START,
        cost: WorkCost::NODE,
        make: Make::Machine(make),
    });
    let c = world.add_proc(machine("c", AT_ONCE, WorkCost::NONE, every_10ms()));
    (world, s, c)
}

#[test]
fn same_identity_same_digest() {
    let digest = |seed| {
        let (world, s, c) = keepers_world(seed);
        run(world, async move |stage| story(stage, s, c, None).await.0).unwrap().1
    };
    let first = digest(7);
    assert_eq!(first, digest(7));
    assert_eq!(first.parting(&digest(7)), None);
    let other = digest(8);
    assert_ne!(first.end, other.end);
    assert!(!first.checkpoints.is_empty());
    assert_eq!(first.parting(&other).unwrap().same_until_frame, 0);
}

#[test]
fn traces_of_equal_runs_are_equal_and_name_the_first_event_that_differs() {
    let trace = |seed, resume_early: bool| {
        let (mut world, s, c) = keepers_world(seed);
        world.start_trace();
        run(world, async move |stage| {
            stage.start(s).await.unwrap();
            stage.start(c).await.unwrap();
            stage.run_until(at(2)).unwrap();
            if resume_early {
                stage.world_mut().step_clock(0, 1);
            }
            stage.run_until(at(3)).unwrap();
            stage.world_mut().take_trace()
        })
        .unwrap()
        .1
    };
    let base = trace(7, false);
    assert!(base.len() > 500);
    assert_eq!(digest::first_difference(&base, &trace(7, false)), None);
    let (place, ours, theirs) = digest::first_difference(&base, &trace(7, true)).unwrap();
    assert_eq!(base[place], ours.unwrap());
    let theirs = theirs.unwrap();
    assert_eq!((theirs.at, theirs.kind), (at(2), digest::ItemKind::Verb));
    assert!(theirs.line("s").contains("s Verb"), "{}", theirs.line("s"));
}

#[test]
fn a_clone_of_the_world_runs_on_to_the_same_digest() {
    let (world, s, c) = keepers_world(7);
    let (_, (want, clone)) = run(world, async move |stage| story(stage, s, c, Some(5)).await).unwrap();
    let clone = clone.unwrap();
    assert_eq!(clone.state(s), ProcState::Paused);
    for _ in 0..2 {
        let (_, got) = run(clone.clone(), async move |stage| {
            finish(stage, s, c).await;
            stage.world().digest()
        })
        .unwrap();
        assert_eq!(got, want);
    }
}

#[test]
fn a_livelock_ends_with_the_last_events() {
    #[derive(Clone)]
    struct Restless;
    impl Machine for Restless {
        fn handle(&mut self, _: Now, _: Input, _: &mut dyn Disk, _: &mut Outputs) {}
        fn deadline(&self) -> Option<Instant> {
            Some(Instant(SECOND))
        }
        fn listeners(&self) -> Vec<(u16, Listener)> {
            Vec::new()
        }
        fn box_clone(&self) -> Box<dyn Machine> {
            Box::new(Restless)
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }
    let mut world = World::new(WorldSpec::default());
    let r = world.add_proc(machine("restless", AT_ONCE, WorkCost::NONE, Restless));
    let (_, failure) = run(world, async move |stage| {
        stage.start(r).await.unwrap();
        let failure = stage.run_until(at(2)).unwrap_err();
        assert_eq!(stage.step().unwrap_err(), failure, "a world that failed does not go on");
        failure
    })
    .unwrap();
    let WorldError::Livelock { at: when, last } = &failure else { panic!("{failure}") };
    assert_eq!((*when, last.len()), (at(1), 10));
    assert!(last.iter().all(|line| line.contains("restless Timer")), "{last:?}");
}

#[test]
fn an_assertion_ends_the_world_and_names_the_process() {
    let mut talks = every_10ms();
    talks.size = 8;
    let (mut world, s, _) = pair(7, Echo { assert_on: Some(b"12345678"), ..Echo::default() }, talks);
    #[derive(Clone)]
    struct Once(bool);
    impl Machine for Once {
        fn handle(&mut self, _: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
            match input {
                Input::Timer => {
                    self.0 = true;
                    let conn = out.next_conn();
                    out.items.push(Output::Connect { conn, to: Endpoint::new("s", 9092) });
                }
                Input::Connected { conn } => {
                    out.items.push(Output::Send { conn, frame: frame(b"12345678") });
                }
                _ => {}
            }
        }
        fn deadline(&self) -> Option<Instant> {
            (!self.0).then_some(Instant(SECOND))
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
    let o = world.add_proc(machine("once", AT_ONCE, WorkCost::NONE, Once(false)));
    let (_, failure) = run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.start(o).await.unwrap();
        stage.run_until(at(2)).unwrap_err()
    })
    .unwrap();
    let WorldError::Assertion { name, text, .. } = &failure else { panic!("{failure}") };
    assert_eq!(name, "s");
    assert!(text.contains("an odd frame") && text.contains("tests.rs:"), "{text}");
}

#[test]
fn alarms_come_after_what_was_made_for_the_same_instant() {
    let mut world = World::new(WorldSpec::default());
    let first = world.alarm(at(1));
    let second = world.alarm(at(1));
    assert_eq!(world.step(), Ok(Some(Step::Alarm(first))));
    assert_eq!(world.step(), Ok(Some(Step::Alarm(second))));
    assert_eq!((world.now(), world.step()), (at(1), Ok(None)));
}

#[test]
fn what_happens_is_told_in_order() {
    let (world, s, c) = pair(7, Echo::default(), every_10ms());
    run(world, async move |stage| {
        stage.start(s).await.unwrap();
        stage.run_until(at(1)).unwrap();
        stage.kill(s).await.unwrap();
        let told: Vec<String> = stage
            .world_mut()
            .take_happened()
            .into_iter()
            .map(|h| match h.what {
                What::Proc(event) => format!("{} {event}", h.proc.unwrap().0),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(told, ["0 started", "0 running", "0 killed"]);
        stage.world_mut().set_events_wanted(false);
        stage.start(c).await.unwrap();
        assert!(stage.world_mut().take_happened().is_empty());
    })
    .unwrap();
}

#[test]
fn what_a_process_did_in_the_step_in_which_it_dies_is_told_and_not_sent() {
    for power in [false, true] {
        let (world, s, c) = pair(7, Echo::default(), every_10ms());
        run(world, async move |stage| {
            stage.start(s).await.unwrap();
            stage.start(c).await.unwrap();
            stage.run_until(at(2)).unwrap();
            stage.world_mut().take_happened();
            let heard = echo(stage, s).frames.len();
            while echo(stage, s).frames.len() == heard {
                stage.step().unwrap();
            }
            assert!(stage.world_mut().take_happened().is_empty(), "it is still at work");
            match power {
                true => {
                    let host = stage.world().host("s").unwrap();
                    stage.power_off(host, Unsynced::ByChance).await.unwrap();
                }
                false => stage.kill(s).await.unwrap(),
            }
            let told = stage.world_mut().take_happened();
            let told: Vec<bool> = told.iter().map(|h| matches!(h.what, What::Node(_))).collect();
            assert_eq!(told, [true, false], "what it did, and then its end");
            let answered = client(stage, c).round_trips.len();
            stage.run_until(at(3)).unwrap();
            assert_eq!(client(stage, c).round_trips.len(), answered);
        })
        .unwrap();
    }
}
