//! Looking for the coordinator: FindCoordinator at any broker, and a connection of its own to who it names.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use wire::ApiKey;
use wire::drive::{Endpoint, Instant};
use wire::error::ErrorCode;
use wire::messages::find_coordinator_request::FindCoordinatorRequest;

use super::super::fetcher::lost;
use super::super::{Call, Consumer};
use super::Membership;
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::io::Outputs;
use crate::net::{Done, Outcome, SendOptions};

/// The first version that asks for several groups at once.
const FIRST_WITH_KEYS: i16 = 4;

/// Where the coordinator is.
#[derive(Clone, Debug, Default)]
pub(in crate::consumer) struct Finder {
    /// The id of its connection.
    pub node: Option<i32>,
    asking: bool,
    retry_at: Instant,
    failures: u32,
}

impl Consumer {
    /// The coordinator, if requests can be sent to it now. Otherwise it is looked for, or connected to.
    pub(super) fn coordinator(&mut self, now: Instant, out: &mut Outputs) -> Option<i32> {
        let Some(node) = self.group_mut().finder.node else {
            self.find_coordinator(now, out);
            return None;
        };
        if self.net.ready(now, node, out).is_ok() {
            return Some(node);
        }
        if self.net.is_unavailable(now, node) {
            self.coordinator_lost();
            self.find_coordinator(now, out);
        }
        None
    }

    /// Whether it is known who the coordinator is; begins to find out otherwise.
    pub(super) fn knows_coordinator(&mut self, now: Instant, out: &mut Outputs) -> bool {
        if let Some(node) = self.group_mut().finder.node {
            if !self.net.is_unavailable(now, node) {
                return true;
            }
            self.coordinator_lost();
        }
        self.find_coordinator(now, out);
        false
    }

    fn find_coordinator(&mut self, now: Instant, out: &mut Outputs) {
        let group = self.group_mut();
        if group.finder.asking {
            return;
        }
        if group.finder.retry_at > now {
            return group.wake_at(group.finder.retry_at);
        }
        let Some(node) = self.net.least_loaded(now, out) else { return };
        let Some(version) = self.net.version(node, ApiKey::FindCoordinator, i16::MAX) else {
            return self.fail(ClientError::unsupported_version("The node does not support FIND_COORDINATOR"));
        };
        let group = self.group_mut();
        group.finder.asking = true;
        let id = group.id.clone();
        let request = match version >= FIRST_WITH_KEYS {
            true => FindCoordinatorRequest { coordinator_keys: vec![(&*id).into()], ..Default::default() },
            false => FindCoordinatorRequest { key: (&*id).into(), ..Default::default() },
        };
        self.net.send(now, node, &request, SendOptions::at(version), Call::FindCoordinator, out);
    }

    pub(in crate::consumer) fn coordinator_found(
        &mut self,
        now: Instant,
        done: &Done<Call>,
        out: &mut Outputs,
    ) {
        self.group_mut().finder.asking = false;
        let Outcome::Answered(frame) = &done.outcome else {
            let error = lost(&done.outcome);
            out.event(|| ClientEvent::RequestFailed { api: "FindCoordinator", error: error.name() });
            return self.not_found(now, error, out);
        };
        let response = match done.decode::<FindCoordinatorRequest<'_>>(frame) {
            Ok(response) => response,
            Err(error) => {
                self.net.undecodable_answer(now, done.node, ApiKey::FindCoordinator, &error, out);
                return self.not_found(now, ErrorCode::NETWORK_EXCEPTION, out);
            }
        };
        let (node, host, port, code) = match response.coordinators.first() {
            Some(told) => (told.node_id, &told.host, told.port, told.error_code),
            None => (response.node_id, &response.host, response.port, response.error_code),
        };
        let error = ErrorCode(code);
        if error != ErrorCode::NONE {
            out.event(|| ClientEvent::RequestFailed { api: "FindCoordinator", error: error.name() });
            return self.not_found(now, error, out);
        }
        // As in Kafka: no broker has such an id, so that the connection is another one than that for fetches.
        let id = i32::MAX - node.max(0);
        self.net.pin(now, id, Endpoint::new(host.as_ref(), port as u16), out);
        let retry = self.config.common.retry_backoff;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        group.finder.node = Some(id);
        // If it turns out that it cannot be reached, the next question waits.
        group.finder.retry_at = now + retry.after(group.finder.failures, &mut self.rng);
        if let Membership::Classic(classic) = &mut group.membership {
            classic.session_until = now + self.config.session_timeout;
        }
        let _ = self.net.ready(now, id, out);
    }

    fn not_found(&mut self, now: Instant, error: ErrorCode, out: &mut Outputs) {
        let backoff = self.config.common.retry_backoff;
        let group = self.group.as_mut().expect("only a consumer with a group.id gets here");
        group.finder.retry_at = now + backoff.after(group.finder.failures, &mut self.rng);
        group.finder.failures = group.finder.failures.saturating_add(1);
        self.net.metadata.request_update();
        if error.retriable() {
            let why = ClientError::from_code(error, None);
            return self.fail_unsent_commits(now, &why, out);
        }
        let text = match error {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => {
                Some(format!("Not authorized to access group: {}", self.group_mut().id))
            }
            _ => None,
        };
        let why = ClientError::from_code(error, text.as_deref());
        self.fail_unsent_commits(now, &why, out);
        self.fail(why);
    }

    /// Requests reach it: the next loss counts from the beginning.
    pub(super) fn coordinator_answered(&mut self) {
        self.group_mut().finder.failures = 0;
    }

    /// Its connection is gone.
    pub(in crate::consumer) fn coordinator_lost(&mut self) {
        let finder = &mut self.group_mut().finder;
        if finder.node.take().is_some() {
            finder.failures = finder.failures.saturating_add(1);
        }
    }

    /// It said that it is another broker, or it is silent: its connection is closed as well.
    pub(in crate::consumer) fn coordinator_unknown(&mut self, now: Instant, out: &mut Outputs) {
        if let Some(node) = self.group_mut().finder.node.take() {
            self.net.disconnect(now, node, out);
        }
    }

    /// A request to the coordinator was not answered: an exception that may be tried again.
    pub(super) fn coordinator_disconnected(&mut self, outcome: &Outcome) -> ClientError {
        self.coordinator_lost();
        let code = lost(outcome);
        ClientError { code, ..ClientError::disconnected(code.message().to_string()) }
    }
}
