//! Kafka's admin client (`KafkaAdminClient.java`, `AdminApiDriver.java`).
//!
//! A call goes to any broker, to the controller, to a certain broker, or to the leaders of partitions, and is tried
//! again with backoff until `default.api.timeout.ms`. What fails, fails with the class and the text of Java's
//! exception. An owner begins calls ([`Admin::list_topics`] …), passes every input to [`Admin::handle`], calls
//! [`Admin::drive`] after it, and takes what is done with [`Admin::take_result`].

mod cluster;
mod configs;
mod fetch;
mod groups;
mod leaders;
mod offsets;
mod partitions;
mod quotas;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;
mod types;
mod voters;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use wire::drive::{Endpoint, Instant, Nanos, Now};
use wire::error::ErrorCode;
use wire::{ApiKey, Request, Rope};

use crate::Rng;
use crate::backoff::fork;
use crate::config::AdminConfig;
use crate::error::ClientError;
use crate::event::ClientEvent;
use crate::io::{Input, Outputs};
use crate::metadata::Metadata;
use crate::net::{Done, NetworkClient, Outcome, SendOptions, sooner};
pub use fetch::{BatchSeen, ReplicaFetch, ReplicaSeen};
pub use topics::PAGE;
pub use transactions::{
    AbortSpec, ProducerInfo, TransactionDescription, TransactionFilter, TransactionListing,
};
pub use types::*;

/// A call that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

/// Whom a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// The broker with the fewest requests in flight.
    Any,
    /// The broker that passes for the controller.
    Controller,
    /// This broker.
    Node(i32),
}

/// What an answer means for its request.
enum Step {
    /// It is done.
    Done(AdminResult),
    /// It is tried again, if the error is retriable and there is time; else it fails with the error.
    Failed(ClientError),
    /// It goes on with other requests.
    Next {
        /// What is known already.
        known: Option<AdminResult>,
        /// The requests that take its place; at least one if nothing is known.
        next: Vec<NextRequest>,
        /// They come of an error, and wait for a backoff.
        after_error: bool,
    },
}

/// A request that takes the place of another.
struct NextRequest {
    name: String,
    route: Route,
    op: Box<dyn Op>,
}

/// One kind of request: how to send it, and what its answer means.
trait Op: OpClone + Send + Sync {
    /// Its API.
    fn key(&self) -> ApiKey;
    /// The latest version that it can make use of.
    fn latest(&self) -> i16 {
        i16::MAX
    }
    /// Sends the request.
    fn send(&self, link: Link<'_>);
    /// Takes the answer.
    fn answered(&mut self, answer: &Answer<'_>) -> Step;
    /// The result if it fails as a whole.
    fn failed(&mut self, error: ClientError) -> AdminResult;
    /// Whether there is one attempt only: it fails with its connection.
    fn once(&self) -> bool {
        false
    }
    /// What to do instead with a broker that does not know the API.
    fn unsupported(&mut self) -> Option<NextRequest> {
        None
    }
}

/// Cloning of boxed operations: a client can be cloned in the middle of its calls.
trait OpClone {
    fn clone_box(&self) -> Box<dyn Op>;
}

impl<T: Op + Clone + 'static> OpClone for T {
    fn clone_box(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Op> {
    fn clone(&self) -> Box<dyn Op> {
        self.clone_box()
    }
}

/// What an operation sends its request through.
struct Link<'a> {
    net: &'a mut NetworkClient<u64>,
    out: &'a mut Outputs,
    now: Instant,
    node: i32,
    version: i16,
    timeout: Nanos,
    request: u64,
}

impl Link<'_> {
    /// The time that the broker may take, in milliseconds.
    fn timeout_ms(&self) -> i32 {
        self.timeout.as_millis().min(i32::MAX as u64) as i32
    }

    fn send<'r, R: Request<'r>>(self, request: &R) {
        let options = SendOptions { version: self.version, timeout: Some(self.timeout), answered: true };
        self.net.send(self.now, self.node, request, options, self.request, self.out);
    }
}

/// An answer to an operation's request.
struct Answer<'a> {
    done: &'a Done<u64>,
    frame: &'a Rope,
}

impl<'a> Answer<'a> {
    /// The body, or the step that ends it all.
    fn decode<R: Request<'a>>(&self) -> Result<R::Response<'a>, Step> {
        self.done.decode::<R>(self.frame).map_err(|error| {
            let text = format!("Node {} answered with what cannot be read: {error}", self.done.node);
            Step::Failed(ClientError::kafka(text))
        })
    }
}

#[derive(Clone, Debug)]
enum State {
    /// It has no node yet.
    Pending,
    /// It waits for its node.
    Assigned { node: i32 },
    /// It is sent.
    InFlight { node: i32 },
}

#[derive(Clone)]
struct Outstanding {
    call: CallId,
    name: String,
    route: Route,
    op: Box<dyn Op>,
    deadline: Instant,
    deadline_wall_ms: i64,
    tries: u32,
    next_try: Instant,
    next_try_wall_ms: i64,
    state: State,
    /// It has seen the broker's connection coming, or in use.
    connecting: bool,
}

/// A call: the requests that it consists of, and what is known of its result.
#[derive(Clone, Debug, Default)]
struct Call {
    open: usize,
    result: Option<AdminResult>,
}

/// An admin client.
#[derive(Clone)]
pub struct Admin {
    config: AdminConfig,
    net: NetworkClient<u64>,
    rng: Rng,
    calls: BTreeMap<CallId, Call>,
    /// In the order in which they were made.
    requests: BTreeMap<u64, Outstanding>,
    results: VecDeque<(CallId, AdminResult)>,
    next: u64,
    driven_at: Instant,
}

impl Admin {
    /// An admin client that knows its bootstrap servers.
    pub fn new(config: AdminConfig, client_id: &str, bootstrap: Vec<Endpoint>, mut rng: Rng) -> Admin {
        let own = fork(&mut rng);
        let net = NetworkClient::new(
            bootstrap,
            config.common.net(client_id, 1),
            config.common.metadata(false),
            rng,
        );
        Admin {
            config,
            net,
            rng: own,
            calls: BTreeMap::new(),
            requests: BTreeMap::new(),
            results: VecDeque::new(),
            next: 0,
            driven_at: Instant(0),
        }
    }

    /// An admin client whose bootstrap servers are controllers, and which talks to the active one (KIP-919).
    pub fn of_controllers(config: AdminConfig, client_id: &str, bootstrap: Vec<Endpoint>, rng: Rng) -> Admin {
        let mut admin = Admin::new(config, client_id, bootstrap, rng);
        admin.net.metadata.ask_for_controllers();
        admin
    }

    /// What is known of the cluster's brokers.
    pub fn metadata(&self) -> &Metadata {
        &self.net.metadata
    }

    /// The next call that is done.
    pub fn take_result(&mut self) -> Option<(CallId, AdminResult)> {
        self.results.pop_front()
    }

    /// Whether no call is under way.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes an input and what ended by it.
    pub fn handle(&mut self, now: Now, input: &Input, out: &mut Outputs) {
        self.net.handle(now.mono, input, out);
        if !matches!(input, Input::Timer) {
            // Whatever woke it, it looks at the time of its requests: see `next_deadline`.
            self.net.handle(now.mono, &Input::Timer, out);
        }
        while let Some(done) = self.net.next_done() {
            self.request_done(now, done, out);
        }
    }

    /// Sends what can be sent. To be called after every input and after new calls.
    pub fn drive(&mut self, now: Now, out: &mut Outputs) {
        self.net.sync_nodes();
        self.expire(now, out);
        loop {
            let before = self.next;
            self.assign(now, out);
            self.send_assigned(now, out);
            // A broker that lacks an API may be asked otherwise: that is a request of its own.
            if self.next == before {
                break;
            }
        }
        self.driven_at = now.mono;
        self.net.maybe_update_metadata(now.mono, out);
    }

    /// When the client wants [`Input::Timer`].
    ///
    /// Java's admin client sleeps until a call's time is over, not until that of the request in flight: a broker that
    /// says nothing holds a call for `default.api.timeout.ms`, unless something else wakes the client after
    /// `request.timeout.ms`. While calls wait for a broker to be known it does not sleep.
    pub fn next_deadline(&self) -> Option<Instant> {
        let awake = self.requests.values().any(|request| matches!(request.state, State::Pending));
        let mut earliest = match awake {
            true => self.net.next_deadline(),
            false => self.net.next_deadline_of_connections(),
        };
        for request in self.requests.values() {
            earliest = sooner(earliest, Some(request.deadline));
            // Whose backoff is over waits for a broker, which is the connections' business.
            if matches!(request.state, State::Pending) && request.next_try > self.driven_at {
                earliest = sooner(earliest, Some(request.next_try));
            }
        }
        earliest
    }

    /// Closes the connections; calls under way get no result.
    pub fn close(&mut self, out: &mut Outputs) {
        self.net.close(out);
        self.calls.clear();
        self.requests.clear();
    }

    // --- beginning

    fn begin(&mut self, now: Now, name: &str, route: Route, op: Box<dyn Op>) -> CallId {
        self.begin_all(now, alloc::vec![NextRequest { name: name.into(), route, op }])
    }

    fn begin_all(&mut self, now: Now, requests: Vec<NextRequest>) -> CallId {
        let timeout = self.config.api_timeout;
        self.begin_all_within(now, timeout, requests)
    }

    /// The same as `begin`, for a call that has a time of its own.
    fn begin_within(
        &mut self,
        now: Now,
        timeout: Nanos,
        name: &str,
        route: Route,
        op: Box<dyn Op>,
    ) -> CallId {
        self.begin_all_within(now, timeout, alloc::vec![NextRequest { name: name.into(), route, op }])
    }

    fn begin_all_within(&mut self, now: Now, timeout: Nanos, requests: Vec<NextRequest>) -> CallId {
        self.next += 1;
        let call = CallId(self.next);
        self.calls.insert(call, Call::default());
        let deadline = (now.mono + timeout, now.wall_ms + timeout.as_millis() as i64);
        for request in requests {
            self.add(call, request, deadline);
        }
        call
    }

    /// A call that has nothing to ask.
    fn begin_done(&mut self, result: AdminResult) -> CallId {
        self.next += 1;
        let call = CallId(self.next);
        self.results.push_back((call, result));
        call
    }

    fn add(&mut self, call: CallId, request: NextRequest, (deadline, deadline_wall_ms): (Instant, i64)) {
        self.calls.get_mut(&call).expect("a request belongs to a call").open += 1;
        self.next += 1;
        let outstanding = Outstanding {
            call,
            name: request.name,
            route: request.route,
            op: request.op,
            deadline,
            deadline_wall_ms,
            tries: 0,
            next_try: Instant(0),
            next_try_wall_ms: 0,
            state: State::Pending,
            connecting: false,
        };
        self.requests.insert(self.next, outstanding);
    }

    // --- sending

    /// Gives every request that waits for a broker one that is known.
    fn assign(&mut self, now: Now, out: &mut Outputs) {
        let pending: Vec<(u64, Route)> = self
            .requests
            .iter()
            .filter(|(_, request)| matches!(request.state, State::Pending) && request.next_try <= now.mono)
            .map(|(&id, request)| (id, request.route))
            .collect();
        for (id, route) in pending {
            let node = self.node_for(now.mono, route, out);
            let request = self.requests.get_mut(&id).expect("just listed");
            match node {
                Some(node) => request.state = State::Assigned { node },
                None if request.op.once() => {
                    self.fail(now, id, ClientError::disconnected("There is no such broker."));
                }
                None => {}
            }
        }
    }

    fn node_for(&mut self, now: Instant, route: Route, out: &mut Outputs) -> Option<i32> {
        if self.net.metadata.is_bootstrap() {
            self.net.metadata.request_update();
            return None;
        }
        let node = match route {
            // Another call may just have taken the connection: any broker that will be ready does.
            Route::Any if !self.net.metadata.is_of_controllers() => return self.net.least_loaded(now, out),
            Route::Any | Route::Controller => self.net.metadata.controller(),
            Route::Node(id) => Some(id),
        };
        let known = node.filter(|&id| self.net.metadata.broker(id).is_some());
        if known.is_none() {
            self.net.metadata.request_update();
        }
        known
    }

    fn send_assigned(&mut self, now: Now, out: &mut Outputs) {
        let assigned: Vec<(u64, i32)> = self
            .requests
            .iter()
            .filter_map(|(&id, request)| match request.state {
                State::Assigned { node } => Some((id, node)),
                State::Pending | State::InFlight { .. } => None,
            })
            .collect();
        for (id, node) in assigned {
            if self.net.ready(now.mono, node, out).is_ok() {
                self.send(now, id, node, out);
                continue;
            }
            let unavailable = self.net.is_unavailable(now.mono, node);
            let known = self.net.metadata.broker(node).is_some();
            let request = self.requests.get_mut(&id).expect("just listed");
            if request.op.once() {
                // A broker that could not be reached before is tried again; once it cannot be reached, or is known no
                // more, that was it.
                if unavailable && (request.connecting || !known) {
                    let error = format!("Connection to {node} failed.");
                    self.fail(now, id, ClientError::disconnected(error));
                } else {
                    request.connecting = !unavailable;
                }
            } else if unavailable {
                // As Java does when a connection fails: another broker may pass for the controller by now.
                request.state = State::Pending;
                self.net.metadata.request_update();
            }
        }
    }

    fn send(&mut self, now: Now, id: u64, node: i32, out: &mut Outputs) {
        let request = self.requests.get_mut(&id).expect("the caller has seen it");
        let Some(version) = self.net.version(node, request.op.key(), request.op.latest()) else {
            return self.unsupported(id, node);
        };
        request.state = State::InFlight { node };
        let timeout = request.deadline.since(now.mono).min(self.config.common.request_timeout);
        let link = Link { net: &mut self.net, out, now: now.mono, node, version, timeout, request: id };
        request.op.send(link);
    }

    fn unsupported(&mut self, id: u64, node: i32) {
        let mut request = self.requests.remove(&id).expect("the caller has seen it");
        let deadline = (request.deadline, request.deadline_wall_ms);
        if let Some(next) = request.op.unsupported() {
            self.add(request.call, next, deadline);
            return self.close_request(request.call, None);
        }
        let key = screaming(request.op.key().name());
        let text = match self.net.broker_versions(node, request.op.key()) {
            None => format!("The node does not support {key}"),
            Some(range) => format!(
                "The node does not support {key} with version in range [{},{}].",
                range.min, range.max
            ),
        };
        let result = request.op.failed(ClientError::unsupported_version(text));
        self.close_request(request.call, Some(result));
    }

    // --- ending

    fn request_done(&mut self, now: Now, done: Done<u64>, out: &mut Outputs) {
        let Some(request) = self.requests.get_mut(&done.call) else { return };
        let step = match &done.outcome {
            Outcome::Answered(frame) => {
                let answer = Answer { done: &done, frame };
                request.op.answered(&answer)
            }
            Outcome::Sent => unreachable!("every admin request is answered"),
            Outcome::Disconnected | Outcome::TimedOut => Step::Failed(ClientError::disconnected(format!(
                "Cancelled {} request with correlation id {} due to node {} being disconnected",
                request.name, done.correlation, done.node
            ))),
        };
        match step {
            Step::Done(result) => {
                let call = request.call;
                self.requests.remove(&done.call);
                self.close_request(call, Some(result));
            }
            Step::Failed(error) => {
                let api = done.key.name();
                out.event(|| ClientEvent::RequestFailed { api, error: error.code.name() });
                self.fail(now, done.call, error);
            }
            Step::Next { known, next, after_error } => {
                let (call, deadline) = (request.call, (request.deadline, request.deadline_wall_ms));
                let tries = request.tries + u32::from(after_error);
                self.requests.remove(&done.call);
                for next in next {
                    self.add(call, next, deadline);
                    self.requests.get_mut(&self.next).expect("just added").tries = tries;
                    if after_error {
                        self.delay(now, tries);
                    }
                }
                self.close_request(call, known);
            }
        }
    }

    /// The request that was added last waits for a backoff.
    fn delay(&mut self, now: Now, tries: u32) {
        let backoff = self.config.common.retry_backoff.after(tries - 1, &mut self.rng);
        let request = self.requests.get_mut(&self.next).expect("just added");
        request.next_try = now.mono + backoff;
        request.next_try_wall_ms = now.wall_ms + backoff.as_millis() as i64;
    }

    /// A request failed: it is tried again, or its call ends with the error (`Call.fail`).
    fn fail(&mut self, now: Now, id: u64, error: ClientError) {
        let moved = self.net.metadata.is_of_controllers() && error.code == ErrorCode::NOT_LEADER_OR_FOLLOWER;
        if error.code == ErrorCode::NOT_CONTROLLER || moved {
            self.net.metadata.request_update();
        }
        let backoff = {
            let request = self.requests.get(&id).expect("the caller has seen it");
            self.config.common.retry_backoff.after(request.tries, &mut self.rng)
        };
        let request = self.requests.get_mut(&id).expect("the caller has seen it");
        request.tries += 1;
        request.next_try = now.mono + backoff;
        request.next_try_wall_ms = now.wall_ms + backoff.as_millis() as i64;
        let late = request.deadline <= now.mono || request.op.once();
        if !late && error.code.retriable() && request.tries <= self.config.retries {
            request.state = State::Pending;
            return;
        }
        let error = if late || error.code.retriable() { request.timed_out(now, error) } else { error };
        let mut request = self.requests.remove(&id).expect("just seen");
        let result = request.op.failed(error);
        self.close_request(request.call, Some(result));
    }

    fn close_request(&mut self, id: CallId, result: Option<AdminResult>) {
        let call = self.calls.get_mut(&id).expect("a request belongs to a call");
        call.open -= 1;
        call.result = match (call.result.take(), result) {
            (Some(a), Some(b)) => Some(a.join(b)),
            (a, b) => a.or(b),
        };
        if call.open == 0 {
            let call = self.calls.remove(&id).expect("just seen");
            let result = call.result.expect("the last request of a call has a result");
            self.results.push_back((id, result));
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outputs) {
        let late: Vec<u64> =
            self.requests.iter().filter(|(_, r)| r.deadline <= now.mono).map(|(&id, _)| id).collect();
        for id in late {
            let request = self.requests.get(&id).expect("just listed");
            let text = match request.state {
                State::Pending => "Timed out waiting for a node assignment.",
                State::Assigned { .. } => "Timed out waiting to send the call.",
                State::InFlight { node } => {
                    self.net.disconnect(now.mono, node, out);
                    continue;
                }
            };
            let text = format!("{text} Call: {}", request.name);
            self.fail(now, id, ClientError::timeout(text));
        }
        while let Some(done) = self.net.next_done() {
            self.request_done(now, done, out);
        }
    }
}

impl Outstanding {
    /// The exception when time is over, or the retries are (`handleTimeoutFailure`).
    fn timed_out(&self, now: Now, cause: ClientError) -> ClientError {
        if cause.code == ErrorCode::REQUEST_TIMED_OUT {
            return cause;
        }
        let text = format!(
            "Call(callName={}, deadlineMs={}, tries={}, nextAllowedTryMs={}) timed out at {} after {} attempt(s)",
            self.name, self.deadline_wall_ms, self.tries, self.next_try_wall_ms, now.wall_ms, self.tries
        );
        ClientError::timeout(text).caused_by(cause)
    }
}

/// `DescribeTopicPartitions` as Java's enum has it: `DESCRIBE_TOPIC_PARTITIONS`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

/// The outcome that an error code and a message stand for.
fn outcome<T>(code: i16, message: Option<&str>, value: impl FnOnce() -> T) -> Result<T, ClientError> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(value()),
        code => Err(ClientError::from_code(code, message)),
    }
}

/// The same error for everything that was asked for.
fn all_failed<K: Ord, V>(keys: impl IntoIterator<Item = K>, error: &ClientError) -> Each<K, V> {
    keys.into_iter().map(|key| (key, Err(error.clone()))).collect()
}
