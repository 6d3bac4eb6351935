//! A transactional producer, an application that does with errors what Kafka's documentation says, and a coordinator of
//! both flows.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use wire::batch::Batch;
use wire::drive::{Instant, Now};
use wire::error::ErrorCode;
use wire::frame::encode_response;
use wire::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;
use wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnRequest;
use wire::messages::add_partitions_to_txn_response::*;
use wire::messages::end_txn_response::EndTxnResponse;
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::init_producer_id_response::InitProducerIdResponse;
use wire::messages::txn_offset_commit_request::TxnOffsetCommitRequest;
use wire::messages::txn_offset_commit_response::*;
use wire::messages::{AddOffsetsToTxnRequest, EndTxnRequest, InitProducerIdRequest};
use wire::{ApiKey, Codecs, Message, Reader, Rope};

use crate::Rng;
use crate::backoff::below;
use crate::config::ProducerConfig;
use crate::consumer::{GroupMetadata, OffsetAndMetadata};
use crate::error::ClientError;
use crate::event::{Made, TopicPartition};
use crate::io::{Input, Outputs};
use crate::metadata::TopicIndex;
use crate::producer::{NewRecord, Producer, SendError, TransactionState};
use crate::testing::{Fake, Fall, Machine, TOPIC, bootstrap, ms, rng, settings};

/// What the application is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Init,
    Sending(u32),
    Offsets,
    End {
        commit: bool,
    },
    Done,
    /// It got an error that only another producer helps.
    Dead,
}

/// Transactions of two records and an offset; every third is aborted.
struct App {
    producer: Producer,
    topic: TopicIndex,
    doing: Doing,
    began: bool,
    count: u64,
    transaction: u64,
    /// How each transaction ended, as the application was told.
    told: BTreeMap<u64, bool>,
    errors: Vec<ClientError>,
    last_end: Instant,
}

impl App {
    fn new(config: &[(&str, &str)], count: u64) -> App {
        let mut all = vec![("transactional.id", "shop"), ("linger.ms", "0")];
        all.extend_from_slice(config);
        let config = ProducerConfig::parse(&settings(&all)).unwrap();
        let mut producer = Producer::new(config, "shop", bootstrap(), rng(1));
        App {
            topic: producer.topic(TOPIC),
            producer,
            doing: Doing::Init,
            began: false,
            count,
            transaction: 0,
            told: BTreeMap::new(),
            errors: Vec::new(),
            last_end: Instant(0),
        }
    }

    fn step(&mut self, now: Now, out: &mut Outputs) -> bool {
        match self.doing {
            Doing::Done | Doing::Dead => false,
            Doing::Sending(sent) => self.send(now, sent, out),
            Doing::Init | Doing::Offsets | Doing::End { .. } => {
                match self.producer.take_transaction_result() {
                    None => return false,
                    Some(Ok(())) => self.succeeded(now),
                    Some(Err(error)) => self.failed(now, error),
                }
                true
            }
        }
    }

    fn send(&mut self, now: Now, sent: u32, out: &mut Outputs) -> bool {
        if !self.began {
            self.producer.begin_transaction().unwrap();
            self.began = true;
        }
        if sent == 2 {
            self.offsets(now);
            return true;
        }
        let value = format!("{}-{sent}", self.transaction);
        let record = NewRecord {
            partition: Some(sent as i32),
            timestamp: now.wall_ms,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
            made: Made { number: self.transaction, at: now.mono },
        };
        match self.producer.send(now, self.topic, &record, out) {
            Ok(_) => self.doing = Doing::Sending(sent + 1),
            Err(SendError::Blocked) => return false,
            Err(SendError::Refused(error)) => self.failed(now, error),
        }
        true
    }

    fn offsets(&mut self, now: Now) {
        let group = GroupMetadata { group: "g".into(), generation: 1, member: "m".into(), instance: None };
        let offset = OffsetAndMetadata {
            offset: self.transaction as i64,
            leader_epoch: None,
            metadata: Default::default(),
        };
        self.producer.send_offsets(now.mono, group, vec![(TopicPartition::new("in", 0), offset)]);
        self.doing = Doing::Offsets;
    }

    fn end(&mut self, now: Now, commit: bool) {
        self.producer.end_transaction(now.mono, commit);
        self.doing = Doing::End { commit };
    }

    fn succeeded(&mut self, now: Now) {
        match self.doing {
            Doing::Offsets => self.end(now, self.transaction % 3 != 2),
            Doing::End { commit } => {
                self.told.insert(self.transaction, commit);
                self.last_end = now.mono;
                self.transaction += 1;
                self.next();
            }
            _ => self.next(),
        }
    }

    fn next(&mut self) {
        self.began = false;
        let more = self.transaction < self.count;
        self.doing = if more { Doing::Sending(0) } else { Doing::Done };
    }

    /// A call that timed out is made again; what can be aborted is aborted.
    fn failed(&mut self, now: Now, error: ClientError) {
        let late = error.message.starts_with("Timeout expired after");
        self.errors.push(error);
        match self.doing {
            _ if self.producer.must_abort() => self.end(now, false),
            Doing::Init if late => self.producer.init_transactions(now.mono),
            Doing::Offsets if late => self.offsets(now),
            Doing::End { commit } if late => self.end(now, commit),
            _ => self.doing = Doing::Dead,
        }
    }
}

impl Machine for App {
    fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        if matches!(input, Input::Start) {
            self.producer.init_transactions(now.mono);
        }
        self.producer.handle(now, &input, codecs, out);
        for _ in 0..1000 {
            let moved = self.step(now, out);
            self.producer.drive(now, codecs, out);
            if !moved && !self.producer.has_transaction_result() {
                return;
            }
        }
        panic!("the application does not come to rest: {:?}", self.doing);
    }

    fn deadline(&self) -> Option<Instant> {
        self.producer.next_deadline()
    }
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    Good,
    /// Not done, and answered so.
    Refused(ErrorCode),
    /// Done, and answered so.
    DoneBut(ErrorCode),
    /// Done, and never answered.
    Silence,
}

type Chance = Box<dyn FnMut(ApiKey) -> Luck>;

/// The coordinators.
struct Model {
    epoch: i16,
    open: bool,
    joined: Vec<(String, i32)>,
    /// By epoch, how the transaction of version 2 ended.
    ended: BTreeMap<i16, bool>,
    ends: Vec<bool>,
    last: Option<bool>,
    luck: Chance,
    calls: Vec<(ApiKey, i16)>,
}

impl Model {
    fn install(fake: &mut Fake, luck: Chance) -> Rc<RefCell<Model>> {
        let model = Model {
            epoch: -1,
            open: false,
            joined: Vec::new(),
            ended: BTreeMap::new(),
            ends: Vec::new(),
            last: None,
            luck,
            calls: Vec::new(),
        };
        let model = Rc::new(RefCell::new(model));
        for key in [
            ApiKey::FindCoordinator,
            ApiKey::InitProducerId,
            ApiKey::AddPartitionsToTxn,
            ApiKey::AddOffsetsToTxn,
            ApiKey::TxnOffsetCommit,
            ApiKey::EndTxn,
        ] {
            let model = model.clone();
            let handler = move |version: i16, correlation: i32, r: &mut Reader<'_>| {
                model.borrow_mut().request(key, version, correlation, r)
            };
            fake.handlers.insert(key, Box::new(handler));
        }
        model
    }

    fn request(&mut self, key: ApiKey, version: i16, correlation: i32, r: &mut Reader<'_>) -> Option<Rope> {
        self.calls.push((key, version));
        let luck = (self.luck)(key);
        let done = |code: ErrorCode| match luck {
            Luck::DoneBut(error) => error.0,
            _ => code.0,
        };
        let refused = match luck {
            Luck::Refused(error) => Some(error),
            _ => None,
        };
        let frame = match key {
            ApiKey::FindCoordinator => {
                let code = refused.map_or_else(|| done(ErrorCode::NONE), |error| error.0);
                let coordinator = Coordinator {
                    key: Cow::Borrowed("shop"),
                    node_id: 1,
                    host: Cow::Borrowed("broker-1"),
                    port: 9092,
                    error_code: code,
                    ..Coordinator::default()
                };
                let response =
                    FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() };
                encode_response(key, version, correlation, &response)
            }
            ApiKey::InitProducerId => {
                let request = InitProducerIdRequest::decode(r, version).unwrap();
                let code = refused.unwrap_or_else(|| self.init(&request));
                let (producer_id, producer_epoch) = (1000, self.epoch);
                let response = InitProducerIdResponse {
                    error_code: done(code),
                    producer_id,
                    producer_epoch,
                    ..Default::default()
                };
                encode_response(key, version, correlation, &response)
            }
            ApiKey::AddPartitionsToTxn => {
                let request = AddPartitionsToTxnRequest::decode(r, version).unwrap();
                let code = refused.unwrap_or_else(|| self.add(&request));
                encode_response(key, version, correlation, &added(&request, ErrorCode(done(code))))
            }
            ApiKey::AddOffsetsToTxn => {
                let request = AddOffsetsToTxnRequest::decode(r, version).unwrap();
                let code = refused.unwrap_or_else(|| {
                    self.open |= request.producer_epoch == self.epoch;
                    self.fence(request.producer_epoch)
                });
                let response = AddOffsetsToTxnResponse { error_code: done(code), ..Default::default() };
                encode_response(key, version, correlation, &response)
            }
            ApiKey::TxnOffsetCommit => {
                let request = TxnOffsetCommitRequest::decode(r, version).unwrap();
                assert!(version >= 5 || self.open, "offsets of a group that has not joined");
                let code = refused.unwrap_or_else(|| self.fence(request.producer_epoch));
                let partition =
                    TxnOffsetCommitResponsePartition { partition_index: 0, error_code: done(code) };
                let topic = TxnOffsetCommitResponseTopic {
                    name: Cow::Borrowed("in"),
                    partitions: vec![partition],
                    ..Default::default()
                };
                let response = TxnOffsetCommitResponse { topics: vec![topic], ..Default::default() };
                encode_response(key, version, correlation, &response)
            }
            _ => {
                let request = EndTxnRequest::decode(r, version).unwrap();
                let code = refused.unwrap_or_else(|| self.end(&request, version));
                let new = version >= 5 && code == ErrorCode::NONE;
                let response = EndTxnResponse {
                    error_code: done(code),
                    producer_id: if new { 1000 } else { -1 },
                    producer_epoch: if new { self.epoch } else { -1 },
                    ..Default::default()
                };
                encode_response(key, version, correlation, &response)
            }
        };
        (luck != Luck::Silence).then(|| frame.unwrap())
    }

    fn fence(&self, epoch: i16) -> ErrorCode {
        if epoch == self.epoch { ErrorCode::NONE } else { ErrorCode::INVALID_PRODUCER_EPOCH }
    }

    fn init(&mut self, request: &InitProducerIdRequest<'_>) -> ErrorCode {
        if request.producer_id >= 0 && request.producer_epoch < self.epoch {
            // It asks again, since the answer was lost.
            return if request.producer_epoch + 1 == self.epoch {
                ErrorCode::NONE
            } else {
                ErrorCode::PRODUCER_FENCED
            };
        }
        self.epoch += 1;
        (self.open, self.last) = (false, None);
        self.joined.clear();
        ErrorCode::NONE
    }

    fn add(&mut self, request: &AddPartitionsToTxnRequest<'_>) -> ErrorCode {
        for topic in &request.v3_and_below_topics {
            let partitions = topic.partitions.iter().map(|number| (topic.name.to_string(), *number));
            self.joined.extend(partitions);
        }
        self.open = true;
        self.fence(request.v3_and_below_producer_epoch)
    }

    fn end(&mut self, request: &EndTxnRequest<'_>, version: i16) -> ErrorCode {
        if version < 5 {
            let again = !self.open && self.last == Some(request.committed);
            match self.fence(request.producer_epoch) {
                ErrorCode::NONE if again => {}
                ErrorCode::NONE if !self.open => return ErrorCode::INVALID_TXN_STATE,
                ErrorCode::NONE => self.ends.push(request.committed),
                error => return error,
            }
            (self.open, self.last) = (false, Some(request.committed));
            self.joined.clear();
            return ErrorCode::NONE;
        }
        if request.producer_epoch + 1 == self.epoch && self.last == Some(request.committed) {
            return ErrorCode::NONE;
        }
        if request.producer_epoch != self.epoch {
            return ErrorCode::PRODUCER_FENCED;
        }
        self.ended.insert(self.epoch, request.committed);
        self.ends.push(request.committed);
        self.epoch += 1;
        self.last = Some(request.committed);
        ErrorCode::NONE
    }
}

fn added(request: &AddPartitionsToTxnRequest<'_>, code: ErrorCode) -> AddPartitionsToTxnResponse<'static> {
    let result = |&partition_index: &i32| AddPartitionsToTxnPartitionResult {
        partition_index,
        partition_error_code: code.0,
    };
    let topics = request.v3_and_below_topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: Cow::Owned(topic.name.to_string()),
        results_by_partition: topic.partitions.iter().map(result).collect(),
    });
    AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: topics.collect(),
        ..AddPartitionsToTxnResponse::default()
    }
}

fn cluster(level: i16) -> Fake {
    let mut fake = Fake::new(2, 2);
    fake.finalized = vec![("transaction.version", level)];
    fake
}

fn good() -> Chance {
    Box::new(|_| Luck::Good)
}

/// The first request of an API meets it, the others are done.
fn once(wanted: ApiKey, luck: Luck) -> Chance {
    let mut met = false;
    Box::new(move |key| {
        let now = key == wanted && !met;
        met |= now;
        if now { luck } else { Luck::Good }
    })
}

/// Which transactions wrote under which epoch.
fn writers(fake: &Fake) -> BTreeMap<i16, Vec<String>> {
    let mut writers: BTreeMap<i16, Vec<String>> = BTreeMap::new();
    for partition in &fake.partitions {
        for (batch, value) in partition.log.iter().zip(partition.values()) {
            let header = Batch::parse(batch).unwrap().header;
            assert!(header.is_transactional());
            let transaction = value.split('-').next().unwrap().to_string();
            let all = writers.entry(header.producer_epoch).or_default();
            if !all.contains(&transaction) {
                all.push(transaction);
            }
        }
    }
    writers
}

fn expected(count: u64) -> BTreeMap<u64, bool> {
    (0..count).map(|n| (n, n % 3 != 2)).collect()
}

#[test]
fn with_version_2_every_transaction_has_an_epoch_of_its_own() {
    let mut fake = cluster(2);
    let model = Model::install(&mut fake, good());
    let mut app = App::new(&[], 7);
    fake.start(&mut app);
    fake.run(&mut app, ms(5000));
    assert_eq!((app.doing, &app.told), (Doing::Done, &expected(7)));
    assert_eq!(app.producer.transaction_state(), Some(TransactionState::Ready));
    let model = model.borrow();
    assert_eq!(model.ends, [true, true, false, true, true, false, true]);
    assert!(model.calls.iter().all(|(key, _)| *key != ApiKey::AddPartitionsToTxn));
    assert!(
        model.calls.contains(&(ApiKey::EndTxn, 5)) && model.calls.contains(&(ApiKey::TxnOffsetCommit, 5))
    );
    for (epoch, writers) in writers(&fake) {
        assert_eq!(writers, [epoch.to_string()]);
    }
}

#[test]
fn with_version_1_partitions_and_groups_join_by_request() {
    let mut fake = cluster(1);
    let model = Model::install(&mut fake, good());
    let mut app = App::new(&[], 7);
    fake.start(&mut app);
    fake.run(&mut app, ms(5000));
    assert_eq!((app.doing, &app.told), (Doing::Done, &expected(7)));
    let model = model.borrow();
    assert_eq!(model.ends, [true, true, false, true, true, false, true]);
    assert_eq!(writers(&fake).into_keys().collect::<Vec<_>>(), [0], "the epoch stays");
    let count = |key| model.calls.iter().filter(|call| call.0 == key).count();
    assert!(count(ApiKey::AddPartitionsToTxn) >= 7);
    assert_eq!((count(ApiKey::AddOffsetsToTxn), count(ApiKey::EndTxn)), (7, 7));
    let latest = |key| model.calls.iter().filter(|call| call.0 == key).map(|call| call.1).max().unwrap();
    assert_eq!((latest(ApiKey::TxnOffsetCommit), latest(ApiKey::EndTxn)), (4, 4));
    // No record overtakes its partition's joining.
    let firsts = fake
        .seen
        .iter()
        .filter(|seen| matches!(seen.key, ApiKey::AddPartitionsToTxn | ApiKey::Produce | ApiKey::EndTxn));
    let firsts: Vec<ApiKey> = firsts.map(|seen| seen.key).collect();
    for one in firsts.split(|key| *key == ApiKey::EndTxn).filter(|one| !one.is_empty()) {
        assert_eq!(one[0], ApiKey::AddPartitionsToTxn);
    }
    let produced = fake.seen.iter().filter(|seen| seen.key == ApiKey::Produce);
    assert!(produced.map(|seen| seen.version).max().unwrap() <= 11);
}

/// What an error does to the transaction that meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Nothing: the request is sent again.
    Again,
    /// It is aborted, and the next one goes on.
    Aborted,
    /// It is the producer's last.
    Fatal,
}

#[test]
fn every_error_has_its_consequence() {
    use ApiKey::*;
    use Then::*;
    const AGAIN: [ErrorCode; 4] = [
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::CONCURRENT_TRANSACTIONS,
    ];
    let mut table: Vec<(i16, ApiKey, ErrorCode, Then)> = Vec::new();
    for key in [InitProducerId, TxnOffsetCommit, EndTxn] {
        table.extend(AGAIN.map(|error| (2, key, error, Again)));
        table.extend(
            [ErrorCode::INVALID_PRODUCER_EPOCH, ErrorCode::PRODUCER_FENCED].map(|e| (2, key, e, Fatal)),
        );
        table.push((2, key, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Fatal));
    }
    for key in [AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn] {
        table.extend(AGAIN.map(|error| (1, key, error, Again)));
        table.extend(
            [ErrorCode::INVALID_PRODUCER_EPOCH, ErrorCode::PRODUCER_FENCED].map(|e| (1, key, e, Fatal)),
        );
        table.push((1, key, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Fatal));
        table.push((1, key, ErrorCode::TRANSACTION_ABORTABLE, Aborted));
    }
    table.extend([
        (2, FindCoordinator, ErrorCode::COORDINATOR_NOT_AVAILABLE, Again),
        (2, FindCoordinator, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Fatal),
        // There is nothing yet that could be aborted.
        (2, FindCoordinator, ErrorCode::TRANSACTION_ABORTABLE, Fatal),
        (2, InitProducerId, ErrorCode::INVALID_TRANSACTION_TIMEOUT, Fatal),
        (2, TxnOffsetCommit, ErrorCode::TRANSACTION_ABORTABLE, Aborted),
        (2, TxnOffsetCommit, ErrorCode::ILLEGAL_GENERATION, Aborted),
        (2, TxnOffsetCommit, ErrorCode::UNKNOWN_MEMBER_ID, Aborted),
        (2, TxnOffsetCommit, ErrorCode::FENCED_INSTANCE_ID, Aborted),
        (2, TxnOffsetCommit, ErrorCode::GROUP_AUTHORIZATION_FAILED, Aborted),
        (2, TxnOffsetCommit, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, Fatal),
        (2, EndTxn, ErrorCode::TRANSACTION_ABORTABLE, Aborted),
        (2, EndTxn, ErrorCode::INVALID_PRODUCER_ID_MAPPING, Aborted),
        (2, EndTxn, ErrorCode::INVALID_TXN_STATE, Fatal),
        (1, AddPartitionsToTxn, ErrorCode::INVALID_TXN_STATE, Fatal),
        (1, AddPartitionsToTxn, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Aborted),
        (1, AddPartitionsToTxn, ErrorCode::INVALID_TOPIC_EXCEPTION, Aborted),
        (1, AddPartitionsToTxn, ErrorCode::OPERATION_NOT_ATTEMPTED, Aborted),
        (1, AddOffsetsToTxn, ErrorCode::GROUP_AUTHORIZATION_FAILED, Aborted),
        (1, AddOffsetsToTxn, ErrorCode::INVALID_TXN_STATE, Fatal),
    ]);
    for (level, key, error, then) in table {
        let mut fake = cluster(level);
        let model = Model::install(&mut fake, once(key, Luck::Refused(error)));
        let mut app = App::new(&[], 2);
        fake.start(&mut app);
        fake.run(&mut app, ms(10_000));
        let what = format!("{key:?} {error:?} with version {level}: {:?} {:?}", app.errors, app.doing);
        let state = app.producer.transaction_state();
        match then {
            Again => {
                assert_eq!((app.doing, app.errors.len()), (Doing::Done, 0), "{what}");
                assert_eq!(model.borrow().ends, [true, true], "{what}");
            }
            Aborted => {
                assert_eq!((app.doing, app.errors.len()), (Doing::Done, 1), "{what}");
                assert_eq!(app.told, BTreeMap::from([(0, false), (1, true)]), "{what}");
            }
            Fatal => {
                assert_eq!((app.doing, state), (Doing::Dead, Some(TransactionState::FatalError)), "{what}");
            }
        }
    }
}

#[test]
fn a_batch_that_fails_ends_its_transaction_and_the_next_one_begins_anew() {
    for level in [1, 2] {
        let mut fake = cluster(level);
        let model = Model::install(&mut fake, good());
        let mut count = 0;
        fake.rule = Box::new(move |seen| {
            count += u32::from(seen.key == ApiKey::Produce);
            let first = seen.key == ApiKey::Produce && count == 1;
            if first { Fall::Refuse(ErrorCode::INVALID_RECORD) } else { Fall::Answer }
        });
        let mut app = App::new(&[], 3);
        fake.start(&mut app);
        fake.run(&mut app, ms(10_000));
        assert_eq!(app.doing, Doing::Done, "{level}: {:?}", app.errors);
        assert_eq!(app.told, BTreeMap::from([(0, false), (1, true), (2, false)]), "{level}");
        let epochs: Vec<i16> = writers(&fake).into_keys().collect();
        assert!(epochs.contains(&1), "{level}: numbers begin anew in another epoch: {epochs:?}");
        assert_eq!(model.borrow().ends, [false, true, false], "{level}");
    }
}

#[test]
fn what_timed_out_is_not_taken_for_something_else() {
    let mut fake = cluster(2);
    let silent = |key| if key == ApiKey::EndTxn { Luck::Silence } else { Luck::Good };
    Model::install(&mut fake, Box::new(silent));
    let mut app = App::new(&[("max.block.ms", "1000")], 1);
    fake.start(&mut app);
    fake.run(&mut app, ms(1500));
    assert_eq!(app.doing, Doing::End { commit: true });
    fake.run(&mut app, ms(2500));
    assert!(!app.errors.is_empty());
    app.producer.take_transaction_result();
    app.producer.end_transaction(fake.now, false);
    let refused = app.producer.take_transaction_result().unwrap().unwrap_err();
    let text = "Cannot attempt operation `abortTransaction` because the previous call to `commitTransaction` timed out \
                and must be retried";
    assert_eq!(refused, ClientError::illegal_state(text));
}

/// Bad luck of all kinds until `until` calls were made.
fn bad_luck(seed: u64, until: u32) -> Chance {
    let mut rng: Rng = rng(seed);
    let mut calls = 0;
    Box::new(move |_| {
        calls += 1;
        const ERRORS: [ErrorCode; 7] = [
            ErrorCode::COORDINATOR_NOT_AVAILABLE,
            ErrorCode::NOT_COORDINATOR,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode::CONCURRENT_TRANSACTIONS,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::TRANSACTION_ABORTABLE,
            ErrorCode::UNKNOWN_SERVER_ERROR,
        ];
        // The last one is fatal mostly, and rare.
        let known = if below(&mut rng, 20) == 0 { 7 } else { 6 };
        let error = ERRORS[below(&mut rng, known) as usize];
        match below(&mut rng, 12) {
            _ if calls > until => Luck::Good,
            0 | 1 => Luck::Refused(error),
            2 => Luck::DoneBut(error),
            3 => Luck::Silence,
            _ => Luck::Good,
        }
    })
}

#[test]
fn whatever_coordinators_answer_a_producer_is_never_stuck_and_never_in_two_transactions() {
    let (mut done, mut dead) = (0, 0);
    for seed in 0..120 {
        let level = 1 + (seed % 2) as i16;
        let mut fake = cluster(level);
        let model = Model::install(&mut fake, bad_luck(seed, 60));
        let mut breaks = rng(seed + 1000);
        fake.rule = Box::new(move |seen| match (seen.key, below(&mut breaks, 30)) {
            (ApiKey::ApiVersions | ApiKey::Metadata, _) => Fall::Answer,
            (ApiKey::Produce, 0) => Fall::DoAndBreak,
            (_, 1) => Fall::Break,
            _ => Fall::Answer,
        });
        let mut app = App::new(&[("request.timeout.ms", "2000"), ("max.block.ms", "5000")], 12);
        fake.start(&mut app);
        fake.run(&mut app, ms(400_000));
        match app.doing {
            Doing::Done => done += 1,
            Doing::Dead => dead += 1,
            doing => panic!("seed {seed}: stuck in {doing:?}, {:?}", app.producer.transaction_state()),
        }
        let model = model.borrow();
        if level == 2 {
            for (epoch, writers) in writers(&fake) {
                assert_eq!(writers.len(), 1, "seed {seed}: {writers:?} under epoch {epoch}");
                let number: u64 = writers[0].parse().unwrap();
                if let (Some(told), Some(ended)) = (app.told.get(&number), model.ended.get(&epoch)) {
                    assert_eq!(told, ended, "seed {seed}: transaction {number} under epoch {epoch}");
                }
            }
        }
        let committed = app.told.values().filter(|commit| **commit).count();
        assert!(model.ends.iter().filter(|commit| **commit).count() >= committed, "seed {seed}");
    }
    assert!(done >= 30 && dead > 0, "{done} came to their end, {dead} died");
}
