//! `kafka-console-consumer` (`ConsoleConsumer.java`): records of a topic as lines on standard output.
//!
//! It is a member of a group: the one of `--group`, or one that it makes for itself, `console-consumer-N`, and in which
//! it commits nothing. With `--partition` it reads that partition and is in no group.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wire::Codecs;
use wire::drive::{Instant, Nanos, Now};

use super::CommandSpec;
use super::console_producer::key_values;
use super::formatter::Formatter;
use super::options::{Help, Options};
use super::running::{self, not_begun};
use super::session::{
    Console, Exception, Ran, Stop, Terminal, bootstrap_servers, failed_construct, known_settings,
};
use crate::Rng;
use crate::backoff::{below, fork};
use crate::config::{ClientKind, ConsumerConfig, Settings};
use crate::consumer::{Consumer, StartAt, Subscription};
use crate::event::TopicPartition;
use crate::io::{Input, Outputs};
use crate::net::sooner;

const ABOUT: &str = "This tool helps to read data from Kafka topics and outputs it to standard output.";

const LOGGER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

const DEFAULT_FORMATTER: &str = "org.apache.kafka.tools.consumer.DefaultMessageFormatter";

const OPTIONS: Help = Help(include_str!("help/kafka-console-consumer.txt"));

/// Options that cannot go together: the older, and the newer.
const RENAMED: [(&str, &str); 2] =
    [("consumer-property", "command-property"), ("consumer.config", "command-config")];

/// The tool at work.
#[derive(Clone)]
pub(super) struct ConsoleConsumer {
    consumer: Consumer,
    formatter: Formatter,
    skip_errors: bool,
    systest_events: bool,
    max_messages: Option<u64>,
    timeout: Option<Nanos>,
    waiting_since: Instant,
    count: u64,
    /// It closes, to exit with this.
    closing: Option<i32>,
}

/// An exception of the options ends the JVM, one of the consumer is logged.
fn tell(exception: &Exception, terminal: &mut Terminal<'_>) {
    if exception.class.starts_with("org.apache.kafka.common") {
        terminal.log_error("Unknown error when running consumer: ", LOGGER, Some(exception));
    } else {
        let text = format!("Exception in thread \"main\" {}", exception.stack_trace());
        terminal.print_both(String::new(), text);
    }
}

impl running::Work for ConsoleConsumer {
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<ConsoleConsumer, i32> {
        let begun = ConsoleConsumer::set_up(spec, terminal, rng);
        begun.map_err(|stop| not_begun(stop, |exception| tell(exception, terminal)))
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = self.timeout_at().filter(|_| self.closing.is_none());
        sooner(timeout, self.consumer.next_deadline())
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        self.consumer.handle(now, input, out);
        if matches!(input, Input::Stop) && self.closing.is_none() {
            self.close(super::TERMINATED, now, out);
        }
        loop {
            self.print_records(now, codecs, out);
            self.consumer.drive(now, out);
            if self.closing.is_some() || !self.consumer.has_records() {
                break;
            }
        }
        if self.closing.is_none() && self.timeout_at().is_some_and(|at| at <= now.mono) {
            let timeout = Exception {
                message: None,
                ..Exception::new("org.apache.kafka.common.errors.TimeoutException", "")
            };
            self.give_up(now, &timeout, out);
        }
    }

    fn ended(&self) -> Option<i32> {
        self.closing.filter(|_| self.consumer.is_closed())
    }

    fn end(&mut self, now: Now, _: i32, out: &mut Outputs) {
        self.consumer.finish_close(out);
        let mut terminal = Terminal { now, out };
        terminal.complain(format!("Processed a total of {} messages", self.count));
        if self.systest_events {
            terminal.line("shutdown_complete");
        }
    }
}

impl ConsoleConsumer {
    fn set_up(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Ran<ConsoleConsumer> {
        let words = spec.words.get(1..).unwrap_or_default();
        let options = match Options::parse(OPTIONS, words) {
            Ok(options) => options,
            Err(error) => return Err(terminal.usage(OPTIONS, error.message_text())),
        };
        terminal.help_or_version(&options, OPTIONS, ABOUT)?;
        check_options(&options, terminal)?;
        let mut settings = consumer_settings(spec, &options, terminal)?;
        let partition = options.number::<i32>("partition")?;
        set_group(&options, &mut settings, terminal, rng)?;
        let start = start_at(&options, terminal)?;
        let timeout = options.number::<i64>("timeout-ms")?.and_then(|ms| u64::try_from(ms).ok());
        let formatter = formatter(spec, &options, terminal)?;
        known_settings(ClientKind::Consumer, &mut settings, &spec.config);
        let config = ConsumerConfig::parse(&settings).map_err(Exception::from)?;
        let bootstrap = bootstrap_servers(options.required("bootstrap-server")?)
            .map_err(|cause| failed_construct("Failed to construct kafka consumer", cause))?;
        let mut consumer = Consumer::new(config, "console-consumer", bootstrap, fork(rng));
        let topic: Arc<str> = options.required("topic")?.into();
        match (partition, options.value("include")?) {
            (Some(partition), _) => {
                consumer.assign(&TopicPartition { topic, partition }, start);
            }
            (None, Some(include)) => {
                let subscribed = consumer.subscribe(Subscription::Pattern(include.into()));
                if subscribed.is_err() {
                    let thrown = super::java::pattern_syntax(include);
                    terminal.log_error("Unknown error when running consumer: ", LOGGER, Some(&thrown));
                    return Err(Stop::Exit(1));
                }
            }
            (None, None) => consumer.subscribe(Subscription::Topics(vec![topic]))?,
        }
        let max = options.number::<i32>("max-messages")?.unwrap_or(-1);
        Ok(ConsoleConsumer {
            consumer,
            formatter,
            skip_errors: options.has("skip-message-on-error"),
            systest_events: options.has("enable-systest-events"),
            // Any other negative number lets the loop end at once.
            max_messages: (max != -1).then(|| u64::try_from(max).unwrap_or(0)),
            timeout: timeout.map(|ms| Nanos(ms.saturating_mul(1_000_000))),
            waiting_since: terminal.now.mono,
            count: 0,
            closing: None,
        })
    }

    /// When it has waited for longer than the timeout, which Java sees at the next millisecond.
    fn timeout_at(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.waiting_since + timeout + Nanos::from_millis(1))
    }

    fn is_done(&self) -> bool {
        self.max_messages.is_some_and(|max| self.count >= max)
    }

    fn print_records(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        while self.closing.is_none() {
            if self.is_done() {
                return self.close(0, now, out);
            }
            if !self.consumer.has_records() {
                return;
            }
            let mut text = Vec::new();
            let mut failure = None;
            let left = self.max_messages.map_or(u64::MAX, |max| max - self.count);
            let (formatter, skips) = (&self.formatter, self.skip_errors);
            let mut taken = 0;
            let mut complaints = Vec::new();
            let mut untouched: BTreeMap<TopicPartition, i64> = BTreeMap::new();
            self.consumer.begin_poll(now, out);
            let polled = self.consumer.poll(codecs, out, &mut |partition, record| {
                if taken == left || failure.is_some() {
                    untouched.entry(partition.clone()).or_insert(record.offset);
                    return;
                }
                taken += 1;
                match formatter.write(partition, record, &mut text) {
                    Ok(()) => {}
                    Err(error) if skips => complaints.push(error),
                    Err(error) => failure = Some(error),
                }
            });
            // What was not printed is not committed either.
            for (partition, offset) in untouched {
                self.consumer.seek(&partition, offset);
            }
            self.count += taken;
            if taken > 0 {
                self.waiting_since = now.mono;
            }
            let mut terminal = Terminal { now, out };
            terminal.print_both(String::from_utf8_lossy(&text).into_owned(), String::new());
            for error in complaints {
                let text = "Error processing message, skipping this message: ";
                terminal.log_error(text, LOGGER, Some(&error));
            }
            if let Some(error) = failure {
                terminal.log_error("Unknown error when running consumer: ", LOGGER, Some(&error));
                return self.close(1, now, out);
            }
            if let Err(error) = polled {
                return self.give_up(now, &error.into(), out);
            }
        }
    }

    /// An exception of `poll` ends the consumer, and the tool says nothing of it by its exit status.
    fn give_up(&mut self, now: Now, thrown: &Exception, out: &mut Outputs) {
        let text = "Error processing message, terminating consumer process: ";
        Terminal { now, out }.log_error(text, LOGGER, Some(thrown));
        self.close(0, now, out);
    }

    fn close(&mut self, code: i32, now: Now, out: &mut Outputs) {
        self.closing = Some(code);
        self.consumer.begin_close(now, out);
    }
}

// --- options

fn check_options(options: &Options, terminal: &mut Terminal<'_>) -> Ran {
    if options.has("topic") == options.has("include") {
        let text = "Exactly one of the following arguments is required: [topic], [include]";
        return Err(terminal.usage(OPTIONS, text));
    }
    let why = match (options.has("partition"), options.has("offset")) {
        (true, _) if !options.has("topic") => Some("The topic is required when partition is specified."),
        (true, true) if options.has("from-beginning") => {
            Some("Options from-beginning and offset cannot be specified together.")
        }
        (false, true) => Some("The partition is required when offset is specified."),
        _ => None,
    };
    if let Some(why) = why {
        return Err(terminal.usage(OPTIONS, why));
    }
    terminal.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    for (old, new) in RENAMED {
        if options.has(old) && options.has(new) {
            let text = format!("Options --{old} and --{new} cannot be specified together.");
            return Err(terminal.usage(OPTIONS, &text));
        }
    }
    Ok(())
}

fn renamed(options: &Options, terminal: &mut Terminal<'_>, old: &str, new: &str) {
    if options.has(old) {
        terminal.line(format!(
            "Option --{old} is deprecated and will be removed in a future version. Use --{new} instead."
        ));
    }
}

fn consumer_settings(spec: &CommandSpec, options: &Options, terminal: &mut Terminal<'_>) -> Ran<Settings> {
    for (old, new) in RENAMED {
        renamed(options, terminal, old, new);
    }
    let file = options.value("consumer.config")?.or(options.value("command-config")?);
    let mut settings = spec.settings(file)?;
    let properties = options.values("consumer-property").chain(options.values("command-property"));
    settings.extend(key_values(properties));
    let from_beginning = options.has("from-beginning");
    match settings.get("auto.offset.reset").filter(|reset| *reset != "earliest") {
        Some(reset) if from_beginning => {
            terminal.complain(format!(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset={reset}', please remove one \
                 option"
            ));
            return Err(Stop::Exit(1));
        }
        _ => {}
    }
    let reset = if from_beginning { "earliest" } else { "latest" };
    settings.entry("auto.offset.reset".into()).or_insert_with(|| reset.into());
    if options.has("isolation-level") {
        settings.insert("isolation.level".into(), options.required("isolation-level")?.into());
    }
    Ok(settings)
}

/// Sets the group that it is to be a member of.
fn set_group(options: &Options, settings: &mut Settings, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Ran {
    let groups: BTreeSet<&str> =
        options.values("group").chain(settings.get("group.id").map(String::as_str)).collect();
    if groups.len() > 1 {
        let groups: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
        let text = format!(
            "The group ids provided in different places (directly using '--group', via '--consumer-property', or via \
             '--consumer.config') do not match. Detected group ids: {}",
            groups.join(", ")
        );
        return Err(terminal.usage(OPTIONS, &text));
    }
    if !groups.is_empty() && options.has("partition") {
        return Err(terminal.usage(OPTIONS, "Options group and partition cannot be specified together."));
    }
    let group = groups.into_iter().next().map(String::from);
    match group {
        Some(group) => {
            settings.insert("group.id".into(), group);
        }
        // A partition is assigned, and no coordinator is asked for anything.
        None if options.has("partition") => {}
        None => {
            settings.insert("group.id".into(), format!("console-consumer-{}", below(rng, 100_000)));
            // Nobody will use this group again.
            settings.entry("enable.auto.commit".into()).or_insert_with(|| "false".into());
        }
    }
    Ok(())
}

fn start_at(options: &Options, terminal: &mut Terminal<'_>) -> Ran<StartAt> {
    let Some(text) = options.value("offset")? else {
        return Ok(if options.has("from-beginning") { StartAt::Beginning } else { StartAt::End });
    };
    match (text.to_ascii_lowercase().as_str(), text.parse::<i64>()) {
        ("earliest", _) => Ok(StartAt::Beginning),
        ("latest", _) => Ok(StartAt::End),
        (_, Ok(offset)) if offset >= 0 => Ok(StartAt::Offset(offset)),
        _ => {
            let text = format!(
                "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a \
                 non-negative long."
            );
            Err(terminal.usage(OPTIONS, &text))
        }
    }
}

fn formatter(spec: &CommandSpec, options: &Options, terminal: &mut Terminal<'_>) -> Ran<Formatter> {
    if options.has("property") && options.has("formatter-property") {
        let text = "Options --property and --formatter-property cannot be specified together.";
        return Err(terminal.usage(OPTIONS, text));
    }
    renamed(options, terminal, "property", "formatter-property");
    let mut properties = spec.settings(options.value("formatter-config")?)?;
    for (option, name) in
        [("key-deserializer", "key.deserializer"), ("value-deserializer", "value.deserializer")]
    {
        if let Some(class) = options.value(option)?.filter(|class| !class.is_empty()) {
            properties.insert(name.into(), class.into());
        }
    }
    properties.extend(key_values(options.values("property").chain(options.values("formatter-property"))));
    let class = options.value("formatter")?.unwrap_or(DEFAULT_FORMATTER);
    match Formatter::new(class, &properties) {
        Ok((formatter, unknown)) => {
            for class in unknown {
                let text = format!("Unable to instantiate a deserializer from {class}");
                let thrown = Exception::new("java.lang.ClassNotFoundException", class.to_string());
                terminal.log_error(&text, DEFAULT_FORMATTER, Some(&thrown));
            }
            Ok(formatter)
        }
        Err(error) => Err(terminal.usage(OPTIONS, error.message_text())),
    }
}
