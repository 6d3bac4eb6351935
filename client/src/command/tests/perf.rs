//! `kafka-producer-perf-test` and `kafka-consumer-perf-test`: every text as Apache Kafka 4.3.1's tools printed it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use wire::ApiKey;
use wire::messages::OffsetCommitResponse;

use super::consumers::coordinate;
use super::{answer, run, run_with};
use crate::testing::Fake;

const PRODUCER: &str = "kafka-producer-perf-test";
/// What is fine about a command line.
const FINE: &str = "--topic t --num-records 5 --throughput -1 --bootstrap-server broker-1:9092";

/// What argparse4j says behind the usage.
fn reason(stderr: &str) -> &str {
    &stderr[stderr.find("kafka-producer-perf-test: ").unwrap_or(0)..]
}

#[test]
fn a_producer_test_that_makes_no_sense_is_told_why() {
    let told = |line: &str| {
        let (out, err, exit) = run(&mut Fake::new(1, 1), line);
        assert_eq!((out.as_str(), exit), ("", 1), "{line}: {err}");
        err
    };
    let cases = [
        ("--record-size 1", "argument --throughput is required\n"),
        ("--record-size 1 --throughput 1", "argument --num-records is required\n"),
        (
            "--topic t --num-records 1 --throughput -1",
            " one  of  the  arguments  --record-size --\npayload-file --payload-monotonic is required\n",
        ),
        (
            "--topic t --num-records 1 --throughput -1 --record-size 1",
            "At  least  one  of  --bootstrap-server, --\ncommand-property, --producer-props,  --producer.config  or \
             --command-config\nmust be specified.\n",
        ),
        (
            "--topic t --num-records 1 --throughput -1 --record-size x",
            "argument --record-size:  could not convert\n'x' to Integer (For input string: \"x\")\n",
        ),
        (
            "--throughput x --topic t --num-records 1 --record-size 1",
            "argument  --throughput:  could not convert\n'x' to Double (For input string: \"x\")\n",
        ),
        ("--nope", "unrecognized arguments: '--nope'\n"),
    ];
    for (line, text) in cases {
        let err = told(&format!("{PRODUCER} {line}"));
        assert!(err.starts_with("usage: kafka-producer-perf-test\n       [-h] [--bootstrap-server"), "{err}");
        assert_eq!(reason(&err), format!("kafka-producer-perf-test: error: {text}"));
    }
    let cases = [
        (
            "--record-size 1 --payload-file f",
            ": error: argument --payload-file:  not allowed with\nargument --record-size\n",
        ),
        (
            "--record-size 1 --payload-monotonic",
            ": error: argument  --payload-monotonic: not allowed\nwith argument --record-size\n",
        ),
        ("--record-size 0", ":  error:  --record-size  should  be  greater  than\nzero.\n"),
        (
            "--record-size 1 --producer-props a=1 --command-property b=1",
            ": error:  --command-property  and  --producer-props\ncannot be specified together.\n",
        ),
        (
            "--record-size 1 --producer.config a --command-config b",
            ":  error:  --command-config  and  --producer.config\ncannot be specified together.\n",
        ),
        (
            "--record-size 1 --transaction-duration-ms 0",
            ":  error:   --transaction-duration-ms   should   be\ngreater than zero.\n",
        ),
        (
            "--record-size 1 --warmup-records 5",
            ": error: The  value  for  --warmup-records  must be\nstrictly fewer than the number of records in the \
             test, --num-records.\n",
        ),
        (
            "--record-size 1 --reporting-interval -3",
            ": error:  --reporting-interval  should  be  greater\nthan zero.\n",
        ),
    ];
    for (options, text) in cases {
        let err = told(&format!("{PRODUCER} {FINE} {options}"));
        assert!(err.ends_with(&format!("kafka-producer-perf-test{text}")), "{err}");
    }
    let thrown = [
        (
            "--record-size 1 --command-property xyz",
            "java.lang.IllegalArgumentException: Invalid property: xyz\n",
        ),
        (
            "--record-size 1 --command-property a=b=c",
            "java.lang.IllegalArgumentException: Invalid property: a=b=c\n",
        ),
        ("--record-size 1 --command-config nofile", "java.nio.file.NoSuchFileException: nofile\n"),
        (
            "--record-size 1 --command-property acks=7",
            "org.apache.kafka.common.config.ConfigException: Invalid value 7 for configuration acks: String must be \
             one of: all, -1, 0, 1\n",
        ),
    ];
    for (options, text) in thrown {
        assert_eq!(
            told(&format!("{PRODUCER} {FINE} {options}")),
            format!("Exception in thread \"main\" {text}")
        );
    }
    let (out, _, exit) = run(&mut Fake::new(1, 1), PRODUCER);
    assert!(out.starts_with("usage: kafka-producer-perf-test\n") && exit == 0, "{out}");
    let (out, _, exit) = run(&mut Fake::new(1, 1), &format!("{PRODUCER} --help"));
    assert!(out.contains("\noptional arguments:\n  -h, --help             show") && exit == 1, "{out}");
}

#[test]
fn payloads_come_from_a_file_or_count_up() {
    let mut fake = Fake::new(1, 1);
    let files = [("pay", "one\ntwo\nthree\n"), ("pay2", "a;b;;c"), ("p.conf", "linger.ms=2")];
    let line = format!("{PRODUCER} {FINE} --payload-file pay");
    let (out, err, exit) = run_with(&mut fake, &line, &files, None);
    assert_eq!((err.as_str(), exit), ("", 0));
    assert!(
        out.starts_with("Reading payloads from: /pay\nNumber of records read: 3\n5 records sent, "),
        "{out}"
    );
    let line = format!(
        "{PRODUCER} {FINE} --payload-file pay2 --payload-delimiter ; --producer-props linger.ms=1 acks=1"
    );
    let (out, _, _) = run_with(&mut fake, &line, &files, None);
    let renamed = "Number of records read: 4\nOption --producer-props has been deprecated and will be removed in a \
                   future version. Use --command-property instead.\n5 records sent, ";
    assert!(out.contains(renamed), "{out}");
    let line = format!("{PRODUCER} {FINE} --payload-monotonic --producer.config p.conf");
    let (out, _, _) = run_with(&mut fake, &line, &files, None);
    let renamed = "Option --producer.config has been deprecated and will be removed in a future version. Use \
                   --command-config instead.\n5 records sent, ";
    assert!(out.starts_with(renamed), "{out}");
    let sent = fake.partitions[0].values();
    let expected = ["two", "two", "one", "one", "two", "b", "b", "c", "", "", "0", "1", "2", "3", "4"];
    assert_eq!(sent, expected);

    let (out, err, exit) = run(&mut fake, &format!("{PRODUCER} {FINE} --payload-file nope"));
    let thrown = "Exception in thread \"main\" java.lang.IllegalArgumentException: File does not exist or empty file \
                  provided.\n";
    assert_eq!((out.as_str(), err.as_str(), exit), ("Reading payloads from: /nope\n", thrown, 1));
}

#[test]
fn what_comes_after_the_warm_up_is_told_apart() {
    let line = format!(
        "{PRODUCER} --topic t --num-records 400 --throughput 100 --record-size 10 --warmup-records 100 \
         --reporting-interval 1000 --bootstrap-server broker-1:9092 --print-metrics"
    );
    let (out, err, exit) = run(&mut Fake::new(1, 1), &line);
    assert_eq!((err.as_str(), exit), ("", 0));
    let lines: Vec<&str> = out.lines().collect();
    let first = "Warmup first 100 records. Steady state results will print after the complete test summary.";
    assert_eq!(lines[0], first);
    assert_eq!(lines.iter().filter(|line| **line == "In steady state.").count(), 1, "{out}");
    let total = lines.iter().position(|line| line.starts_with("400 records sent, ")).unwrap();
    assert!(lines[total + 1].starts_with("300 steady state records sent, "), "{out}");
    // The table of metrics, in the order of names.
    assert_eq!(lines[total + 2], "");
    let width = "producer-metrics:connection-creation-total:{client-id=perf-producer-client}".len();
    assert_eq!(lines[total + 3], format!("{:width$}   Value", "Metric Name"));
    let sent =
        format!("{:width$} : 400.000", "producer-metrics:record-send-total:{client-id=perf-producer-client}");
    assert!(lines.contains(&sent.as_str()), "{out}");
    let rows = &lines[total + 4..];
    assert!(rows.is_sorted() && rows[0].starts_with("app-info:start-time-ms:"), "{out}");
    assert!(rows.iter().any(|row| row.ends_with(&format!(" : {}.000", rows.len()))), "{out}");
}

#[test]
fn records_that_fail_are_told_and_not_counted() {
    let line = format!("{PRODUCER} --topic t --num-records 2 --throughput 100 --record-size 2000000 B");
    let (out, err, exit) = run(&mut Fake::new(1, 1), &line);
    let none = "0 records sent, 0.000000 records/sec (0.00 MB/sec), NaN ms avg latency, 0.00 ms max latency, 0 ms 50th, 0 \
                ms 95th, 0 ms 99th, 0 ms 99.9th.\n";
    let thrown = "org.apache.kafka.common.errors.RecordTooLargeException: The message is 2000088 bytes when serialized which \
                  is larger than 1048576, which is the value of the max.request.size configuration.\n";
    assert_eq!((out.as_str(), err, exit), (none, String::from(thrown).repeat(2), 0));
}

// --- the consumer

const CONSUMER: &str = "kafka-consumer-perf-test --bootstrap-server broker-1:9092";
const HEADER: &str = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
                      rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n";

#[test]
fn a_consumer_test_that_makes_no_sense_is_told_why() {
    let told = |options: &str| {
        let mut fake = Fake::new(1, 1);
        coordinate(&mut fake);
        run(&mut fake, &format!("{CONSUMER} {options}"))
    };
    let cases = [
        ("--num-records 1", "Exactly one of the following arguments is required: [topic], [include]\n"),
        ("--topic t", "Exactly one of the following arguments is required: [messages], [num-records]\n"),
        (
            "--topic t --messages 1 --consumer.config a --command-config b",
            "Option \"[consumer.config]\" can't be used with option \"[command-config]\"\n",
        ),
    ];
    for (options, text) in cases {
        let (out, err, exit) = told(options);
        assert!(out.is_empty() && err.starts_with(text) && exit == 1, "{err}");
    }
    let number = "joptsimple.OptionArgumentConversionException: Cannot parse argument 'x' of option messages\n\
                  Caused by: joptsimple.internal.ReflectionException: java.lang.NumberFormatException: For input string: \
                  \"x\"\nCaused by: java.lang.NumberFormatException: For input string: \"x\"\n";
    let cases = [
        ("--topic t --messages x", format!("Cannot parse argument 'x' of option messages\n{number}\n")),
        (
            "--topic t --num-records 1 --reporting-interval -5",
            "Reporting interval must be greater than 0.\njava.lang.IllegalArgumentException: Reporting interval must be \
             greater than 0.\n\n"
                .into(),
        ),
        (
            "--topic t --num-records 1 --socket-buffer-size -5",
            "Invalid value -5 for configuration receive.buffer.bytes: Value must be at least -1\n\
             org.apache.kafka.common.config.ConfigException: Invalid value -5 for configuration receive.buffer.bytes: \
             Value must be at least -1\n\n"
                .into(),
        ),
        (
            "--include \"\" --num-records 1",
            "Topic pattern to subscribe to cannot be empty\njava.lang.IllegalArgumentException: Topic pattern to \
             subscribe to cannot be empty\n\n"
                .into(),
        ),
    ];
    let cases = cases.into_iter().chain([(
        "--include a( --num-records 1",
        "Unclosed group near index 2\na(\njava.util.regex.PatternSyntaxException: Unclosed group near index 2\na(\n\n"
            .into(),
    )]);
    for (options, text) in cases {
        let (out, err, exit) = told(options);
        assert!(out.ends_with(HEADER), "{out}");
        assert_eq!((err, exit), (text, 1));
    }
    let (out, _, _) = told("--topic t --messages 0 --consumer.config nope");
    let renamed = "Warning: --messages is deprecated. Use --num-records instead.\nWarning: --consumer.config is \
                   deprecated. Use --command-config instead.\n";
    assert_eq!(out, format!("{renamed}{HEADER}"));
    // There is nothing to wait for, and no time in which it could be.
    let (out, err, exit) = told("--topic t --num-records 0 --hide-header");
    let row = "2026-01-01 00:00:00:000, 2026-01-01 00:00:00:000, 0.0000, NaN, 0, NaN, 0, 0, NaN, NaN\n";
    assert_eq!((out.as_str(), err.as_str(), exit), (row, "", 0));
}

#[test]
fn a_consumer_test_reads_by_name_or_by_pattern() {
    for which in ["--topic t", "--include [a-t]"] {
        let mut fake = Fake::new(1, 1);
        coordinate(&mut fake);
        answer(&mut fake, ApiKey::OffsetCommit, OffsetCommitResponse::default());
        fake.produce(0, &["book", "pen", "lamp"]);
        let line = format!("{CONSUMER} {which} --num-records 3 --date-format yyyy --print-metrics");
        let (out, err, exit) = run(&mut fake, &line);
        assert_eq!((err.as_str(), exit), ("", 0), "{which}: {out}");
        let row = out.strip_prefix(HEADER).unwrap();
        assert!(row.starts_with("2026, 2026, 0.0000, 0.00"), "{out}");
        assert_eq!(row.split(", ").nth(4), Some("3"), "{out}");
        let name = "consumer-fetch-manager-metrics:bytes-consumed-total:{client-id=perf-consumer-client}";
        let metric = out.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(metric.ends_with(" : 11.000"), "{metric}");
        assert_eq!(fake.count(ApiKey::JoinGroup), 1);
    }
}

#[test]
fn detailed_stats_are_a_row_for_each_interval_with_records() {
    let mut fake = Fake::new(1, 1);
    coordinate(&mut fake);
    answer(&mut fake, ApiKey::OffsetCommit, OffsetCommitResponse::default());
    fake.produce(0, &vec!["0123456789"; 2_000]);
    let line = format!(
        "{CONSUMER} --topic t --num-records 3000 --show-detailed-stats --reporting-interval 1 --timeout 100"
    );
    let (out, _, exit) = run(&mut fake, &line);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("time, threadId, data.consumed.in.MB, MB.sec,"), "{out}");
    // The row is told of by the first record of a poll.
    let fields: Vec<&str> = lines[1].split(", ").collect();
    assert_eq!((fields.len(), fields[1], fields[2], fields[4]), (10, "0", "0.0000", "1"), "{out}");
    let late = "WARNING: Exiting before consuming the expected number of records: timeout (100 ms) exceeded. You can use \
                the --timeout option to increase the timeout.";
    assert_eq!((*lines.last().unwrap(), exit), (late, 0), "and no row for all of it");
}
