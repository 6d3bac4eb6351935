//! `kafka-transactions`, `kafka-replica-verification` and the tools that make or measure load.

use wire::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use wire::messages::describe_transactions_response::{DescribeTransactionsResponse, TransactionState};
use wire::messages::fetch_request::FetchRequest;
use wire::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, PartitionData as FetchedPartition,
};
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use wire::messages::list_transactions_response::ListTransactionsResponse;
use wire::messages::metadata_response::MetadataResponsePartition;
use wire::messages::write_txn_markers_response::*;

use super::*;

fn coordinated(fake: &mut Fake, id: &'static str) {
    let coordinator =
        Coordinator { key: id.into(), node_id: 1, host: "broker-1".into(), port: 9092, ..Default::default() };
    let response = FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() };
    answer(fake, ApiKey::FindCoordinator, response);
}

fn with_producers(producers: Vec<ProducerState>) -> Fake {
    let mut fake = Fake::new(1, 1);
    let partition = PartitionResponse { active_producers: producers, ..PartitionResponse::default() };
    let topic = TopicResponse { name: TOPIC.into(), partitions: vec![partition] };
    let response = DescribeProducersResponse { topics: vec![topic], ..Default::default() };
    answer(&mut fake, ApiKey::DescribeProducers, response);
    fake
}

fn producer(start: i64, last_timestamp: i64) -> ProducerState {
    ProducerState {
        producer_id: 2000,
        producer_epoch: 6,
        last_sequence: -1,
        last_timestamp,
        coordinator_epoch: 0,
        current_txn_start_offset: start,
    }
}

#[test]
fn transactions_are_told_as_captured() {
    let mut fake = Fake::new(1, 1);
    let listed = wire::messages::list_transactions_response::TransactionState {
        transactional_id: "shop-tx".into(),
        producer_id: 2000,
        transaction_state: "Ongoing".into(),
    };
    let response = ListTransactionsResponse { transaction_states: vec![listed], ..Default::default() };
    answer(&mut fake, ApiKey::ListTransactions, response);
    let text = "TransactionalId⇥Coordinator⇥ProducerId⇥TransactionState⇥\n\
                shop-tx        ⇥1          ⇥2000      ⇥Ongoing         ⇥\n";
    assert_eq!(run(&mut fake, "kafka-transactions B list"), (text.into(), String::new(), 0));

    coordinated(&mut fake, "shop-tx");
    let described = TransactionState {
        transactional_id: "shop-tx".into(),
        transaction_state: "CompleteCommit".into(),
        transaction_timeout_ms: 60_000,
        transaction_start_time_ms: -1,
        producer_id: 2000,
        producer_epoch: 6,
        ..TransactionState::default()
    };
    let response = DescribeTransactionsResponse { transaction_states: vec![described], ..Default::default() };
    answer(&mut fake, ApiKey::DescribeTransactions, response);
    let text = "CoordinatorId⇥TransactionalId⇥ProducerId⇥ProducerEpoch⇥TransactionState⇥TransactionTimeoutMs⇥\
                CurrentTransactionStartTimeMs⇥TransactionDurationMs⇥TopicPartitions⇥\n\
                1            ⇥shop-tx        ⇥2000      ⇥6            ⇥CompleteCommit  ⇥60000               ⇥\
                None                         ⇥None                 ⇥               ⇥\n";
    let told = run(&mut fake, "kafka-transactions B describe --transactional-id shop-tx");
    assert_eq!(told, (text.into(), String::new(), 0));
}

#[test]
fn what_is_not_there_is_told_as_captured() {
    let mut fake = Fake::new(1, 1);
    coordinated(&mut fake, "nope");
    let described = TransactionState {
        error_code: ErrorCode::TRANSACTIONAL_ID_NOT_FOUND.0,
        transactional_id: "nope".into(),
        ..TransactionState::default()
    };
    let response = DescribeTransactionsResponse { transaction_states: vec![described], ..Default::default() };
    answer(&mut fake, ApiKey::DescribeTransactions, response);
    let text = "Failed to describe transaction state of transactional-id `nope`: DescribeTransactions request for \
                transactionalId `nope` failed because the ID could not be found. Enable debug logging for additional \
                detail.\n";
    let told = run(&mut fake, "kafka-transactions B describe --transactional-id nope");
    assert_eq!(told, (String::new(), text.into(), 1));
    let (out, err, exit) = run(&mut fake, "kafka-transactions B describe");
    assert_eq!((out.as_str(), exit), ("", 1));
    assert!(
        err.ends_with("kafka-transactions.sh: error: argument --transactional-id is required\n"),
        "{err}"
    );
    let (_, err, exit) = run(&mut fake, "kafka-transactions B find-hanging");
    let text = "The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search\n";
    assert_eq!((err.as_str(), exit), (text, 1));
}

#[test]
fn producers_are_told_and_hanging_transactions_are_found_and_aborted() {
    let mut fake = with_producers(vec![producer(-1, 1_795_210_342_146)]);
    let text = "ProducerId⇥ProducerEpoch⇥LatestCoordinatorEpoch⇥LastSequence⇥LastTimestamp⇥\
                CurrentTransactionStartOffset⇥\n\
                2000      ⇥6            ⇥0                     ⇥-1          ⇥1795210342146⇥\
                None                         ⇥\n";
    let told = run(&mut fake, "kafka-transactions B describe-producers --topic t --partition 0");
    assert_eq!(told, (text.into(), String::new(), 0));

    // Open for an hour, and no coordinator knows the producer.
    let began = 1_767_225_600_000 - 3_600_000;
    let mut fake = with_producers(vec![producer(17, began)]);
    answer(&mut fake, ApiKey::ListTransactions, ListTransactionsResponse::default());
    let text = format!(
        "Topic⇥Partition⇥ProducerId⇥ProducerEpoch⇥CoordinatorEpoch⇥StartOffset⇥LastTimestamp⇥Duration(min)⇥\n\
         t    ⇥0        ⇥2000      ⇥6            ⇥0               ⇥17         ⇥{began}⇥60           ⇥\n"
    );
    let told = run(&mut fake, "kafka-transactions B find-hanging --topic t --partition 0");
    assert_eq!(told, (text, String::new(), 0));
    let (out, _, exit) = run(
        &mut fake,
        "kafka-transactions B find-hanging --topic t --partition 0 --max-transaction-timeout 90",
    );
    assert_eq!((out.lines().count(), exit), (1, 0), "not so long yet");

    let line = "kafka-transactions B abort --topic t --partition 0 --start-offset";
    let text = "Could not find any open transactions starting at offset 16 on partition t-0\n";
    assert_eq!(run(&mut fake, &format!("{line} 16")), (String::new(), text.into(), 1));
    let marked = |error: ErrorCode| {
        let partitions = vec![WritableTxnMarkerPartitionResult { partition_index: 0, error_code: error.0 }];
        let topics = vec![WritableTxnMarkerTopicResult { name: TOPIC.into(), partitions }];
        let markers = vec![WritableTxnMarkerResult { producer_id: 2000, topics }];
        WriteTxnMarkersResponse { markers }
    };
    answer(&mut fake, ApiKey::WriteTxnMarkers, marked(ErrorCode::NONE));
    assert_eq!(run(&mut fake, &format!("{line} 17")), (String::new(), String::new(), 0));
    answer(&mut fake, ApiKey::WriteTxnMarkers, marked(ErrorCode::INVALID_PRODUCER_EPOCH));
    let spec =
        "AbortTransactionSpec(topicPartition=t-0, producerId=2000, producerEpoch=6, coordinatorEpoch=0)";
    let text = format!(
        "Failed to abort transaction {spec}: WriteTxnMarkers request with {spec} failed due an invalid producer epoch. \
         Enable debug logging for additional detail.\n"
    );
    assert_eq!(run(&mut fake, &format!("{line} 17")), (String::new(), text, 1));
}

#[test]
fn the_verifiable_producer_tells_what_became_of_each_record() {
    let mut fake = Fake::new(1, 1);
    let line = "kafka-verifiable-producer B --topic t --max-messages 3 --value-prefix 7 --throughput 20 \
                --repeating-keys 2";
    let (out, err, exit) = run(&mut fake, line);
    assert_eq!((err.as_str(), exit), ("", 0));
    let lines: Vec<&str> = out.lines().map(|line| line.split_once(',').unwrap().1).collect();
    assert_eq!(lines[0], r#""name":"startup_complete"}"#);
    for (n, key) in [(0, "0"), (1, "1"), (2, "0")] {
        let told = format!(
            r#""name":"producer_send_success","key":"{key}","value":"7.{n}","offset":{n},"topic":"t","partition":0}}"#
        );
        assert_eq!(lines[n + 1], told);
    }
    assert_eq!(lines[4], r#""name":"shutdown_complete"}"#);
    assert!(lines[5].starts_with(r#""name":"tool_data","sent":3,"acked":3,"target_throughput":20,"avg_thr"#));
    assert_eq!(fake.partitions[0].values(), ["7.0", "7.1", "7.2"]);

    fake.rule = Box::new(|seen| match seen.key {
        ApiKey::Produce => Fall::Refuse(ErrorCode::INVALID_RECORD),
        _ => Fall::Answer,
    });
    let (out, _, exit) = run(&mut fake, "kafka-verifiable-producer B --topic t --max-messages 1");
    assert_eq!(exit, 0);
    let failed = r#""name":"producer_send_error","topic":"t","key":null,"value":"0","exception":"class org.apache.kafka.common.InvalidRecordException","message":"#;
    assert!(out.contains(failed), "{out}");
    assert!(out.contains(r#""sent":1,"acked":0,"target_throughput":-1"#), "{out}");
}

#[test]
fn the_performance_test_sends_all_and_measures() {
    let mut fake = Fake::new(1, 1);
    let line = "kafka-producer-perf-test B --topic t --num-records 2000 --record-size 100 --throughput 200 \
                --command-property acks=all linger.ms=0";
    let (out, err, exit) = run(&mut fake, line);
    assert_eq!((err.as_str(), exit), ("", 0));
    assert_eq!(fake.partitions[0].end(), 2000);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "ten seconds: a window and the total: {out}");
    assert!(lines[0].contains(" records sent, 200.") && lines[0].ends_with(" ms max latency."), "{out}");
    assert!(lines[1].starts_with("2000 records sent, 200.0"), "{out}");
    assert!(lines[1].contains("(0.02 MB/sec)") && lines[1].contains(" ms 50th, "), "{out}");
    let line = "kafka-producer-perf-test B --topic t --num-records 20000 --record-size 100 --throughput -1";
    let (out, err, exit) = run(&mut fake, line);
    assert_eq!((err.as_str(), exit, out.lines().count()), ("", 0, 1));
    assert_eq!(fake.partitions[0].end(), 22_000);
    let (_, err, exit) =
        run(&mut fake, "kafka-producer-perf-test B --topic t --record-size 9 --throughput 1");
    assert_eq!(exit, 1);
    let reason = "kafka-producer-perf-test: error: argument --num-records is required\n";
    assert!(err.ends_with(reason), "{err}");
}

#[test]
fn a_consumer_that_reads_nothing_says_so_when_its_time_is_over() {
    let mut fake = Fake::new(1, 1);
    let coordinator =
        Coordinator { error_code: ErrorCode::COORDINATOR_NOT_AVAILABLE.0, ..Default::default() };
    let response = FindCoordinatorResponse { coordinators: vec![coordinator], ..Default::default() };
    answer(&mut fake, ApiKey::FindCoordinator, response);
    let line = "kafka-consumer-perf-test B --topic t --num-records 5 --timeout 3000";
    let (out, err, exit) = run(&mut fake, line);
    assert_eq!((err.as_str(), exit), ("", 0));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[1],
        "WARNING: Exiting before consuming the expected number of records: timeout (3000 ms) exceeded. You can use the \
         --timeout option to increase the timeout."
    );
    assert!(lines[0].starts_with("start.time, end.time, data.consumed.in.MB, MB.sec,"), "{out}");
    assert!(
        lines[2].starts_with("2026-01-01 00:00:00:000, 2026-01-01 00:00:03:000, 0.0000, 0.0000, 0,"),
        "{out}"
    );
    let (_, err, exit) = run(&mut fake, "kafka-consumer-perf-test B --topic t");
    assert_eq!(exit, 1);
    let reason = "Exactly one of the following arguments is required: [messages], [num-records]\n";
    assert!(err.starts_with(reason), "{err}");
}

/// Fetch answers of the replicas of a partition: the same two batches, and no more once they were given.
fn replicas_answer(fake: &mut Fake, values: [&'static [&'static str]; 3]) {
    let mut logs = Vec::new();
    for values in values {
        let mut other = Fake::new(1, 1);
        values.iter().for_each(|value| other.produce(0, &[value]));
        logs.push(other.partitions.remove(0));
    }
    let mut asked = 0;
    let handler = move |version: i16, correlation: i32, r: &mut wire::Reader<'_>| {
        let request = FetchRequest::decode(r, version).unwrap();
        assert_eq!((request.replica_state.replica_id, request.session_epoch), (-2, -1));
        let wanted = &request.topics[0].partitions[0];
        let log = &logs[asked % 3];
        asked += 1;
        let mut records = wire::Rope::new();
        for batch in log.log.iter().skip(wanted.fetch_offset as usize) {
            records.append(batch.clone());
        }
        let data = FetchedPartition {
            partition_index: wanted.partition,
            high_watermark: log.end(),
            records: Some(records),
            ..FetchedPartition::default()
        };
        let topic = FetchableTopicResponse {
            topic_id: request.topics[0].topic_id,
            partitions: vec![data],
            ..FetchableTopicResponse::default()
        };
        let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
        Some(encode_response(ApiKey::Fetch, version, correlation, &response).unwrap())
    };
    fake.handlers.insert(ApiKey::Fetch, Box::new(handler));
}

fn replicated(values: [&'static [&'static str]; 3]) -> Fake {
    let text = "\
Topic: purchases⇥TopicId: pqdGH_wdTnGSEwQL2R0JxQ⇥PartitionCount: 1⇥ReplicationFactor: 3⇥Configs: min.insync.replicas=1
⇥Topic: purchases⇥Partition: 0⇥Leader: 2⇥Replicas: 2,3,1⇥Isr: 2,3,1⇥Elr: ⇥LastKnownElr: 
";
    let mut fake = described(text);
    let listed = MetadataResponseTopic {
        name: Some("purchases".into()),
        topic_id: Uuid::parse("pqdGH_wdTnGSEwQL2R0JxQ").unwrap(),
        partitions: vec![MetadataResponsePartition { leader_id: 2, ..Default::default() }],
        ..MetadataResponseTopic::default()
    };
    answer(&mut fake, ApiKey::Metadata, metadata(vec![listed]));
    let partition = ListOffsetsPartitionResponse { offset: 0, ..Default::default() };
    let topic = ListOffsetsTopicResponse { name: "purchases".into(), partitions: vec![partition] };
    answer(&mut fake, ApiKey::ListOffsets, ListOffsetsResponse { topics: vec![topic], ..Default::default() });
    replicas_answer(&mut fake, values);
    fake
}

#[test]
fn replicas_that_agree_are_verified_until_the_tool_is_stopped() {
    let mut fake = replicated([&["a", "b"], &["a", "b"], &["a"]]);
    let line = "kafka-replica-verification --broker-list broker-1:9092 --time -2 --report-interval-ms 100";
    let mut process = command(line, &[]);
    fake.start(&mut process);
    fake.run(&mut process, ms(1_000));
    assert_eq!(fake.exit, None, "{}", fake.stderr);
    fake.stop(&mut process);
    assert_eq!(fake.exit, Some(143));
    let lines: Vec<&str> = fake.stdout.lines().map(|line| &line["2026-01-01 00:00:00,000".len()..]).collect();
    assert_eq!(lines[0], ": verification process is started");
    // One batch is where all have it.
    assert_eq!(lines[1], ": max lag is 1 for partition purchases-0 at offset 1 among 1 partitions");
    let warnings: Vec<&str> = fake.stderr.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    let expected = [
        "WARN This tool is deprecated and may be removed in a future major release. \
         (org.apache.kafka.tools.ReplicaVerificationTool)",
        "WARN [Consumer clientId=consumer-ReplicaVerification-1, groupId=ReplicaVerification] Not updating high \
         watermark for partition purchases-0 as it is no longer assigned \
         (org.apache.kafka.clients.consumer.internals.OffsetFetcherUtils)",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_broker_that_cannot_be_reached_has_no_batches_and_holds_nobody_up() {
    let mut fake = replicated([&["a", "b"], &["a", "b"], &["a", "b"]]);
    fake.down.push(3);
    let line = "kafka-replica-verification --broker-list broker-1:9092 --time -2 --report-interval-ms 900";
    let mut process = command(line, &[]);
    fake.start(&mut process);
    fake.run(&mut process, ms(4_000));
    assert_eq!(fake.exit, None, "{}", fake.stderr);
    let lines: Vec<&str> = fake.stdout.lines().map(|line| &line["2026-01-01 00:00:00,000".len()..]).collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in &lines[1..] {
        assert_eq!(*line, ": max lag is 2 for partition purchases-0 at offset 0 among 1 partitions");
    }
    // It returns.
    fake.down.clear();
    fake.stdout.clear();
    fake.run(&mut process, ms(8_000));
    let last = fake.stdout.lines().last().unwrap();
    assert!(
        last.ends_with(": max lag is 0 for partition purchases-0 at offset 2 among 1 partitions"),
        "{last}"
    );
}

#[test]
fn a_replica_with_other_records_is_told() {
    let mut fake = replicated([&["a"], &["a"], &["x"]]);
    let mut process = command("kafka-replica-verification --broker-list broker-1:9092 --time -2", &[]);
    fake.start(&mut process);
    fake.run(&mut process, ms(1_000));
    assert!(fake.stdout.contains(": partition purchases-0 has unmatched checksum at offset 0; replica "));
    let none = "kafka-replica-verification --broker-list broker-1:9092 --topics-include nothing";
    let (out, err, exit) = run(&mut fake, none);
    let text = "ERROR No topics found. [topics-include] if specified, is either filtering out all topics or there is \
                no topic. (org.apache.kafka.tools.ReplicaVerificationTool)\n";
    assert!(err.ends_with(text), "{err}");
    assert_eq!((out.as_str(), exit), ("", 1));
}
