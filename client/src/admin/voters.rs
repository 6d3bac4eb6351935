//! Voters of the quorum: addRaftVoter, removeRaftVoter (KIP-853).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use wire::drive::{Endpoint, Now};
use wire::error::ErrorCode;
use wire::messages::add_raft_voter_request::{AddRaftVoterRequest, Listener};
use wire::messages::remove_raft_voter_request::RemoveRaftVoterRequest;
use wire::{ApiKey, Uuid};

use super::{Admin, AdminResult, Answer, CallId, Link, Op, Route, Step};
use crate::error::ClientError;

impl Admin {
    /// Makes a controller that follows the quorum a voter of it.
    pub fn add_raft_voter(
        &mut self,
        now: Now,
        id: i32,
        directory_id: Uuid,
        listeners: Vec<(String, Endpoint)>,
    ) -> CallId {
        let of_controllers = self.net.metadata.is_of_controllers();
        let op = Box::new(AddVoter { id, directory_id, listeners, of_controllers });
        self.begin(now, "addRaftVoter", Route::Any, op)
    }

    /// Takes a voter out of the quorum.
    pub fn remove_raft_voter(&mut self, now: Now, id: i32, directory_id: Uuid) -> CallId {
        let of_controllers = self.net.metadata.is_of_controllers();
        let op = Box::new(RemoveVoter { id, directory_id, of_controllers });
        self.begin(now, "removeRaftVoter", Route::Any, op)
    }
}

#[derive(Clone)]
struct AddVoter {
    id: i32,
    directory_id: Uuid,
    listeners: Vec<(String, Endpoint)>,
    of_controllers: bool,
}

impl Op for AddVoter {
    fn key(&self) -> ApiKey {
        ApiKey::AddRaftVoter
    }

    fn send(&self, link: Link<'_>) {
        let listener = |(name, at): &(String, Endpoint)| Listener {
            name: Cow::Owned(name.clone()),
            host: Cow::Owned(String::from(&*at.host)),
            port: at.port,
        };
        let request = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: link.timeout_ms(),
            voter_id: self.id,
            voter_directory_id: self.directory_id,
            listeners: self.listeners.iter().map(listener).collect(),
            ack_when_committed: true,
        };
        link.send(&request);
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        match answer.decode::<AddRaftVoterRequest<'_>>() {
            Ok(it) => ended(self.of_controllers, it.error_code, it.error_message.as_deref()),
            Err(step) => step,
        }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Unregistered(Err(error))
    }
}

#[derive(Clone)]
struct RemoveVoter {
    id: i32,
    directory_id: Uuid,
    of_controllers: bool,
}

impl Op for RemoveVoter {
    fn key(&self) -> ApiKey {
        ApiKey::RemoveRaftVoter
    }

    fn send(&self, link: Link<'_>) {
        link.send(&RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: self.id,
            voter_directory_id: self.directory_id,
        });
    }

    fn answered(&mut self, answer: &Answer<'_>) -> Step {
        match answer.decode::<RemoveRaftVoterRequest<'_>>() {
            Ok(it) => ended(self.of_controllers, it.error_code, it.error_message.as_deref()),
            Err(step) => step,
        }
    }

    fn failed(&mut self, error: ClientError) -> AdminResult {
        AdminResult::Unregistered(Err(error))
    }
}

/// Only another controller is tried: whatever else the quorum says, retriable or not, is the end of the call.
fn ended(of_controllers: bool, code: i16, message: Option<&str>) -> Step {
    let code = ErrorCode(code);
    if code == ErrorCode::NONE {
        return Step::Done(AdminResult::Unregistered(Ok(())));
    }
    let elsewhere = of_controllers && code == ErrorCode::NOT_LEADER_OR_FOLLOWER;
    if code == ErrorCode::NOT_CONTROLLER || elsewhere {
        return Step::Failed(ClientError::from_code(code, None));
    }
    Step::Done(AdminResult::Unregistered(Err(ClientError::from_code(code, message))))
}
