//! The `kafka-*` commands (`org.apache.kafka.tools`, `kafka.admin`): the options, the output, the texts of errors and
//! the exit codes of Kafka 4.3's tools.
//!
//! A command is a client process: it is started with its words and the files beside it, reads its standard input if
//! it is a console producer, prints, and ends with [`crate::Output::Exit`]. Where Java prints the frames of a stack
//! trace, nothing is printed: there are none.

mod api_versions;
mod arguments;
mod cluster;
mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod consumer_perf;
mod delete_records;
mod dump_log_tool;
mod e2e_latency;
mod features;
mod formatter;
mod get_offsets;
mod groups;
mod java;
mod json;
mod leader_election;
mod line_reader;
mod load;
mod log_dirs;
mod metadata_quorum;
mod metrics;
mod options;
mod producer_perf;
mod reassign;
mod replica_verification;
mod running;
mod session;
#[cfg(test)]
mod tests;
mod topic_filter;
mod topics;
mod transactions;
mod verifiable_consumer;

pub mod dump_log;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::Codecs;
use wire::drive::{Instant, Now};

use crate::Rng;
use crate::config::Settings;
use crate::io::{Input, Output, Outputs};
use console_consumer::ConsoleConsumer;
use console_producer::ConsoleProducer;
use consumer_perf::ConsumerPerf;
use e2e_latency::EndToEndLatency;
use load::Load;
use producer_perf::ProducerPerf;
use replica_verification::ReplicaVerification;
use running::Running;
use session::{Calls, Exception, Tool};
use verifiable_consumer::VerifiableConsumer;

/// What `--version` says.
const VERSION: &str = "4.3.1";

/// What a shell does with SIGTERM: 128 + 15.
const TERMINATED: i32 = 143;

/// A command line, and what lies beside it.
#[derive(Clone, Debug, Default)]
pub struct CommandSpec {
    /// The tool's name and its arguments.
    pub words: Vec<String>,
    /// The files that the command may read, by the path that its arguments give.
    pub files: BTreeMap<String, Bytes>,
    /// Settings of its clients, where the command line does not give them.
    pub config: Settings,
}

impl CommandSpec {
    /// The text of a file, or what Java throws if there is none.
    fn text_file(&self, path: &str) -> Result<String, Exception> {
        let file = self.files.get(path).or_else(|| self.files.get(path.trim_start_matches("./")));
        match file {
            Some(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            None => Err(Exception::new("java.nio.file.NoSuchFileException", path)),
        }
    }

    /// The settings of a properties file, if one is named.
    fn settings(&self, path: Option<&str>) -> Result<Settings, Exception> {
        path.map_or(Ok(Settings::new()), |path| Ok(java::properties(&self.text_file(path)?)))
    }
}

/// The tools that there are, by name.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}

const TOOLS: &[(&str, Kind)] = &[
    ("kafka-topics", Kind::Calls(topics::run)),
    ("kafka-console-producer", Kind::Producer),
    ("kafka-console-consumer", Kind::Consumer),
    ("kafka-leader-election", Kind::Calls(leader_election::run)),
    ("kafka-metadata-quorum", Kind::Calls(metadata_quorum::run)),
    ("kafka-get-offsets", Kind::Calls(get_offsets::run)),
    ("kafka-consumer-groups", Kind::Calls(consumer_groups::run)),
    ("kafka-groups", Kind::Calls(groups::run)),
    ("kafka-configs", Kind::Calls(configs::run)),
    ("kafka-reassign-partitions", Kind::Calls(reassign::run)),
    ("kafka-delete-records", Kind::Calls(delete_records::run)),
    ("kafka-log-dirs", Kind::Calls(log_dirs::run)),
    ("kafka-features", Kind::Calls(features::run)),
    ("kafka-broker-api-versions", Kind::Calls(api_versions::run)),
    ("kafka-cluster", Kind::Calls(cluster::run)),
    ("kafka-producer-perf-test", Kind::ProducerPerf),
    ("kafka-consumer-perf-test", Kind::ConsumerPerf),
    ("kafka-e2e-latency", Kind::EndToEndLatency),
    ("kafka-verifiable-producer", Kind::Load),
    ("kafka-verifiable-consumer", Kind::VerifiableConsumer),
    ("kafka-replica-verification", Kind::ReplicaVerification),
    ("kafka-transactions", Kind::Calls(transactions::run)),
    ("kafka-dump-log", Kind::Calls(dump_log_tool::run)),
];

#[derive(Clone, Copy)]
enum Kind {
    Calls(Tool),
    Producer,
    Consumer,
    Load,
    ProducerPerf,
    ConsumerPerf,
    EndToEndLatency,
    VerifiableConsumer,
    ReplicaVerification,
}

/// A `kafka-*` command as a process.
#[derive(Clone)]
pub struct CommandProcess {
    spec: CommandSpec,
    state: State,
}

#[derive(Clone)]
enum State {
    Calls(Box<Calls>),
    Producer(Running<ConsoleProducer>),
    Consumer(Running<ConsoleConsumer>),
    Load(Running<Load>),
    ProducerPerf(Running<ProducerPerf>),
    ConsumerPerf(Running<ConsumerPerf>),
    EndToEndLatency(Running<EndToEndLatency>),
    VerifiableConsumer(Running<VerifiableConsumer>),
    ReplicaVerification(Running<ReplicaVerification>),
    /// There is no such tool.
    Unknown,
    Ended,
}

impl CommandProcess {
    /// A command that waits for [`Input::Start`].
    pub fn new(spec: CommandSpec, rng: Rng) -> CommandProcess {
        let name = spec.words.first().map_or("", String::as_str);
        let kind = TOOLS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        let state = match kind {
            Some(Kind::Calls(tool)) => State::Calls(Box::new(Calls::new(tool, rng))),
            Some(Kind::Producer) => State::Producer(Running::new(rng)),
            Some(Kind::Consumer) => State::Consumer(Running::new(rng)),
            Some(Kind::Load) => State::Load(Running::new(rng)),
            Some(Kind::ProducerPerf) => State::ProducerPerf(Running::new(rng)),
            Some(Kind::ConsumerPerf) => State::ConsumerPerf(Running::new(rng)),
            Some(Kind::EndToEndLatency) => State::EndToEndLatency(Running::new(rng)),
            Some(Kind::VerifiableConsumer) => State::VerifiableConsumer(Running::new(rng)),
            Some(Kind::ReplicaVerification) => State::ReplicaVerification(Running::new(rng)),
            None => State::Unknown,
        };
        CommandProcess { spec, state }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        match &mut self.state {
            State::Calls(calls) => match input {
                Input::Stop => calls.end(TERMINATED, out),
                input => calls.handle(&self.spec, now, &input, codecs, out),
            },
            State::Producer(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::Consumer(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::Load(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::ProducerPerf(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::ConsumerPerf(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::EndToEndLatency(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::VerifiableConsumer(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::ReplicaVerification(tool) => tool.handle(&self.spec, now, &input, codecs, out),
            State::Unknown => {
                let name = self.spec.words.first().map_or("", String::as_str);
                out.items.push(Output::Stderr(format!("{name}: command not found\n")));
                out.items.push(Output::Exit { code: 127 });
                self.state = State::Ended;
            }
            State::Ended => {}
        }
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Calls(calls) => calls.deadline(),
            State::Producer(tool) => tool.deadline(),
            State::Consumer(tool) => tool.deadline(),
            State::Load(tool) => tool.deadline(),
            State::ProducerPerf(tool) => tool.deadline(),
            State::ConsumerPerf(tool) => tool.deadline(),
            State::EndToEndLatency(tool) => tool.deadline(),
            State::VerifiableConsumer(tool) => tool.deadline(),
            State::ReplicaVerification(tool) => tool.deadline(),
            State::Unknown | State::Ended => None,
        }
    }
}
