//! What is masked before two outputs are compared, and how lines are compared.

use regex::Regex;

/// Masks: what is by chance, by the clock, or by the names of hosts. The last column: whether the widths may differ.
const MASKS: &[(&str, &str, bool)] = &[
    // Groups that a console consumer makes for itself.
    (r"console-consumer-\d{1,5}\b", "<group>", true),
    // Ids of topics, directories and members; members of the classic protocol have a UUID of another form.
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>", true),
    (r"(^|[\s\x22:])[A-Za-z0-9_-]{22}($|[\s\x22])", "$1<id>$2", false),
    // The clock.
    (r"\b1[0-9]{12}\b", "<ms>", false),
    (r"\[?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\]? ", "", false),
    (r"\b\d+ ms ago *", "<ago>", true),
    // A batch's age is told when its time is over, to the millisecond.
    (r":\d{4} ms has passed", ":<n> ms has passed", false),
    // Which broker coordinates a group, or is asked first.
    (r"(localhost:1909\d|broker-\d:9092) +\(\d\)", "<coordinator>", true),
    (r"due to node \d being", "due to node <n> being", false),
    // Hosts and directories.
    (r"localhost:?\s*1909\d", "<host>", true),
    (r"broker-\d:?\s*9092", "<host>", true),
    (r"CONTROLLER://[a-z0-9-]+:\d+", "CONTROLLER://<host>", true),
    (r"/\d+\.\d+\.\d+\.\d+\b", "/<ip>", true),
    (r"DIR/broker-\d|/var/lib/kafka/data", "<dir>", true),
    // Placement by the controller: a partition's replicas are named in their order.
    (r"\b(HighWatermark|MaxFollowerLag|MaxFollowerLagTimeMs|LeaderId): +-?\d+", "$1: <n>", true),
    (r"\bEpoch: \d+", "Epoch: <n>", true),
];

/// Tells how two outputs differ, if they do.
pub fn compare(command: &str, what: &str, expected: &[String], ours: &[String]) -> Option<String> {
    let (mut theirs, mut ours) = (trimmed(expected), trimmed(ours));
    // Warnings, stack frames and empty lines of standard error were not written down.
    theirs.retain(|line| !line.trim_start().starts_with("... "));
    if what == "stderr" {
        ours.retain(|line| !line.is_empty() && !line.contains("] WARN "));
    }
    // The option table is not written down.
    if theirs.last().is_some_and(|line| line == "(then the option table)") {
        theirs.pop();
        ours.truncate(theirs.len());
    }
    let masks: Vec<(Regex, &str, bool)> =
        MASKS.iter().map(|(mask, with, loose)| (Regex::new(mask).expect("a mask"), *with, *loose)).collect();
    let mut loose = false;
    for lines in [&mut theirs, &mut ours] {
        for line in lines.iter_mut() {
            for (mask, with, widths) in &masks {
                if mask.is_match(line) {
                    loose |= widths;
                    // Twice, since neighbours share a delimiter.
                    *line = mask.replace_all(line, *with).into_owned();
                    *line = mask.replace_all(line, *with).into_owned();
                }
            }
            *line = special(command, line);
        }
    }
    for lines in [&mut theirs, &mut ours] {
        lines.retain(|line| !left_out(command, line));
        // Of what is repeated, one line was written down.
        lines.dedup();
    }
    if loose {
        let spaces = Regex::new(" +").expect("a pattern");
        for line in theirs.iter_mut().chain(&mut ours) {
            *line = spaces.replace_all(line, " ").trim_end().to_owned();
        }
    }
    if unordered(command) {
        theirs.sort();
        ours.sort();
    }
    let mut told = Vec::new();
    for i in 0..theirs.len().max(ours.len()) {
        match (theirs.get(i), ours.get(i)) {
            (Some(kafka), Some(our)) if same(kafka, our) => {}
            (kafka, our) => {
                let show =
                    |line: Option<&String>| line.map_or("(nothing)".to_owned(), |line| format!("{line:?}"));
                told.push(format!(
                    "{what} {}: Kafka {}\n{what} {}:  ours {}",
                    i + 1,
                    show(kafka),
                    i + 1,
                    show(our)
                ));
            }
        }
    }
    (!told.is_empty()).then(|| told.join("\n"))
}

fn trimmed(lines: &[String]) -> Vec<String> {
    let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |at| at + 1);
    lines[..end].to_vec()
}

/// `…` stands for anything.
fn same(kafka: &str, ours: &str) -> bool {
    match kafka.split_once('…') {
        None => kafka == ours,
        Some((before, after)) => {
            ours.len() >= before.len() + after.len() && ours.starts_with(before) && ours.ends_with(after)
        }
    }
}

/// What comes in the order in which brokers answer.
fn unordered(command: &str) -> bool {
    let list = command.contains(" --list");
    list && (command.starts_with("kafka-consumer-groups") || command.starts_with("kafka-groups"))
        || command.starts_with("kafka-console-consumer")
        || command.starts_with("kafka-broker-api-versions")
}

/// Where the many partitions of `__consumer_offsets` lie is by chance, and most of their rows were not written down.
fn left_out(command: &str, line: &str) -> bool {
    command.starts_with("kafka-topics") && line.starts_with("\tTopic: __consumer_offsets\t")
        || command.starts_with("kafka-leader-election") && line.contains("partition: __consumer_offsets-")
}

/// What only some tools print by chance.
fn special(command: &str, line: &str) -> String {
    let tool = command.split(' ').next().unwrap_or_default();
    let replace = |pattern: &str, with: &str| {
        Regex::new(pattern).expect("a pattern").replace_all(line, with).into_owned()
    };
    match tool {
        // Where the controller puts replicas is by chance, how leader and ISR relate to them is not.
        "kafka-topics" if line.starts_with('\t') => lettered(line),
        // The log of the metadata quorum is as long as the session took; any controller may lead.
        "kafka-metadata-quorum" if line.starts_with("NodeId") => {
            line.split('\t').map(str::trim).collect::<Vec<_>>().join("\t")
        }
        "kafka-metadata-quorum" if line.contains('\t') => {
            let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
            let kind = fields.iter().rev().find(|field| !field.is_empty()).copied().unwrap_or_default();
            format!("{} fields, {kind}", fields.len())
        }
        "kafka-metadata-quorum" => {
            // Right after an election not all observers have been heard of.
            let line = replace(r#"(\{"id": \d+, "directoryId": "<id>"\}(, )?)+"#, "<observers>");
            Regex::new(r"LeaderEpoch: +\d+")
                .expect("a pattern")
                .replace_all(&line, "LeaderEpoch: <n>")
                .into_owned()
        }
        // Messages keep coming.
        "kafka-consumer-groups" if line.starts_with("vg ") => {
            Regex::new(r" (\d+|-)( |$)").expect("a pattern").replace_all(line, " <n>$2").into_owned()
        }
        "kafka-leader-election" => {
            // One line names all that were elected.
            let named = line.starts_with("Successfully") || line.starts_with("Valid");
            let line = if named { replace(r"__consumer_offsets-\d+(, )?", "") } else { line.to_owned() };
            Regex::new(r"^\d+ replica|: \d+ replica")
                .expect("a pattern")
                .replace(&line, "<n> replica")
                .into_owned()
        }
        // The client's words are told as they were given.
        "kafka-configs" if line.starts_with("Error while executing config command") => {
            replace(r"--bootstrap-server \S+", "--bootstrap-server B")
        }
        // How much was written depends on how long the session took.
        "kafka-transactions" if line.contains('\t') => {
            let line = replace(r" +\t", "\t");
            Regex::new(r"(^|\t)-?\d+").expect("a pattern").replace_all(&line, "$1<n>").into_owned()
        }
        // How long things take. That they come to some time, some rate and some count is compared.
        "kafka-producer-perf-test" | "kafka-e2e-latency" => replace(r"\d+(\.\d+)?", "<n>"),
        "kafka-consumer-perf-test" => {
            let line = replace(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d:\d{3}", "<time>");
            Regex::new(r", \d+(\.\d+)?").expect("a pattern").replace_all(&line, ", <n>").into_owned()
        }
        "kafka-log-dirs" => replace(r#""size":\d+"#, r#""size":<n>"#),
        // Proposals begin at any broker.
        "kafka-reassign-partitions" if command.contains("--generate") => {
            replace(r#""replicas":\[\d+,\d+\]"#, r#""replicas":[<ids>]"#)
        }
        _ => line.to_owned(),
    }
}

/// Names the brokers of a partition's row by their place among its replicas.
fn lettered(line: &str) -> String {
    let Some((_, rest)) = line.split_once("Replicas: ") else { return line.to_owned() };
    let replicas: Vec<&str> = rest.split('\t').next().unwrap_or_default().split(',').collect();
    let letter = |id: &str| match replicas.iter().position(|replica| *replica == id) {
        Some(at) => char::from(b'a' + at as u8).to_string(),
        None => id.to_owned(),
    };
    let field = |field: &str| match field.split_once(": ") {
        Some((name @ ("Leader" | "Replicas" | "Isr" | "Elr" | "LastKnownElr"), ids)) => {
            format!("{name}: {}", ids.split(',').map(letter).collect::<Vec<_>>().join(","))
        }
        _ => field.to_owned(),
    };
    line.split('\t').map(field).collect::<Vec<_>>().join("\t")
}
