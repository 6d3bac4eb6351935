//! The command line: what `ProducerPerformance.argParser` declares, and what `ConfigPostProcessor` makes of it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use rand_core::Rng as _;
use wire::Uuid;
use wire::drive::{Endpoint, Nanos};

use super::payload::{Payloads, scan};
use crate::Rng;
use crate::command::CommandSpec;
use crate::command::arguments::{Arguments, Parser, Unread, arg, switch};
pub(super) use crate::command::load::Wrong;
use crate::command::load::{ONLY, arguments_of_tool, misused, not_a_number};
use crate::command::session::{Console, Exception, Terminal, bootstrap_servers, known_settings};
use crate::config::{ClientKind, Settings};

const PROGRAM: &str = "kafka-producer-perf-test";

const DEFAULT_TRANSACTION_MS: i64 = 3000;

/// What Apache Kafka 4.3.1's tool prints of itself.
const HELP: &str = include_str!("../help/kafka-producer-perf-test.txt");

/// Of these exactly one must be given.
const PAYLOADS: [&str; 3] = ["--record-size", "--payload-file", "--payload-monotonic"];

const PARSERS: &[Parser] = &[Parser {
    name: ONLY,
    args: &[
        arg("--bootstrap-server", None),
        arg("--topic", None),
        arg("--num-records", None),
        arg("--payload-delimiter", None),
        arg("--throughput", None),
        arg("--producer-props", None),
        arg("--command-property", None),
        arg("--producer.config", None),
        arg("--command-config", None),
        switch("--print-metrics"),
        arg("--transactional-id", None),
        arg("--transaction-duration-ms", None),
        arg("--warmup-records", None),
        arg("--reporting-interval", None),
        arg(PAYLOADS[0], None),
        arg(PAYLOADS[1], None),
        switch(PAYLOADS[2]),
    ],
    // What is given too often is told before what is missing: see `arguments`.
    one_of: &[],
    usage: "kafka-producer-perf-test
       [-h] [--bootstrap-server BOOTSTRAP-SERVER] --topic TOPIC
       --num-records NUM-RECORDS [--payload-delimiter PAYLOAD-DELIMITER]
       --throughput THROUGHPUT
       [--producer-props PROP-NAME=PROP-VALUE [PROP-NAME=PROP-VALUE ...]]
       [--command-property PROP-NAME=PROP-VALUE [PROP-NAME=PROP-VALUE ...]]
       [--producer.config CONFIG-FILE] [--command-config CONFIG-FILE]
       [--print-metrics] [--transactional-id TRANSACTIONAL-ID]
       [--transaction-duration-ms TRANSACTION-DURATION]
       [--warmup-records WARMUP-RECORDS] [--reporting-interval INTERVAL-MS]
       (--record-size RECORD-SIZE | --payload-file PAYLOAD-FILE |
       --payload-monotonic)",
}];

/// What the tool is to do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub topic: String,
    pub count: u64,
    /// Records that do not count for the steady state.
    pub warmup: u64,
    /// Records per second; no limit if it is negative.
    pub throughput: f64,
    /// How long a transaction lasts, if there are any.
    pub transaction_ms: Option<i64>,
    pub interval: Nanos,
    pub print_metrics: bool,
}

type Read = (Plan, Settings, Result<Vec<Endpoint>, Exception>, Payloads);

/// The plan, the producer's settings, its brokers, and what it sends.
pub(super) fn read(spec: &CommandSpec, rng: &mut Rng, terminal: &mut Terminal<'_>) -> Result<Read, Wrong> {
    if spec.words.len() == 1 {
        return Err(Wrong::Usage(HELP.into()));
    }
    let arguments = arguments(spec)?;
    let mut plan = plan(&arguments)?;
    let size = integer::<i32>(&arguments, "--record-size", "Integer")?;
    if size.is_some_and(|size| size <= 0) {
        return Err(misuse("--record-size should be greater than zero.").into());
    }
    check_settings(&arguments)?;
    let duration = integer::<i64>(&arguments, "--transaction-duration-ms", "Long")?;
    if duration.is_some_and(|ms| ms <= 0) {
        return Err(misuse("--transaction-duration-ms should be greater than zero.").into());
    }
    let interval = integer::<i64>(&arguments, "--reporting-interval", "Long")?.unwrap_or(5000);
    if interval <= 0 {
        return Err(misuse("--reporting-interval should be greater than zero.").into());
    }
    plan.interval = Nanos(interval.unsigned_abs().saturating_mul(1_000_000));
    let payloads = payloads(spec, &arguments, size, terminal)?;
    let mut settings = settings(spec, &arguments, terminal)?;
    let id = arguments.value("--transactional-id").map(String::from);
    if duration.is_some() || id.is_some() || settings.contains_key("transactional.id") {
        let id = id.or_else(|| settings.get("transactional.id").cloned());
        let id = id.unwrap_or_else(|| format!("performance-producer-{}", random_uuid(rng)));
        settings.insert("transactional.id".into(), id);
        plan.transaction_ms = Some(duration.unwrap_or(DEFAULT_TRANSACTION_MS));
    }
    let own = arguments.value("--bootstrap-server").map(str::to_string);
    let Some(bootstrap) = own.or_else(|| settings.get("bootstrap.servers").cloned()) else {
        let class = "org.apache.kafka.common.config.ConfigException";
        let text = "Missing required configuration \"bootstrap.servers\" which has no default value.";
        return Err(Exception::new(class, text).into());
    };
    known_settings(ClientKind::Producer, &mut settings, &spec.config);
    Ok((plan, settings, bootstrap_servers(&bootstrap), payloads))
}

/// `Uuid.randomUuid`: none that begins like an option.
fn random_uuid(rng: &mut Rng) -> Uuid {
    loop {
        let bits = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        let id = Uuid::from_random(bits.to_be_bytes());
        if !id.to_text().starts_with('-') {
            return id;
        }
    }
}

fn misuse(text: &str) -> Unread {
    misused(PROGRAM, PARSERS, text)
}

/// Reads the words. Two payloads are told at once, what is missing at the end.
fn arguments(spec: &CommandSpec) -> Result<Arguments, Wrong> {
    let arguments = match arguments_of_tool(PROGRAM, PARSERS, &[], spec) {
        // Unlike the other tools, this one ends as if help were an error.
        Err(Unread::Help(_)) => return Err(Unread::Help(HELP.into()).into()),
        other => other?,
    };
    let payloads = || arguments.in_order(&PAYLOADS);
    if let [first, second, ..] = payloads()[..] {
        return Err(misuse(&format!("argument {second}: not allowed with argument {first}")).into());
    }
    for name in ["--throughput", "--num-records", "--topic"] {
        if !arguments.has(name) {
            return Err(misuse(&format!("argument {name} is required")).into());
        }
    }
    if payloads().is_empty() {
        let names = PAYLOADS.join(" ");
        return Err(misuse(&format!("one of the arguments {names} is required")).into());
    }
    Ok(arguments)
}

fn integer<T: core::str::FromStr>(
    arguments: &Arguments,
    name: &str,
    class: &str,
) -> Result<Option<T>, Unread> {
    let Some(text) = arguments.value(name) else { return Ok(None) };
    let wrong = |_| misuse(&not_a_number(name, text, class));
    text.parse().map(Some).map_err(wrong)
}

fn plan(arguments: &Arguments) -> Result<Plan, Wrong> {
    let throughput = integer::<f64>(arguments, "--throughput", "Double")?.unwrap_or(-1.0);
    let count = integer::<i64>(arguments, "--num-records", "Long")?.unwrap_or(0);
    let warmup = integer::<i64>(arguments, "--warmup-records", "Long")?.unwrap_or(0).max(0);
    if count <= 0 {
        return Err(misuse("--num-records should be greater than zero.").into());
    }
    if warmup >= count {
        let text = "The value for --warmup-records must be strictly fewer than the number of records in the test, \
                    --num-records.";
        return Err(misuse(text).into());
    }
    Ok(Plan {
        topic: arguments.value("--topic").unwrap_or_default().into(),
        count: count.unsigned_abs(),
        warmup: warmup.unsigned_abs(),
        throughput,
        transaction_ms: None,
        interval: Nanos::ZERO,
        print_metrics: arguments.has("--print-metrics"),
    })
}

/// Whether there are brokers or settings, and the older names do not stand beside the newer.
fn check_settings(arguments: &Arguments) -> Result<(), Unread> {
    let any = [
        "--bootstrap-server",
        "--command-property",
        "--producer-props",
        "--producer.config",
        "--command-config",
    ];
    if !any.iter().any(|name| arguments.has(name)) {
        return Err(misuse(
            "At least one of --bootstrap-server, --command-property, --producer-props, --producer.config or \
             --command-config must be specified.",
        ));
    }
    for (new, old) in [("--command-property", "--producer-props"), ("--command-config", "--producer.config")]
    {
        if arguments.has(new) && arguments.has(old) {
            return Err(misuse(&format!("{new} and {old} cannot be specified together.")));
        }
    }
    Ok(())
}

fn payloads(
    spec: &CommandSpec,
    arguments: &Arguments,
    size: Option<i32>,
    terminal: &mut Terminal<'_>,
) -> Result<Payloads, Exception> {
    let Some(path) = arguments.value("--payload-file") else {
        return Ok(size.map_or_else(Payloads::monotonic, |size| Payloads::of_size(size as usize)));
    };
    // A command is run in the root of its host.
    terminal
        .line(format!("Reading payloads from: /{}", path.trim_start_matches("./").trim_start_matches('/')));
    let text = spec.text_file(path).ok().filter(|text| !text.is_empty());
    let text =
        text.ok_or_else(|| Exception::illegal_argument("File does not exist or empty file provided."))?;
    let delimiter = arguments.value("--payload-delimiter").filter(|delimiter| *delimiter != "\\n");
    let payloads = scan(&text, delimiter.unwrap_or("\n"))?;
    terminal.line(format!("Number of records read: {}", payloads.len()));
    match payloads.is_empty() {
        false => Ok(Payloads::of_file(payloads)),
        true => Err(Exception::illegal_argument(
            "No payload file, record size or payload-monotonic option provided.",
        )),
    }
}

fn settings(
    spec: &CommandSpec,
    arguments: &Arguments,
    terminal: &mut Terminal<'_>,
) -> Result<Settings, Exception> {
    let (mut properties, mut file) = ("--command-property", "--command-config");
    let renamed = [(&mut properties, "--producer-props"), (&mut file, "--producer.config")];
    for (name, old) in renamed {
        if arguments.has(old) {
            terminal.line(format!(
                "Option {old} has been deprecated and will be removed in a future version. Use {name} instead."
            ));
            *name = old;
        }
    }
    let mut settings = spec.settings(arguments.value(file))?;
    for property in arguments.values(properties) {
        // As Java's `split` takes it apart: what is empty at the end does not count.
        match property.trim_end_matches('=').split('=').collect::<Vec<_>>()[..] {
            [name, value] => drop(settings.insert(name.into(), value.into())),
            _ => return Err(Exception::illegal_argument(format!("Invalid property: {property}"))),
        }
    }
    Ok(settings)
}
