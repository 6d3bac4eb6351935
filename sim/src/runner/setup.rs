//! Makes the declared topics before step 0: one CreateTopics request, sent as any admin client would.

use std::any::Any;

use broker_core::disk::Disk;
use broker_core::io::{Input, Listener, Output, Outputs};
use wire::Rope;
use wire::drive::{ConnId, Endpoint, Instant, Now};
use wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use wire::{ErrorCode, frame};

use crate::scenario::Topic;
use crate::world::Machine;

const VERSION: i16 = 7;
const TIMEOUT_MS: i32 = 30_000;

/// Connects, asks once, remembers the answer.
#[derive(Clone)]
pub struct TopicMaker {
    topics: Vec<Topic>,
    to: Endpoint,
    conn: Option<ConnId>,
    started: bool,
    /// What came of it: an error in words, naming the topic.
    pub done: Option<Result<(), String>>,
}

impl TopicMaker {
    /// For these topics, through this broker.
    pub fn new(topics: Vec<Topic>, to: Endpoint) -> TopicMaker {
        TopicMaker { topics, to, conn: None, started: false, done: None }
    }

    fn request(&self) -> Rope {
        let topics = self.topics.iter().map(|topic| CreatableTopic {
            name: topic.name.as_str().into(),
            num_partitions: if topic.assignment.is_some() { -1 } else { topic.partitions },
            replication_factor: if topic.assignment.is_some() { -1 } else { topic.replication_factor },
            assignments: topic
                .assignment
                .iter()
                .flatten()
                .enumerate()
                .map(|(i, replicas)| CreatableReplicaAssignment {
                    partition_index: i as i32,
                    broker_ids: replicas.clone(),
                })
                .collect(),
            configs: topic
                .config
                .iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name: name.as_str().into(),
                    value: Some(value.as_str().into()),
                })
                .collect(),
        });
        let request =
            CreateTopicsRequest { topics: topics.collect(), timeout_ms: TIMEOUT_MS, validate_only: false };
        frame::encode_request(VERSION, 1, Some("highwater"), &request).expect("a request of its own version")
    }

    fn answered(&self, frame: &Rope) -> Result<(), String> {
        let (_, response) = frame::decode_response::<CreateTopicsRequest<'_>>(frame, VERSION)
            .map_err(|e| format!("the answer to CreateTopics cannot be read: {e}"))?;
        for topic in &response.topics {
            let code = ErrorCode(topic.error_code);
            // Nobody else makes topics yet: the broker has asked once more after the controller had changed.
            if !matches!(code, ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS) {
                let message = topic.error_message.as_deref().unwrap_or(code.message());
                return Err(format!("topic {}: {}: {message}", topic.name, code.name()));
            }
        }
        Ok(())
    }
}

impl Machine for TopicMaker {
    fn handle(&mut self, _: Now, input: Input, _: &mut dyn Disk, out: &mut Outputs) {
        match input {
            Input::Timer if !self.started => {
                self.started = true;
                let conn = out.next_conn();
                self.conn = Some(conn);
                out.items.push(Output::Connect { conn, to: self.to.clone() });
            }
            Input::Connected { conn } => out.items.push(Output::Send { conn, frame: self.request() }),
            Input::Frame { frame, .. } => self.done = Some(self.answered(&frame)),
            Input::ConnectFailed { why, .. } | Input::Closed { why, .. } if self.done.is_none() => {
                self.done = Some(Err(format!("no answer to CreateTopics from {}: {why}", self.to)));
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Instant> {
        (!self.started).then_some(Instant(0))
    }

    fn listeners(&self) -> Vec<(u16, Listener)> {
        Vec::new()
    }

    fn box_clone(&self) -> Box<dyn Machine> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
