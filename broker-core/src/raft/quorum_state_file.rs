//! The file `quorum-state`: epoch, leader and vote, durable before they are told (KIP-595, `FileQuorumStateStore`).
//!
//! One line of JSON. Version 0 (kraft.version 0) names the voters, version 1 (KIP-853) the voted directory.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use wire::Uuid;

use super::voters::ReplicaKey;

/// The file's name within `__cluster_metadata-0`.
pub const FILE_NAME: &str = "quorum-state";

/// What survives a restart of the election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionState {
    /// The epoch.
    pub epoch: i32,
    /// Its leader, if known.
    pub leader: Option<i32>,
    /// Whom this replica voted for in it.
    pub voted: Option<ReplicaKey>,
    /// The voters' ids; empty in version 1.
    pub voters: Vec<i32>,
}

/// Why a quorum-state file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quorum-state is not what a node writes: {0}")]
pub struct QuorumStateError(pub String);

impl ElectionState {
    /// The text of the file at a kraft.version.
    pub fn to_text(&self, kraft_version: i16) -> String {
        let leader = self.leader.unwrap_or(-1);
        let voted = self.voted.map_or(-1, |key| key.id);
        let epoch = self.epoch;
        if kraft_version >= 1 {
            let directory = self.voted.map_or(Uuid::ZERO, |key| key.directory_id);
            return format!(
                "{{\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
                 \"votedDirectoryId\":\"{directory}\",\"data_version\":1}}"
            );
        }
        let mut voters = String::new();
        for (i, id) in self.voters.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(voters, "{comma}{{\"voterId\":{id}}}").expect("a String takes all");
        }
        format!(
            "{{\"clusterId\":\"\",\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
             \"appliedOffset\":0,\"currentVoters\":[{voters}],\"data_version\":0}}"
        )
    }

    /// Reads either version. Unknown fields are passed over, as Kafka's reader does.
    pub fn parse(text: &str) -> Result<ElectionState, QuorumStateError> {
        let mut parser = Parser { rest: text.trim() };
        let fields = parser.object()?;
        if !parser.rest.is_empty() {
            return Err(QuorumStateError(format!("`{}` follows the object", parser.rest)));
        }
        let version = fields.number("data_version")?;
        if !(0..=1).contains(&version) {
            return Err(QuorumStateError(format!("unknown data_version {version}")));
        }
        let id = |name| fields.number(name).map(|id| (id >= 0).then_some(id as i32));
        let directory = match fields.text("votedDirectoryId") {
            Some(text) => Uuid::parse(text)
                .ok_or_else(|| QuorumStateError(format!("votedDirectoryId `{text}` is no id")))?,
            None => Uuid::ZERO,
        };
        Ok(ElectionState {
            epoch: fields.number("leaderEpoch")? as i32,
            leader: id("leaderId")?,
            voted: id("votedId")?.map(|id| ReplicaKey::new(id, directory)),
            voters: fields.voters()?,
        })
    }
}

enum Value<'a> {
    Number(i64),
    Text(&'a str),
    List(Vec<Fields<'a>>),
}

struct Fields<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Fields<'a> {
    fn value(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Result<i64, QuorumStateError> {
        match self.value(name) {
            Some(Value::Number(number)) if i32::try_from(*number).is_ok() => Ok(*number),
            _ => Err(QuorumStateError(format!("`{name}` is missing or no number"))),
        }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn voters(&self) -> Result<Vec<i32>, QuorumStateError> {
        match self.value("currentVoters") {
            Some(Value::List(list)) => {
                list.iter().map(|voter| voter.number("voterId").map(|id| id as i32)).collect()
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Reads the little of JSON that this file uses: objects, lists of objects, integers, strings without escapes.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn object(&mut self) -> Result<Fields<'a>, QuorumStateError> {
        self.expect('{')?;
        let mut fields = Vec::new();
        if self.skip('}') {
            return Ok(Fields(fields));
        }
        loop {
            let key = self.string()?;
            self.expect(':')?;
            fields.push((key, self.value()?));
            if self.skip('}') {
                return Ok(Fields(fields));
            }
            self.expect(',')?;
        }
    }

    fn value(&mut self) -> Result<Value<'a>, QuorumStateError> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next() {
            Some('"') => Ok(Value::Text(self.string()?)),
            Some('[') => Ok(Value::List(self.list()?)),
            _ => Ok(Value::Number(self.number()?)),
        }
    }

    fn list(&mut self) -> Result<Vec<Fields<'a>>, QuorumStateError> {
        self.expect('[')?;
        let mut items = Vec::new();
        if self.skip(']') {
            return Ok(items);
        }
        loop {
            items.push(self.object()?);
            if self.skip(']') {
                return Ok(items);
            }
            self.expect(',')?;
        }
    }

    fn string(&mut self) -> Result<&'a str, QuorumStateError> {
        self.expect('"')?;
        let end = self.rest.find('"').ok_or_else(|| QuorumStateError("a string has no end".to_string()))?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    fn number(&mut self) -> Result<i64, QuorumStateError> {
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().map_err(|_| QuorumStateError(format!("`{digits}` is no number")))
    }

    fn skip(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), QuorumStateError> {
        if self.skip(wanted) {
            return Ok(());
        }
        let found = self.rest.chars().next().map_or("the end".to_string(), |c| format!("`{c}`"));
        Err(QuorumStateError(format!("expected `{wanted}`, found {found}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn texts_are_those_that_kafka_wrote() {
        let cases = [
            (
                0,
                ElectionState { epoch: 3, leader: Some(101), voted: None, voters: vec![101, 102, 103] },
                r#"{"clusterId":"","leaderId":101,"leaderEpoch":3,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":101},{"voterId":102},{"voterId":103}],"data_version":0}"#,
            ),
            (
                0,
                ElectionState {
                    epoch: 3,
                    leader: Some(101),
                    voted: Some(ReplicaKey::new(101, Uuid::ZERO)),
                    voters: vec![101, 102, 103],
                },
                r#"{"clusterId":"","leaderId":101,"leaderEpoch":3,"votedId":101,"appliedOffset":0,"currentVoters":[{"voterId":101},{"voterId":102},{"voterId":103}],"data_version":0}"#,
            ),
            (
                1,
                ElectionState {
                    epoch: 4,
                    leader: None,
                    voted: Some(ReplicaKey::new(2, Uuid::METADATA_TOPIC)),
                    voters: vec![],
                },
                r#"{"leaderId":-1,"leaderEpoch":4,"votedId":2,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAQ","data_version":1}"#,
            ),
            (
                0,
                ElectionState { epoch: 0, leader: None, voted: None, voters: vec![] },
                r#"{"clusterId":"","leaderId":-1,"leaderEpoch":0,"votedId":-1,"appliedOffset":0,"currentVoters":[],"data_version":0}"#,
            ),
        ];
        for (kraft_version, state, text) in cases {
            assert_eq!(state.to_text(kraft_version), text);
            assert_eq!(ElectionState::parse(text).unwrap(), state);
        }
    }

    #[test]
    fn damage_is_an_error_with_a_reason() {
        let cases = [
            ("", "expected `{`, found the end"),
            ("{", "expected `\"`, found the end"),
            ("{}", "`data_version` is missing or no number"),
            (r#"{"data_version":2}"#, "unknown data_version 2"),
            (r#"{"data_version":0,"leaderEpoch":99999999999}"#, "`leaderEpoch` is missing or no number"),
            (r#"{"data_version":0"#, "expected `,`, found the end"),
            (r#"{"data_version":x}"#, "`` is no number"),
            (r#"{"data_version":0} trailing"#, "` trailing` follows the object"),
            (r#"{"data_version":1,"votedDirectoryId":"?"}"#, "votedDirectoryId `?` is no id"),
        ];
        for (text, why) in cases {
            assert_eq!(ElectionState::parse(text), Err(QuorumStateError(why.to_string())), "{text}");
        }
        let whole = r#"{"leaderId":1,"leaderEpoch":4,"votedId":2,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAQ","data_version":1}"#;
        for cut in 0..whole.len() {
            assert!(ElectionState::parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }
}
