//! The same by KIP-848.

use alloc::borrow::ToOwned;

use wire::Codecs;
use wire::drive::{Instant, Now};
use wire::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use wire::messages::consumer_group_heartbeat_response::{
    Assignment as Assigned, ConsumerGroupHeartbeatResponse, TopicPartitions,
};

use super::*;
use crate::config::{ConfigError, ConsumerConfig};
use crate::consumer::{Consumer, Subscription};
use crate::io::{Input, Outputs};
use crate::testing::{Machine, TOPIC_ID};

const PROTOCOL: (&str, &str) = ("group.protocol", "consumer");

/// A heartbeat as the coordinator heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    epoch: i32,
    timeout: i32,
    topics: Option<Vec<String>>,
    regex: Option<String>,
    assignor: Option<String>,
    owned: Option<Vec<i32>>,
}

/// What the coordinator of KIP-848 says.
#[derive(Default)]
struct Plan {
    heard: Vec<Heard>,
    member: String,
    epoch: i32,
    target: Vec<i32>,
    told: Option<Vec<i32>>,
    errors: VecDeque<ErrorCode>,
}

fn modern_cluster(partitions: i32) -> (Fake, Shared, Rc<RefCell<Plan>>) {
    let (mut fake, script) = cluster(partitions);
    let plan: Rc<RefCell<Plan>> = Rc::default();
    plan.borrow_mut().target = (0..partitions).collect();
    let own = plan.clone();
    let handler = move |version: i16, correlation: i32, r: &mut Reader<'_>| {
        let request = ConsumerGroupHeartbeatRequest::decode(r, version).unwrap();
        let mut plan = own.borrow_mut();
        let response = heartbeat(&mut plan, &request);
        answer(ApiKey::ConsumerGroupHeartbeat, version, correlation, &response)
    };
    fake.handlers.insert(ApiKey::ConsumerGroupHeartbeat, Box::new(handler));
    (fake, script, plan)
}

fn heartbeat(
    plan: &mut Plan,
    request: &ConsumerGroupHeartbeatRequest<'_>,
) -> ConsumerGroupHeartbeatResponse<'static> {
    let owned = request.topic_partitions.as_ref();
    let owned = owned.map(|topics| topics.first().map_or(Vec::new(), |topic| topic.partitions.clone()));
    plan.heard.push(Heard {
        epoch: request.member_epoch,
        timeout: request.rebalance_timeout_ms,
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|n| n.to_string()).collect()),
        regex: request.subscribed_topic_regex.as_deref().map(str::to_owned),
        assignor: request.server_assignor.as_deref().map(str::to_owned),
        owned: owned.clone(),
    });
    plan.member = request.member_id.to_string();
    let error = plan.errors.pop_front().unwrap_or(ErrorCode::NONE);
    let mut response = ConsumerGroupHeartbeatResponse {
        error_code: error.0,
        member_id: Some(plan.member.clone().into()),
        member_epoch: request.member_epoch,
        heartbeat_interval_ms: 5000,
        ..Default::default()
    };
    if !error.is_none() || request.member_epoch < 0 {
        return response;
    }
    if request.member_epoch == 0 {
        plan.epoch += 1;
        plan.told = None;
    }
    response.member_epoch = plan.epoch;
    if plan.told.as_ref() != Some(&plan.target) {
        plan.told = Some(plan.target.clone());
        let topic = TopicPartitions { topic_id: TOPIC_ID, partitions: plan.target.clone() };
        response.assignment = Some(Assigned { topic_partitions: vec![topic] });
    }
    response
}

fn modern(commit: Commit, config: &[(&str, &str)]) -> ConsumerSpec {
    let mut all = vec![PROTOCOL];
    all.extend(config);
    spec(commit, &all)
}

/// The story without the member's id, which chance made.
fn told(fake: &Fake, plan: &Rc<RefCell<Plan>>) -> Vec<String> {
    story(fake).into_iter().map(|line| line.replace(&plan.borrow().member, "me")).collect()
}

fn epochs(plan: &Rc<RefCell<Plan>>) -> Vec<(i32, Option<Vec<i32>>)> {
    plan.borrow().heard.iter().map(|heard| (heard.epoch, heard.owned.clone())).collect()
}

#[test]
fn joins_acknowledges_commits_with_its_epoch_and_leaves() {
    let (mut fake, script, plan) = modern_cluster(2);
    fake.produce(0, &["shop-0", "shop-1"]);
    let mut billing = process(modern(Commit::Auto, &[("group.remote.assignor", "range")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(7_000));
    assert_eq!(told(&fake, &plan), ["me joined 1", "+0,1 =0,1"]);
    assert_eq!(fake.polled(0), vec![(0, 0), (1, 1)]);
    // It joins with everything, tells at once what it has taken over, and then nothing new.
    assert_eq!(epochs(&plan), [(0, Some(vec![])), (1, Some(vec![0, 1])), (1, None)]);
    {
        let plan = plan.borrow();
        let joins = &plan.heard[0];
        assert_eq!((joins.timeout, joins.topics.as_deref()), (300_000, Some(&[TOPIC.to_string()][..])));
        assert_eq!((joins.assignor.as_deref(), plan.heard[1].topics.as_ref()), (Some("range"), None));
        let member = &script.borrow().commits[0];
        assert_eq!((member.0, member.1.as_str()), (1, plan.member.as_str()));
    }
    assert_eq!(script.borrow().committed, BTreeMap::from([(0, 2), (1, 0)]));
    assert!(
        fake.seen.iter().any(|seen| seen.key == ApiKey::OffsetCommit && seen.version == 10),
        "by topic id"
    );
    fake.stop(&mut billing);
    fake.run(&mut billing, ms(8_000));
    assert_eq!((fake.exit, plan.borrow().heard.last().unwrap().epoch), (Some(0), -1));
    assert_eq!(told(&fake, &plan)[2..], ["-0,1"]);
}

#[test]
fn gives_up_after_committing_and_keeps_the_rest() {
    let (mut fake, script, plan) = modern_cluster(3);
    for partition in 0..3 {
        fake.produce(partition, &["shop-0"]);
    }
    let mut billing = process(modern(Commit::Auto, &[("auto.commit.interval.ms", "600000")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(3_000));
    assert_eq!(script.borrow().commits.len(), 0);
    plan.borrow_mut().target = vec![1, 2];
    plan.borrow_mut().epoch = 2;
    script.borrow_mut().refuse(ApiKey::OffsetCommit, &[ErrorCode::COORDINATOR_LOAD_IN_PROGRESS]);
    fake.run(&mut billing, ms(7_000));
    assert_eq!(told(&fake, &plan)[2..], ["me joined 2", "-0", "+ =1,2"]);
    assert_eq!(script.borrow().committed[&0], 1, "what is given up was committed before");
    assert_eq!(epochs(&plan)[2..], [(1, None), (2, Some(vec![1, 2]))]);
    // What it kept was not interrupted.
    assert_eq!(fake.polled(1), vec![(0, 0)]);
}

#[test]
fn whom_the_coordinator_fences_joins_anew() {
    for error in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
        let (mut fake, _, plan) = modern_cluster(1);
        let mut billing = process(modern(Commit::None, &[]));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(3_000));
        plan.borrow_mut().errors.push_back(error);
        fake.run(&mut billing, ms(8_000));
        assert_eq!(told(&fake, &plan)[2..], ["lost 0", "me joined 2", "+0 =0"], "{error:?}");
        assert_eq!(epochs(&plan)[3..], [(0, Some(vec![])), (2, Some(vec![0]))], "{error:?}");
    }
}

#[test]
fn errors_that_pass_are_waited_for_and_others_end_it() {
    let (mut fake, _, plan) = modern_cluster(1);
    let passing = [ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::NOT_COORDINATOR];
    plan.borrow_mut().errors.extend(passing);
    let mut billing = process(modern(Commit::None, &[]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(3_000));
    assert_eq!(told(&fake, &plan), ["me joined 1", "+0 =0"]);
    plan.borrow_mut().errors.push_back(ErrorCode::UNRELEASED_INSTANCE_ID);
    fake.run(&mut billing, ms(8_000));
    assert_eq!(told(&fake, &plan)[2..], ["lost 0", "failed UNRELEASED_INSTANCE_ID"]);
}

#[test]
fn a_static_member_leaves_for_a_while_only() {
    let (mut fake, _, plan) = modern_cluster(1);
    let mut billing = process(modern(Commit::None, &[("group.instance.id", "one")]));
    fake.start(&mut billing);
    fake.run(&mut billing, ms(3_000));
    fake.stop(&mut billing);
    fake.run(&mut billing, ms(4_000));
    assert_eq!(plan.borrow().heard.last().unwrap().epoch, -2);
}

#[test]
fn an_application_that_stays_away_leaves_and_joins_anew() {
    let (mut fake, _, plan) = modern_cluster(1);
    fake.produce(0, &["shop-0", "shop-1"]);
    let mut slow = modern(Commit::Auto, &[("max.poll.interval.ms", "4000")]);
    slow.processing = Nanos::from_millis(3_000);
    let mut billing = process(slow);
    fake.start(&mut billing);
    fake.run(&mut billing, ms(8_000));
    assert_eq!(told(&fake, &plan)[2..], ["lost 0", "me joined 2", "+0 =0"]);
    let sent: Vec<i32> = plan.borrow().heard.iter().map(|heard| heard.epoch).collect();
    assert_eq!(sent[..5], [0, 1, -1, 0, 2]);
    // What it had not committed is read again.
    fake.run(&mut billing, ms(9_000));
    assert_eq!(fake.polled(0).len(), 4);
}

/// An application that does nothing but poll.
struct App {
    consumer: Consumer,
    subscription: Option<Subscription>,
}

impl Machine for App {
    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if let Some(subscription) = self.subscription.take() {
            self.consumer.subscribe(subscription).unwrap();
        }
        self.consumer.handle(now, &input, out);
        while self.consumer.has_records() {
            self.consumer.poll(codecs, out, &mut |_, _| {}).unwrap();
        }
        self.consumer.drive(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.consumer.next_deadline()
    }
}

fn app(subscription: Subscription, config: &[(&str, &str)]) -> App {
    let mut all = vec![("group.id", "billing")];
    all.extend(config);
    let config = ConsumerConfig::parse(&settings(&all)).unwrap();
    App { consumer: Consumer::new(config, "billing", bootstrap(), rng(1)), subscription: Some(subscription) }
}

#[test]
fn a_pattern_of_the_broker_is_resolved_by_topic_id() {
    let (mut fake, _, plan) = modern_cluster(2);
    let mut app = app(Subscription::BrokerPattern("t.*".into()), &[PROTOCOL]);
    fake.start(&mut app);
    fake.run(&mut app, ms(1_000));
    assert_eq!(plan.borrow().heard[0].regex.as_deref(), Some("t.*"));
    assert_eq!(plan.borrow().heard[1].owned, Some(vec![]), "nothing is known by name yet");
    let story = told(&fake, &plan);
    assert_eq!(story.last().unwrap(), "+0,1 =0,1", "{story:?}");
}

#[test]
fn a_pattern_of_the_client_is_resolved_by_metadata() {
    for config in [&[][..], &[PROTOCOL]] {
        let (mut fake, script, plan) = modern_cluster(2);
        fake.topic_exists = false;
        let mut app = app(Subscription::Pattern("t".into()), config);
        fake.start(&mut app);
        fake.run(&mut app, ms(6_000));
        let (given, _) = (script.borrow().joins.len(), plan.borrow().heard.len());
        assert!(story(&fake).iter().all(|line| !line.starts_with("+0")), "{:?}", story(&fake));
        fake.topic_exists = true;
        // The metadata are refreshed only every five minutes.
        fake.run(&mut app, ms(310_000));
        let story = story(&fake);
        assert_eq!(story.last().unwrap(), "+0,1 =0,1", "{story:?}");
        if config.is_empty() {
            let last = script.borrow().joins.last().unwrap().clone();
            assert_eq!(
                (last.1.topics, last.2.as_str()),
                (vec![TOPIC.to_string()], "subscription has changed")
            );
            assert!(given >= 2);
        } else {
            let topics = plan.borrow().heard.iter().filter_map(|heard| heard.topics.clone()).next_back();
            assert_eq!(topics, Some(vec![TOPIC.to_string()]));
        }
    }
}

#[test]
fn settings_of_the_other_protocol_are_refused() {
    let refused = |pairs: &[(&str, &str)]| ConsumerConfig::parse(&settings(pairs)).unwrap_err();
    let error = refused(&[PROTOCOL, ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")]);
    assert_eq!(
        error.to_string(),
        "heartbeat.interval.ms, session.timeout.ms cannot be set when group.protocol=CONSUMER"
    );
    let error = refused(&[("group.remote.assignor", "uniform")]);
    assert_eq!(error.to_string(), "group.remote.assignor cannot be set when group.protocol=CLASSIC");
    assert!(matches!(refused(&[("enable.auto.commit", "true")]), ConfigError::Contradiction(_)));
    assert!(matches!(refused(&[("partition.assignment.strategy", "a.b")]), ConfigError::Invalid { .. }));
    let mut classic = app(Subscription::Pattern("t".into()), &[]);
    let error = classic.consumer.subscribe(Subscription::BrokerPattern("t".into())).unwrap_err();
    assert!(error.message.starts_with("Subscribe to RE2/J pattern is not supported"), "{error}");
}

#[test]
fn damaged_answers_are_survived() {
    for seed in 0..40 {
        let (mut fake, script, _) = modern_cluster(3);
        for partition in 0..3 {
            fake.produce(partition, &["shop-0", "shop-1"]);
        }
        let protocol = if seed % 2 == 0 { "classic" } else { "consumer" };
        fake.mangle = Some(rng(seed));
        let config = [("group.protocol", protocol), ("auto.commit.interval.ms", "200")];
        let mut billing = process(spec(Commit::Auto, &config));
        fake.start(&mut billing);
        fake.run(&mut billing, ms(20_000));
        if seed % 4 == 0 {
            script.borrow_mut().given = Some(vec![1]);
        }
        fake.stop(&mut billing);
        fake.run(&mut billing, ms(80_000));
        assert!(fake.exit.is_some(), "{protocol} {seed}: it ends");
    }
}
