//! `kafka-transactions`, `kafka-verifiable-producer` and `kafka-producer-perf-test`.

use wire::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use wire::messages::describe_transactions_response::{DescribeTransactionsResponse, TransactionState};
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::list_transactions_response::ListTransactionsResponse;
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
    assert!(err.ends_with("producer-performance: error: argument --num-records is required\n"), "{err}");
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
        lines[0],
        "WARNING: Exiting before consuming the expected number of records: timeout (3000 ms) exceeded. You can use the \
         --timeout option to increase the timeout."
    );
    assert!(lines[1].starts_with("start.time, end.time, data.consumed.in.MB, MB.sec,"), "{out}");
    assert!(
        lines[2].starts_with("2026-01-01 00:00:00:000, 2026-01-01 00:00:03:000, 0.0000, 0.0000, 0,"),
        "{out}"
    );
    let (_, err, exit) = run(&mut fake, "kafka-consumer-perf-test B --topic t");
    assert_eq!(exit, 1);
    let reason = "Exactly one of the following arguments is required: --num-records, --messages\n";
    assert!(err.starts_with(reason), "{err}");
}
