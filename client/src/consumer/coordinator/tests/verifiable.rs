//! `kafka-verifiable-consumer` as a member of the scripted coordinator's group.

use super::*;
use crate::command::{CommandProcess, CommandSpec};

fn tool(line: &str) -> Process {
    let words = line.split_whitespace().map(String::from).collect();
    let spec = CommandSpec { words, ..CommandSpec::default() };
    Process::Command(Box::new(CommandProcess::new(spec, rng(7))))
}

/// The lines without their timestamps.
fn lines(fake: &Fake) -> Vec<String> {
    let line = |line: &str| {
        let (time, rest) = line.split_once(',').unwrap();
        let digits = time.strip_prefix("{\"timestamp\":").unwrap();
        assert!(digits.len() == 13 && digits.bytes().all(|digit| digit.is_ascii_digit()), "{line}");
        rest.to_string()
    };
    fake.stdout.lines().map(line).collect()
}

const LINE: &str =
    "kafka-verifiable-consumer --bootstrap-server broker-1:9092 --topic t --group-id billing --verbose";

const BOTH: &str = "\"partitions\":[{\"topic\":\"t\",\"partition\":0},{\"topic\":\"t\",\"partition\":1}]}";

#[test]
fn tells_what_it_is_given_what_it_reads_and_what_it_commits() {
    let (mut fake, script) = cluster(2);
    fake.produce(1, &["7.0", "a \"b\""]);
    let mut process = tool(LINE);
    fake.start(&mut process);
    fake.run(&mut process, ms(4_000));
    script.borrow_mut().refuse(ApiKey::OffsetCommit, &[ErrorCode::GROUP_AUTHORIZATION_FAILED]);
    fake.produce(0, &["m1"]);
    fake.run(&mut process, ms(5_000));
    assert_eq!(fake.exit, None);
    fake.stop(&mut process);
    fake.run(&mut process, ms(6_000));
    let record = |value: &str, partition: i32, offset: i64| {
        format!(
            "\"name\":\"record_data\",\"key\":null,\"value\":\"{value}\",\"topic\":\"t\",\"partition\":{partition},\
             \"offset\":{offset}}}"
        )
    };
    let expected = [
        "\"name\":\"startup_complete\"}".into(),
        format!("\"name\":\"partitions_assigned\",{BOTH}"),
        record("7.0", 1, 0),
        record("a \\\"b\\\"", 1, 1),
        "\"name\":\"records_consumed\",\"count\":2,\"partitions\":[{\"topic\":\"t\",\"partition\":1,\"count\":2,\
         \"minOffset\":0,\"maxOffset\":1}]}"
            .into(),
        "\"name\":\"offsets_committed\",\"offsets\":[{\"topic\":\"t\",\"partition\":1,\"offset\":2}],\"success\":true}"
            .into(),
        record("m1", 0, 0),
        "\"name\":\"records_consumed\",\"count\":1,\"partitions\":[{\"topic\":\"t\",\"partition\":0,\"count\":1,\
         \"minOffset\":0,\"maxOffset\":0}]}"
            .into(),
        "\"name\":\"offsets_committed\",\"offsets\":[{\"topic\":\"t\",\"partition\":0,\"offset\":1}],\
         \"error\":\"Not authorized to access group: billing\",\"success\":false}"
            .into(),
        format!("\"name\":\"partitions_revoked\",{BOTH}"),
        "\"name\":\"shutdown_complete\"}".into(),
    ];
    assert_eq!(lines(&fake), expected);
    assert_eq!((fake.exit, script.borrow().left.len()), (Some(143), 1));
}

#[test]
fn ends_after_so_many_records_and_commits_no_more() {
    let (mut fake, script) = cluster(1);
    fake.produce(0, &["a", "b", "c"]);
    let mut process = tool(&format!("{LINE} --max-messages 2"));
    fake.start(&mut process);
    fake.run(&mut process, ms(5_000));
    let told = lines(&fake);
    let consumed = "\"name\":\"records_consumed\",\"count\":3,\"partitions\":[{\"topic\":\"t\",\"partition\":0,\
                    \"count\":2,\"minOffset\":0,\"maxOffset\":1}]}";
    assert!(told.iter().any(|line| line == consumed), "{told:?}");
    assert_eq!(told.iter().filter(|line| line.contains("record_data")).count(), 2);
    assert_eq!((fake.exit, script.borrow().committed.get(&0)), (Some(0), Some(&2)));
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let cases = [
        ("--topic t --group-id g", 1, "error: argument --bootstrap-server is required\n"),
        ("--bootstrap-server b:1 --topic t", 1, "argument --group-id is required\n"),
        (
            "--bootstrap-server b:1 --topic t --group-id g --max-messages many",
            1,
            "argument  --max-messages:  could  not  convert\n'many' to Integer (For input string: \"many\")\n",
        ),
        ("--help", 1, ""),
        ("", 0, ""),
    ];
    for (line, code, told) in cases {
        let mut fake = Fake::new(1, 1);
        let mut process = tool(&format!("kafka-verifiable-consumer {line}"));
        fake.start(&mut process);
        fake.run(&mut process, ms(100));
        assert_eq!(fake.exit, Some(code), "{line}");
        assert!(fake.stderr.ends_with(told), "{line}: {}", fake.stderr);
        assert_eq!(fake.stdout.starts_with("usage: verifiable-consumer [-h]"), told.is_empty(), "{line}");
    }
}
