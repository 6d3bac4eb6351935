//! `kafka-consumer-perf-test` (`ConsumerPerformance.java`): reads so many records as a member of a group, and measures.

use alloc::format;
use alloc::string::{String, ToString};

use wire::Codecs;
use wire::drive::{Instant, Nanos, Now};

use super::CommandSpec;
use super::console_producer::key_values;
use super::java::{self, log_time};
use super::metrics::Meter;
use super::options::{Help, Options};
use super::running::{self, not_begun};
use super::session::{
    Console, Exception, Ran, Terminal, bootstrap_servers, failed_construct, known_settings,
};
use crate::Rng;
use crate::backoff::{below, fork};
use crate::config::{ClientKind, ConsumerConfig, Settings};
use crate::consumer::{Consumer, Subscription};
use crate::io::{Input, Outputs};
use crate::net::sooner;

const ABOUT: &str = "This tool is used to verify the consumer performance.";

const OPTIONS: Help = Help(include_str!("help/kafka-consumer-perf-test.txt"));

/// The columns behind the times.
const HEADER: &str = "data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, \
                      fetch.MB.sec, fetch.nMsg.sec";

const CLIENT_ID: &str = "perf-consumer-client";
const METRICS: &str = "consumer-fetch-manager-metrics";
const RECORDS: &str = "records-consumed";
const BYTES: &str = "bytes-consumed";

/// So many records and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    records: u64,
    bytes: u64,
}

impl Amount {
    fn since(self, before: Amount) -> Amount {
        Amount { records: self.records - before.records, bytes: self.bytes - before.bytes }
    }

    fn megabytes(self) -> f64 {
        self.bytes as f64 / (1024.0 * 1024.0)
    }
}

#[derive(Clone)]
pub(super) struct ConsumerPerf {
    consumer: Consumer,
    wanted: i64,
    timeout_ms: i64,
    format: DateFormat,
    detailed: bool,
    interval_ms: i64,
    start: Now,
    /// Since when it has no partitions, if it has none.
    joining_since: Option<i64>,
    /// How long it was without partitions, in all and since the last report.
    joining_ms: i64,
    joining_ms_in_round: i64,
    last_record: Now,
    read: Amount,
    /// The wall clock of the last report, and what had been read.
    reported: (i64, Amount),
    /// If metrics are to be printed.
    meter: Option<Meter>,
    /// When it has read all, or was told to stop.
    ended: Option<i32>,
}

impl running::Work for ConsumerPerf {
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<ConsumerPerf, i32> {
        let begun = ConsumerPerf::set_up(spec, terminal, rng);
        begun.map_err(|stop| not_begun(stop, |exception| terminal.print_exception(exception)))
    }

    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs) {
        let before = out.items.len();
        if let Some(meter) = &mut self.meter {
            meter.input(now, input);
        }
        self.consumer.handle(now, input, out);
        if matches!(input, Input::Stop) {
            self.close(now, super::TERMINATED, out);
        }
        loop {
            if self.ended.is_none() {
                self.poll(now, codecs, out);
            }
            self.consumer.drive(now, out);
            if self.ended.is_some() || !self.consumer.has_records() {
                break;
            }
        }
        if let Some(meter) = &mut self.meter {
            meter.outputs(now, &out.items[before..]);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = self.ended.is_none().then(|| self.late_at());
        sooner(limit, self.consumer.next_deadline())
    }

    fn ended(&self) -> Option<i32> {
        self.ended.filter(|_| self.consumer.is_closed())
    }

    fn end(&mut self, now: Now, code: i32, out: &mut Outputs) {
        if let Some(meter) = self.meter.as_ref().filter(|_| code == 0) {
            meter.print(now, &mut Terminal { now, out });
        }
        self.consumer.finish_close(out);
    }
}

impl ConsumerPerf {
    fn set_up(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Ran<ConsumerPerf> {
        let words = spec.words.get(1..).unwrap_or_default();
        let options = match Options::parse(OPTIONS, words) {
            Ok(options) => options,
            Err(error) => return Err(terminal.usage(OPTIONS, error.message_text())),
        };
        terminal.help_or_version(&options, OPTIONS, ABOUT)?;
        check_options(&options, terminal)?;
        if !options.has("hide-header") {
            let time =
                if options.has("show-detailed-stats") { "time, threadId" } else { "start.time, end.time" };
            terminal.line(format!("{time}, {HEADER}"));
        }
        let mut settings = settings(spec, &options, rng)?;
        known_settings(ClientKind::Consumer, &mut settings, &spec.config);
        let now = terminal.now;
        let client_id = settings.get("client.id").map_or(CLIENT_ID, String::as_str);
        let meter =
            || Meter::new("consumer-metrics", client_id, &[(METRICS, RECORDS), (METRICS, BYTES)], now);
        let meter = options.has("print-metrics").then(meter);
        let config = ConsumerConfig::parse(&settings).map_err(Exception::from)?;
        let failed = |cause| failed_construct("Failed to construct kafka consumer", cause);
        let endpoints = bootstrap_servers(options.required("bootstrap-server")?).map_err(failed)?;
        let mut consumer = Consumer::new(config, CLIENT_ID, endpoints, fork(rng));
        let wanted = match options.has("messages") {
            true => options.number("messages")?,
            false => options.number("num-records")?,
        };
        let timeout_ms = options.number("timeout")?.unwrap_or(10_000);
        let interval_ms = options.number::<i64>("reporting-interval")?.unwrap_or(5_000);
        if interval_ms <= 0 {
            return Err(Exception::illegal_argument("Reporting interval must be greater than 0.").into());
        }
        let format = DateFormat::new(options.value("date-format")?.unwrap_or("yyyy-MM-dd HH:mm:ss:SSS"))?;
        let subscription = subscription(&options)?;
        let pattern = matches!(subscription, Subscription::Pattern(_));
        match consumer.subscribe(subscription) {
            Err(_) if pattern => return Err(java::pattern_syntax(options.required("include")?).into()),
            subscribed => subscribed?,
        }
        Ok(ConsumerPerf {
            consumer,
            wanted: wanted.unwrap_or(0),
            timeout_ms,
            format,
            detailed: options.has("show-detailed-stats"),
            interval_ms,
            start: now,
            joining_since: Some(now.wall_ms),
            joining_ms: 0,
            joining_ms_in_round: 0,
            last_record: now,
            read: Amount::default(),
            reported: (now.wall_ms, Amount::default()),
            meter,
            ended: None,
        })
    }

    /// When it has waited for too long.
    fn late_at(&self) -> Instant {
        self.last_record.mono + Nanos::from_millis(u64::try_from(self.timeout_ms).unwrap_or(0))
    }

    /// What the tool's listener of rebalances measures.
    fn note_partitions(&mut self, now: Now) {
        match (self.consumer.assignment().next().is_some(), self.joining_since) {
            (true, Some(since)) => {
                self.joining_ms += now.wall_ms - since;
                self.joining_ms_in_round += now.wall_ms - since;
                self.joining_since = None;
            }
            (false, None) => self.joining_since = Some(now.wall_ms),
            _ => {}
        }
    }

    fn poll(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        self.note_partitions(now);
        // It is in `poll` for good: what is returned is counted at once.
        self.consumer.begin_poll(now, out);
        let mut read = self.read;
        let mut due = now.wall_ms - self.reported.0 >= self.interval_ms;
        let mut report = None;
        let polled = self.consumer.poll(codecs, out, &mut |_, record| {
            read.records += 1;
            read.bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
            // Java's tool looks at its clock at every record, but asks it only once a poll.
            if core::mem::take(&mut due) {
                report = Some(read);
            }
        });
        if let Err(error) = polled {
            Terminal { now, out }.print_exception(&error.into());
            return self.close(now, 1, out);
        }
        if let Some(read) = report {
            self.progress(now, read, out);
        }
        let more = read.since(self.read);
        if more.records > 0 {
            self.last_record = now;
            self.read = read;
            if let Some(meter) = &mut self.meter {
                meter.count(now, METRICS, RECORDS, more.records);
                meter.count(now, METRICS, BYTES, more.bytes);
            }
        }
        let all = i64::try_from(self.read.records).unwrap_or(i64::MAX) >= self.wanted;
        let late = !all && (self.timeout_ms < 0 || self.late_at() <= now.mono);
        if late {
            let text = format!(
                "WARNING: Exiting before consuming the expected number of records: timeout ({} ms) exceeded. You can \
                 use the --timeout option to increase the timeout.",
                self.timeout_ms
            );
            Terminal { now, out }.line(text);
        }
        if late || all {
            self.report(now, out);
            self.close(now, 0, out);
        }
    }

    fn close(&mut self, now: Now, code: i32, out: &mut Outputs) {
        if self.ended.is_none() {
            self.ended = Some(code);
            self.consumer.begin_close(now, out);
        }
    }

    /// A row of `--show-detailed-stats`, or the beginning of another interval without one.
    fn progress(&mut self, now: Now, read: Amount, out: &mut Outputs) {
        let joining_ms = core::mem::take(&mut self.joining_ms_in_round);
        let (since, before) = core::mem::replace(&mut self.reported, (now.wall_ms, read));
        if !self.detailed {
            return;
        }
        let (elapsed_ms, more) = (now.wall_ms - since, read.since(before));
        let fetch_ms = elapsed_ms - joining_ms;
        let fetched = |amount: f64| if fetch_ms <= 0 { 0.0 } else { 1000.0 * amount / fetch_ms as f64 };
        let (megabytes, records) = (more.megabytes(), more.records as f64);
        Terminal { now, out }.line(format!(
            "{}, 0, {:.4}, {:.4}, {}, {:.4}, {joining_ms}, {fetch_ms}, {:.4}, {:.4}",
            self.format.text(now.wall_ms),
            read.megabytes(),
            1000.0 * megabytes / elapsed_ms as f64,
            read.records,
            1000.0 * records / elapsed_ms as f64,
            fetched(megabytes),
            fetched(records),
        ));
    }

    fn report(&self, now: Now, out: &mut Outputs) {
        if self.detailed {
            return;
        }
        let elapsed_ms = now.wall_ms - self.start.wall_ms;
        let fetch_ms = elapsed_ms - self.joining_ms;
        let per_second = |amount: f64, ms: i64| java_decimal(amount / (ms as f64 / 1000.0));
        let (megabytes, records) = (self.read.megabytes(), self.read.records as f64);
        Terminal { now, out }.line(format!(
            "{}, {}, {megabytes:.4}, {}, {}, {}, {}, {fetch_ms}, {}, {}",
            self.format.text(self.start.wall_ms),
            self.format.text(now.wall_ms),
            per_second(megabytes, elapsed_ms),
            self.read.records,
            per_second(records, elapsed_ms),
            self.joining_ms,
            per_second(megabytes, fetch_ms),
            per_second(records, fetch_ms)
        ));
    }
}

/// `%.4f`.
fn java_decimal(value: f64) -> String {
    match value.is_infinite() {
        true => "Infinity".into(),
        false => format!("{value:.4}"),
    }
}

// --- options

fn check_options(options: &Options, terminal: &mut Terminal<'_>) -> Ran {
    terminal.check(OPTIONS, options.missing(&["bootstrap-server"]))?;
    for [a, b] in [["topic", "include"], ["messages", "num-records"]] {
        if options.has(a) == options.has(b) {
            let text = format!("Exactly one of the following arguments is required: [{a}], [{b}]");
            return Err(terminal.usage(OPTIONS, &text));
        }
    }
    terminal.check(OPTIONS, options.conflict("consumer.config", &["command-config"]))?;
    for (old, new) in [("messages", "num-records"), ("consumer.config", "command-config")] {
        if options.has(old) {
            terminal.line(format!("Warning: --{old} is deprecated. Use --{new} instead."));
        }
    }
    Ok(())
}

fn settings(spec: &CommandSpec, options: &Options, rng: &mut Rng) -> Ran<Settings> {
    let mut settings =
        spec.settings(options.value("consumer.config")?.or(options.value("command-config")?))?;
    settings.extend(key_values(options.values("command-property")));
    let group = match options.value("group")? {
        Some(group) => group.to_string(),
        None => format!("perf-consumer-{}", below(rng, 100_000)),
    };
    let reset = if options.has("from-latest") { "latest" } else { "earliest" };
    let buffer = options.number::<i32>("socket-buffer-size")?.unwrap_or(2_097_152);
    if buffer < -1 {
        // No socket has buffers here, so nobody else looks at it.
        let class = "org.apache.kafka.common.config.ConfigException";
        let text = format!(
            "Invalid value {buffer} for configuration receive.buffer.bytes: Value must be at least -1"
        );
        return Err(Exception::new(class, text).into());
    }
    let size = options.number::<i32>("fetch-size")?.unwrap_or(1_048_576);
    let own = [
        ("group.id", group),
        ("receive.buffer.bytes", buffer.to_string()),
        ("max.partition.fetch.bytes", size.to_string()),
        ("auto.offset.reset", reset.into()),
        ("check.crcs", "false".into()),
    ];
    settings.extend(own.map(|(name, value)| (name.to_string(), value)));
    Ok(settings)
}

fn subscription(options: &Options) -> Result<Subscription, Exception> {
    let empty = |text: &str| Err(Exception::illegal_argument(text));
    match (options.value("topic")?, options.value("include")?) {
        (Some(""), _) => empty("Topic collection to subscribe to cannot contain null or empty topic"),
        (Some(topic), _) => Ok(Subscription::Topics([topic.into()].into())),
        (None, Some("")) => empty("Topic pattern to subscribe to cannot be empty"),
        (None, include) => Ok(Subscription::Pattern(include.unwrap_or_default().into())),
    }
}

/// A `java.text.SimpleDateFormat` in UTC: the letters that have to do with eras, weeks and days of the year are not
/// known.
#[derive(Clone, Debug)]
struct DateFormat {
    pattern: String,
}

const KNOWN_LETTERS: &str = "yMdHhkKmsSaEzZX";

impl DateFormat {
    fn new(pattern: &str) -> Result<DateFormat, Exception> {
        let mut quoted = false;
        for letter in pattern.chars() {
            quoted ^= letter == '\'';
            if !quoted && letter.is_ascii_alphabetic() && !KNOWN_LETTERS.contains(letter) {
                return Err(Exception::illegal_argument(format!("Illegal pattern character '{letter}'")));
            }
        }
        Ok(DateFormat { pattern: pattern.into() })
    }

    fn text(&self, wall_ms: i64) -> String {
        let mut text = String::new();
        let (mut rest, mut quoted) = (self.pattern.as_str(), false);
        while let Some(letter) = rest.chars().next() {
            // Two quotes are one, wherever they stand.
            if let Some(behind) = rest.strip_prefix("''") {
                text.push('\'');
                rest = behind;
                continue;
            }
            if letter == '\'' || quoted {
                quoted ^= letter == '\'';
                text.extend(Some(letter).filter(|letter| *letter != '\''));
                rest = &rest[letter.len_utf8()..];
                continue;
            }
            let same = rest.find(|other| other != letter).unwrap_or(rest.len());
            match letter.is_ascii_alphabetic() {
                true => text.push_str(&field(letter, same, wall_ms)),
                false => text.push_str(&rest[..same]),
            }
            rest = &rest[same..];
        }
        text
    }
}

/// So many of the same letter.
fn field(letter: char, count: usize, wall_ms: i64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    // `2026-01-01 00:00:00,000`
    let time = log_time(wall_ms);
    let part =
        |from: usize, to: usize| time.get(from..to).and_then(|text| text.parse().ok()).unwrap_or(0_usize);
    let name = |name: &str| if count > 3 { name.to_string() } else { name[..3].to_string() };
    let hour = part(11, 13);
    let number = match letter {
        'y' if count == 2 => part(2, 4),
        'y' => part(0, 4),
        'M' if count > 2 => return name(MONTHS[part(5, 7).clamp(1, 12) - 1]),
        'M' => part(5, 7),
        'd' => part(8, 10),
        'H' => hour,
        'k' => (hour + 23) % 24 + 1,
        'K' => hour % 12,
        'h' => (hour + 11) % 12 + 1,
        'm' => part(14, 16),
        's' => part(17, 19),
        'S' => part(20, 23),
        'a' => return if hour < 12 { "AM".into() } else { "PM".into() },
        'E' => return name(DAYS[wall_ms.div_euclid(86_400_000).rem_euclid(7) as usize]),
        'z' => return if count > 3 { "Coordinated Universal Time".into() } else { "UTC".into() },
        'Z' => return "+0000".into(),
        _ => return "Z".into(),
    };
    format!("{number:0count$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_java_writes_them() {
        let cases = [
            ("yyyy-MM-dd HH:mm:ss:SSS", "2026-11-21 08:40:46:253"),
            ("yyyy", "2026"),
            ("yy/M/d EEE H:m:s.S", "26/11/21 Sat 8:40:46.253"),
            ("h 'o''clock' a, MMMM EEEE z Z X", "8 o'clock AM, November Saturday UTC +0000 Z"),
        ];
        for (pattern, text) in cases {
            assert_eq!(DateFormat::new(pattern).unwrap().text(1_795_250_446_253), text, "{pattern}");
        }
        let error = DateFormat::new("bogus").unwrap_err();
        assert_eq!(error.message_text(), "Illegal pattern character 'b'");
    }
}
