use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wire::messages::{ApiVersionsRequest, ApiVersionsResponse, EnvelopeRequest, EnvelopeResponse};

use super::*;
use crate::lifecycle::LifecycleCall;

const CALL: Call = Call::Lifecycle(LifecycleCall::Heartbeat);
const SECOND: u64 = 1_000;

fn at(ms: u64) -> Now {
    Now { mono: Instant(0).plus_millis(ms), wall_ms: 0 }
}

fn net() -> (Net, Outputs) {
    let given: BTreeMap<String, String> = [
        ("process.roles", "broker"),
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://broker-1:9092"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "101@controller-101:9093"),
    ]
    .iter()
    .map(|(k, v)| (k.to_string(), v.to_string()))
    .collect();
    (Net::new(&NodeConfig::parse(&given).unwrap()), Outputs::new(100))
}

/// What was put out since the last look, in words.
fn said(out: &mut Outputs) -> Vec<String> {
    out.items
        .drain(..)
        .map(|item| match item {
            Output::Connect { conn, to } => alloc::format!("connect {} {to}", conn.0),
            Output::Send { conn, .. } => alloc::format!("send {}", conn.0),
            Output::Pause { conn } => alloc::format!("pause {}", conn.0),
            Output::Resume { conn } => alloc::format!("resume {}", conn.0),
            Output::Close { conn, why } => alloc::format!("close {}: {why}", conn.0),
            other => alloc::format!("{other:?}"),
        })
        .collect()
}

fn token(conn: u64) -> RequestToken {
    RequestToken {
        conn: ConnId(conn),
        listener: Listener::Broker,
        key: ApiKey::ApiVersions,
        version: 0,
        correlation_id: 7,
        envelope: None,
    }
}

fn frame(text: &'static str) -> Rope {
    Rope::from(bytes::Bytes::from_static(text.as_bytes()))
}

fn arrives(net: &mut Net, out: &mut Outputs, text: &'static str) -> Option<String> {
    match net.frame(at(0), out, ConnId(1), frame(text)) {
        Arrived::Request { frame, .. } => Some(String::from_utf8(frame.to_bytes().to_vec()).unwrap()),
        Arrived::Answer(..) => panic!("an inbound connection brings no answers"),
        Arrived::Nothing => None,
    }
}

fn next(net: &mut Net, out: &mut Outputs) -> Option<String> {
    net.next_request(out).map(|(_, _, f)| String::from_utf8(f.to_bytes().to_vec()).unwrap())
}

#[test]
fn one_request_of_a_connection_is_handled_at_a_time_in_order() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    assert_eq!(arrives(&mut net, &mut out, "a").as_deref(), Some("a"));
    assert_eq!(arrives(&mut net, &mut out, "b"), None);
    assert_eq!(arrives(&mut net, &mut out, "c"), None);
    assert_eq!(next(&mut net, &mut out), None, "the first is not answered yet");
    net.respond(&mut out, token(1), &ApiVersionsResponse::default());
    assert_eq!(said(&mut out), ["send 1"]);
    assert_eq!(next(&mut net, &mut out).as_deref(), Some("b"));
    assert_eq!(arrives(&mut net, &mut out, "d"), None, "it must not overtake c");
    net.respond_nothing(&mut out, token(1));
    assert_eq!(next(&mut net, &mut out).as_deref(), Some("c"));
    net.respond_nothing(&mut out, token(1));
    assert_eq!(next(&mut net, &mut out).as_deref(), Some("d"));
    assert_eq!(said(&mut out), Vec::<String>::new());
}

#[test]
fn a_full_queue_pauses_and_an_empty_one_resumes() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    for i in 0..17 {
        assert_eq!(said(&mut out), Vec::<String>::new(), "request {i}");
        arrives(&mut net, &mut out, "x");
    }
    assert_eq!(said(&mut out), ["pause 1"]);
    for _ in 0..16 {
        net.respond_nothing(&mut out, token(1));
        assert!(next(&mut net, &mut out).is_some());
    }
    assert_eq!(said(&mut out), ["resume 1"]);
}

#[test]
fn answers_that_jam_stop_requests_until_they_flow() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    arrives(&mut net, &mut out, "a");
    net.respond(&mut out, token(1), &ApiVersionsResponse::default());
    net.sent(&mut out, ConnId(1), 10 << 20);
    assert_eq!(said(&mut out), ["send 1", "pause 1"]);
    assert_eq!(arrives(&mut net, &mut out, "b"), None);
    net.sent(&mut out, ConnId(1), 200 << 10);
    assert_eq!(next(&mut net, &mut out), None);
    net.sent(&mut out, ConnId(1), 0);
    assert_eq!(next(&mut net, &mut out).as_deref(), Some("b"));
    assert_eq!(said(&mut out), ["resume 1"]);
}

/// Requests of the client `c` may have 1,000 bytes a second.
fn limited(net: &mut Net, key: &str) {
    let mut image = crate::metadata::ClientQuotasImage::default();
    let entity = alloc::vec![("client-id".into(), Some("c".into()))];
    image.entities.entry(entity).or_default().insert(key.into(), 1_000f64.to_bits());
    net.set_client_quotas(&image);
}

#[test]
fn a_throttled_connection_is_answered_and_stays_muted() {
    let (mut net, mut out) = net();
    out.events_wanted = true;
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    arrives(&mut net, &mut out, "a");
    assert!(!net.measures_clients());
    assert_eq!(net.throttle_produce(at(0).mono, &mut out, token(1)), 0);
    limited(&mut net, "producer_byte_rate");
    assert!(net.measures_clients());
    assert_eq!(net.throttle_produce(at(0).mono, &mut out, token(1)), 0, "nobody noted whose request it is");
    net.note_client(ConnId(1), "c", 12_000);
    assert_eq!(net.throttle_produce(at(0).mono, &mut out, token(1)), 2_000);
    let told = out.items.pop();
    let first =
        Event::ClientThrottled { client_id: "c".into(), quota: "producer_byte_rate", throttle_ms: 2_000 };
    assert!(matches!(told, Some(Output::Event(event)) if event == first));
    net.respond(&mut out, token(1), &ApiVersionsResponse::default());
    assert_eq!(said(&mut out), ["send 1"], "the answer does not wait");
    assert_eq!(arrives(&mut net, &mut out, "b"), None);
    assert_eq!(net.deadline(), Some(at(2_000).mono));
    net.on_timer(at(1_999), &mut out);
    assert_eq!(next(&mut net, &mut out), None);
    net.on_timer(at(2_000), &mut out);
    assert_eq!(next(&mut net, &mut out).as_deref(), Some("b"));
    net.respond_nothing(&mut out, token(1));
    assert_eq!(
        arrives(&mut net, &mut out, "c").as_deref(),
        Some("c"),
        "it is a connection like any other again"
    );
}

#[test]
fn a_throttled_connection_may_go() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    arrives(&mut net, &mut out, "a");
    limited(&mut net, "consumer_byte_rate");
    net.note_client(ConnId(1), "c", 0);
    assert_eq!(net.most_to_fetch(at(0).mono, token(1)), 10_000);
    assert_eq!(net.throttle_fetch(at(0).mono, &mut out, token(1), 10_000), None);
    assert_eq!(net.throttle_fetch(at(0).mono, &mut out, token(1), 1_000), Some(1_000));
    net.respond_nothing(&mut out, token(1));
    net.closed(at(10), ConnId(1), ConnError::Closed);
    net.on_timer(at(1_000), &mut out);
    assert_eq!(next(&mut net, &mut out), None);
}

#[test]
#[should_panic(expected = "answered twice")]
fn a_second_answer_is_a_bug() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    arrives(&mut net, &mut out, "a");
    net.respond_nothing(&mut out, token(1));
    net.respond_nothing(&mut out, token(1));
}

#[test]
fn an_enveloped_request_is_answered_in_an_envelope() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Controller, "10.0.0.7".into());
    let envelope = Some(EnvelopeToken { version: 0, correlation_id: 99 });
    let token = RequestToken { envelope, ..token(1) };
    arrives(&mut net, &mut out, "a");
    net.respond(&mut out, token, &ApiVersionsResponse::default());
    arrives(&mut net, &mut out, "b");
    assert!(net.refuse_envelope(&mut out, token, 41));
    let answers: Vec<(i32, i16, Option<Vec<u8>>)> = out
        .items
        .drain(..)
        .map(|item| {
            let Output::Send { frame, .. } = item else { panic!("{item:?}") };
            let frame = frame.slice(4, frame.len() - 4);
            let (header, body) = wire::frame::decode_response::<EnvelopeRequest<'_>>(&frame, 0).unwrap();
            let EnvelopeResponse { response_data, error_code } = body;
            (header.correlation_id, error_code, response_data.map(|d| d.to_vec()))
        })
        .collect();
    // The inner answer begins with the inner correlation id.
    assert_eq!(answers[0], (99, 0, Some([&[0, 0, 0, 7][..], &[0; 6][..]].concat())));
    assert_eq!(answers[1], (99, 41, None));
}

#[test]
fn an_answer_to_a_connection_that_is_gone_is_dropped() {
    let (mut net, mut out) = net();
    net.accepted(at(0), ConnId(1), Listener::Broker, "10.0.0.7".into());
    arrives(&mut net, &mut out, "a");
    net.closed(at(1), ConnId(1), ConnError::Reset);
    net.respond(&mut out, token(1), &ApiVersionsResponse::default());
    assert_eq!(said(&mut out), Vec::<String>::new());
    assert!(!net.is_open(&token(1)));
}

fn ask(net: &mut Net, out: &mut Outputs, ms: u64, to: Peer) {
    let request = ApiVersionsRequest::default();
    net.call(at(ms), out, to, &request, 0, Nanos::from_millis(2 * SECOND), CALL);
}

fn outcomes(net: &mut Net) -> Vec<String> {
    core::iter::from_fn(|| net.next_outcome())
        .map(|(_, outcome)| match outcome {
            CallOutcome::Answered { .. } => "answered".into(),
            CallOutcome::TimedOut => "timed out".into(),
            CallOutcome::Disconnected(why) => why.to_string(),
        })
        .collect()
}

fn answer_frame(correlation_id: i32) -> Rope {
    let response = ApiVersionsResponse::default();
    let frame = wire::frame::encode_response(ApiKey::ApiVersions, 0, correlation_id, &response).unwrap();
    frame.slice(4, frame.len() - 4)
}

#[test]
fn a_connection_is_made_when_it_is_needed_and_kept() {
    let (mut net, mut out) = net();
    let peer = Peer::Controller(101);
    ask(&mut net, &mut out, 0, peer);
    ask(&mut net, &mut out, 0, peer);
    assert_eq!(said(&mut out), ["connect 101 controller-101:9093"]);
    net.connected(at(1), &mut out, ConnId(101));
    ask(&mut net, &mut out, 1, peer);
    assert_eq!(said(&mut out), ["send 101", "send 101", "send 101"]);
    for id in 0..3 {
        let arrived = net.frame(at(2), &mut out, ConnId(101), answer_frame(id));
        assert!(matches!(arrived, Arrived::Answer(_, CallOutcome::Answered { version: 0, .. })), "{id}");
    }
    assert_eq!(outcomes(&mut net), Vec::<String>::new());
}

#[test]
fn a_wrong_correlation_id_closes_the_connection() {
    let (mut net, mut out) = net();
    ask(&mut net, &mut out, 0, Peer::Controller(101));
    net.connected(at(1), &mut out, ConnId(101));
    said(&mut out);
    assert!(matches!(net.frame(at(2), &mut out, ConnId(101), answer_frame(5)), Arrived::Nothing));
    assert_eq!(said(&mut out)[0], "close 101: Correlation id for response (5) does not match request (0)");
    assert_eq!(outcomes(&mut net), ["connection closed by peer"]);
}

#[test]
fn a_refused_connection_fails_what_waits_and_backs_off() {
    let (mut net, mut out) = net();
    let peer = Peer::Controller(101);
    ask(&mut net, &mut out, 0, peer);
    said(&mut out);
    net.closed(at(1), ConnId(101), ConnError::Refused);
    assert_eq!(outcomes(&mut net), ["connection refused"]);
    ask(&mut net, &mut out, 1, peer);
    assert_eq!(said(&mut out), Vec::<String>::new(), "the backoff holds it back");
    assert!(net.deadline().unwrap() <= at(51).mono);
    net.on_timer(at(51), &mut out);
    assert_eq!(said(&mut out), ["connect 102 controller-101:9093"]);
}

#[test]
fn a_request_that_times_out_takes_its_connection_with_it() {
    let (mut net, mut out) = net();
    let peer = Peer::Controller(101);
    ask(&mut net, &mut out, 0, peer);
    net.connected(at(1), &mut out, ConnId(101));
    ask(&mut net, &mut out, 1_500, peer);
    said(&mut out);
    assert!(net.deadline().unwrap() <= at(2_000).mono);
    net.on_timer(at(2_000), &mut out);
    assert_eq!(said(&mut out), ["close 101: a request timed out"]);
    assert_eq!(outcomes(&mut net), ["timed out", "connection timed out"]);
    // Whatever still comes from there is nobody's.
    assert!(matches!(net.frame(at(2_001), &mut out, ConnId(101), answer_frame(0)), Arrived::Nothing));
}

#[test]
fn a_peer_that_nobody_knows_fails_later_not_at_once() {
    let (mut net, mut out) = net();
    let peer = Peer::Broker(9);
    ask(&mut net, &mut out, 0, peer);
    assert_eq!(outcomes(&mut net), Vec::<String>::new());
    net.on_timer(at(50), &mut out);
    assert_eq!(outcomes(&mut net), ["unknown host"]);
    // Known in time, it is connected to.
    ask(&mut net, &mut out, 60, peer);
    net.set_endpoint(peer, Endpoint::new("broker-9", 9092));
    net.on_timer(at(110), &mut out);
    assert_eq!(said(&mut out), ["connect 101 broker-9:9092"]);
}

#[test]
fn a_peer_that_does_not_answer_a_connect_is_given_up() {
    let (mut net, mut out) = net();
    let request = ApiVersionsRequest::default();
    let minute = Nanos::from_secs(60);
    net.call(at(0), &mut out, Peer::Controller(101), &request, 0, minute, CALL);
    said(&mut out);
    net.on_timer(at(9_999), &mut out);
    assert_eq!(said(&mut out), Vec::<String>::new());
    net.on_timer(at(10_000), &mut out);
    assert_eq!(said(&mut out), ["close 101: a request timed out"]);
    assert_eq!(outcomes(&mut net), ["connection timed out"]);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let (mut net, mut out) = net();
    for id in 1..=3 {
        net.accepted(at(0), ConnId(id), Listener::Broker, "10.0.0.7".into());
    }
    // 1 waits for its answer, 2 was used later, 3 idles.
    arrives(&mut net, &mut out, "a");
    net.frame(at(5_000), &mut out, ConnId(2), frame("b"));
    net.respond_nothing(&mut out, token(2));
    net.on_timer(at(600 * SECOND), &mut out);
    assert_eq!(said(&mut out), ["close 3: idle for connections.max.idle.ms"]);
    net.on_timer(at(605 * SECOND), &mut out);
    assert_eq!(said(&mut out), ["close 2: idle for connections.max.idle.ms"]);
    assert!(net.is_open(&token(1)));
}
