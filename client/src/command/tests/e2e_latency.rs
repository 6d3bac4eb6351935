//! `kafka-e2e-latency` against a scripted cluster: its options, its texts, its records.

use wire::messages::find_coordinator_request::FindCoordinatorRequest;
use wire::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use wire::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::*;

const NAMED: &str = "kafka-e2e-latency B --topic t --num-records 3 --producer-acks all --record-size 10";

/// A cluster whose coordinator takes commits of the topic's only partition.
fn that_commits() -> Fake {
    let mut fake = Fake::new(1, 1);
    let coordinator = Coordinator { node_id: 1, host: "broker-1".into(), port: 9092, ..Default::default() };
    let handler = move |version: i16, correlation: i32, r: &mut wire::Reader<'_>| {
        let request = FindCoordinatorRequest::decode(r, version).unwrap();
        let key = Cow::Owned(request.coordinator_keys[0].to_string());
        let coordinators = vec![Coordinator { key, ..coordinator.clone() }];
        let response = FindCoordinatorResponse { coordinators, ..Default::default() };
        Some(encode_response(ApiKey::FindCoordinator, version, correlation, &response).unwrap())
    };
    fake.handlers.insert(ApiKey::FindCoordinator, Box::new(handler));
    let partitions = vec![OffsetCommitResponsePartition::default()];
    let topic = OffsetCommitResponseTopic { name: TOPIC.into(), partitions, ..Default::default() };
    let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
    answer(&mut fake, ApiKey::OffsetCommit, response);
    fake
}

#[test]
fn each_record_is_sent_and_read_back() {
    let mut fake = that_commits();
    let (out, err, exit) = run(&mut fake, NAMED);
    assert_eq!((err.as_str(), exit), ("", 0), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    let milliseconds = lines[0].strip_prefix("0⇥").expect(&out);
    assert!(milliseconds.parse::<f64>().unwrap() > 0.0 && milliseconds.contains('.'), "{out}");
    assert!(lines[1].starts_with("Avg latency: ") && lines[1].ends_with(" ms"), "{out}");
    assert!(lines[2].starts_with("Percentiles: 50th = "), "{out}");
    assert_eq!(lines.len(), 3);
    assert_eq!(fake.partitions[0].end(), 3);
    assert_eq!(fake.count(ApiKey::OffsetCommit), 1);
}

#[test]
fn what_is_wrong_with_the_command_line_is_told_as_kafka_tells_it() {
    let usage = "Option                                   Description                            \n";
    let positions = "Invalid number of arguments. Expected 5 or 6 positional arguments, but got 1. Usage: \
                     bootstrap-server topic num-records producer-acks record-size [optional] command-config\n";
    let acks = "Invalid value for --producer-acks. Latency testing requires synchronous acknowledgement. Please use \
                '1' or 'all'.\n";
    let cases = [
        ("kafka-e2e-latency --help".to_string(), positions, false),
        (NAMED.replace(" all", " 0"), acks, true),
        (NAMED.replace(" 3", " 0"), "Value for --num-records must be a positive integer.\n", true),
        (NAMED.replace(" 3", " x"), "Cannot parse argument 'x' of option num-records\n", false),
        (NAMED.replace(" 10", " -1"), "Value for --record-size must be a non-negative integer.\n", true),
        (
            format!("{NAMED} --record-header-size -2"),
            "Value for --record-header-size must be a non-negative integer or -1 for null header value.\n",
            true,
        ),
        (NAMED.replace(" --record-size 10", ""), "Missing required argument \"[record-size]\"\n", true),
        (format!("{NAMED} --nope"), "nope is not a recognized option\n", true),
        ("kafka-e2e-latency B".to_string(), "Missing required argument \"[topic]\"\n", true),
    ];
    for (line, text, has_usage) in cases {
        let (out, err, exit) = run(&mut Fake::new(3, 1), &line);
        assert_eq!((out.as_str(), exit), ("", 1), "{line}");
        let rest = err.strip_prefix(text).unwrap_or_else(|| panic!("{line}: {err}"));
        assert_eq!(rest.starts_with(usage), has_usage, "{line}: {err}");
    }
}

#[test]
fn arguments_without_names_still_work() {
    let mut fake = that_commits();
    let (out, err, exit) = run(&mut fake, "kafka-e2e-latency broker-1:9092 t 2 1 5");
    assert_eq!((err.as_str(), exit), ("", 0));
    assert!(out.starts_with("WARNING: Positional argument usage is deprecated"), "{out}");
    assert!(out.contains("\nAvg latency: "), "{out}");
}

#[test]
fn a_record_that_is_too_large_ends_it() {
    let line = NAMED.replace(" 10", " 2000000");
    let (out, err, exit) = run(&mut Fake::new(3, 1), &line);
    let text = "org.apache.kafka.common.errors.RecordTooLargeException: The message is 2000088 bytes when serialized \
                which is larger than 1048576, which is the value of the max.request.size configuration.";
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!((out.as_str(), exit), ("", 1));
    let trace = format!("java.util.concurrent.ExecutionException: {text}");
    assert_eq!(lines[..3], [text, &trace, &format!("Caused by: {text}")]);
}

/// As Apache Kafka 4.3.1 printed it.
const HELP: &str = "\
Option                                   Description                            
------                                   -----------                            
--bootstrap-server <String: bootstrap-   REQUIRED: The Kafka broker list string 
  server>                                  in the form HOST1:PORT1,HOST2:PORT2. 
--command-config [String: config-file]   Optional: A property file for Kafka    
                                           producer/consumer/admin client       
                                           configuration.                       
--help                                   Print usage information.               
--num-headers [Integer: count]           Optional: The number of headers to     
                                           include in each message. (default: 0)
--num-records <Integer: count>           REQUIRED: The number of messages to    
                                           send.                                
--producer-acks <String: producer-acks>  REQUIRED: Producer acknowledgements.   
                                           Must be '1' or 'all'.                
--record-header-key-size [Integer:       Optional: The size of the message      
  bytes]                                   header key in bytes. Used together   
                                           with record-header-size. (default: 0)
--record-header-size [Integer: bytes]    Optional: The size of message header   
                                           value in bytes. Use -1 for null      
                                           header value. (default: 0)           
--record-key-size [Integer: bytes]       Optional: The size of the message key  
                                           in bytes. If not set, messages are   
                                           sent without a key. (default: 0)     
--record-size <Integer: bytes>           REQUIRED: The size of each message     
                                           payload in bytes.                    
--topic <String: topic-name>             REQUIRED: The topic to use for the     
                                           test.                                
--version                                Display Kafka version.                 
";

#[test]
fn its_help_is_kafkas() {
    let (out, err, exit) = run(&mut Fake::new(1, 1), "kafka-e2e-latency");
    assert_eq!((out.as_str(), exit), ("", 1));
    let about =
        "This tool measures end-to-end latency in Kafka by sending messages and timing their reception.";
    assert_eq!(err, format!("{about}\n{HELP}"));
}
