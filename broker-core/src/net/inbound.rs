//! A connection that somebody made to this node.
//!
//! One request at a time is handled, as Kafka mutes a channel from the moment a request is read until its answer is on
//! its way. What arrives meanwhile waits in a short queue; the driver is asked to pause when the queue is full, or when
//! the peer does not read its answers. A client that went over a quota stays muted after its answer for as long as it was
//! told to wait.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use wire::Rope;
use wire::drive::{ConnId, Instant};

use crate::io::{Listener, Output, Outputs};

/// So many requests may wait behind the one being handled.
const MAX_QUEUED: usize = 16;
/// So many bytes may wait behind it.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// More than this unsent in the driver, and no further request is taken.
const JAMMED: usize = 256 << 10;
/// Not more than this, and requests are taken again.
const FREED: usize = 64 << 10;

const _: () = assert!(FREED < JAMMED, "a connection must not flap between the two");

#[derive(Clone)]
pub(super) struct Inbound {
    listener: Listener,
    peer: String,
    /// A request is being handled.
    muted: bool,
    /// Its answers jam.
    jammed: bool,
    /// The driver was asked not to deliver.
    paused: bool,
    queue: VecDeque<Rope>,
    queued_bytes: usize,
    last_active: Instant,
    /// Who sent the request being handled; only kept while quotas are measured.
    client: Option<Client>,
    /// The request being handled leaves the connection muted until then.
    throttled_until: Option<Instant>,
}

/// What quotas want to know of a request.
#[derive(Clone)]
pub(super) struct Client {
    pub id: Arc<str>,
    /// Header and body.
    pub request_bytes: usize,
}

impl Inbound {
    pub(super) fn new(listener: Listener, peer: String, now: Instant) -> Inbound {
        Inbound {
            listener,
            peer,
            muted: false,
            jammed: false,
            paused: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            last_active: now,
            client: None,
            throttled_until: None,
        }
    }

    pub(super) fn listener(&self) -> Listener {
        self.listener
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// When something last came over it; absent while a request is being handled, since it is not idle then.
    pub(super) fn last_active(&self) -> Option<Instant> {
        (!self.muted).then_some(self.last_active)
    }

    /// A frame arrived: returned if it can be handled now.
    #[inline]
    pub(super) fn arrived(
        &mut self,
        now: Instant,
        conn: ConnId,
        frame: Rope,
        out: &mut Outputs,
    ) -> Option<Rope> {
        self.last_active = now;
        if !self.muted && !self.jammed && self.queue.is_empty() {
            self.muted = true;
            return Some(frame);
        }
        self.queued_bytes += frame.len();
        self.queue.push_back(frame);
        if !self.paused && (self.queue.len() >= MAX_QUEUED || self.queued_bytes >= MAX_QUEUED_BYTES) {
            self.paused = true;
            out.items.push(Output::Pause { conn });
        }
        None
    }

    /// Who sent the request that is about to be handled, and how large it is.
    pub(super) fn note_client(&mut self, id: &str, request_bytes: usize) {
        match &mut self.client {
            Some(client) if *client.id == *id => client.request_bytes = request_bytes,
            client => *client = Some(Client { id: id.into(), request_bytes }),
        }
    }

    /// Who sent the request being handled; absent if nobody noted it.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Nothing further is taken until then, but for the answer to the request being handled.
    pub(super) fn throttle(&mut self, until: Instant) {
        assert!(self.muted, "the channel of {} is throttled by a request that is being handled", self.peer);
        self.throttled_until = self.throttled_until.max(Some(until));
    }

    /// Until when it stays muted after its answer.
    #[inline]
    pub(super) fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until
    }

    /// The time that its client had to wait is over. Whether the next one is there and may be taken.
    pub(super) fn end_throttle(&mut self) -> bool {
        assert!(self.throttled_until.take().is_some(), "the channel of {} is not throttled", self.peer);
        self.unmute()
    }

    /// The request being handled is answered. Whether the next one is there and may be taken.
    #[inline]
    pub(super) fn unmute(&mut self) -> bool {
        assert!(self.muted, "a request from {} is answered twice", self.peer);
        self.muted = false;
        self.may_take()
    }

    fn may_take(&self) -> bool {
        !self.muted && !self.jammed && !self.queue.is_empty()
    }

    /// Takes the next frame, if its turn has come.
    pub(super) fn next(&mut self, conn: ConnId, out: &mut Outputs) -> Option<Rope> {
        if !self.may_take() {
            return None;
        }
        let frame = self.queue.pop_front()?;
        self.queued_bytes -= frame.len();
        self.muted = true;
        if self.paused && self.queue.is_empty() {
            self.paused = false;
            out.items.push(Output::Resume { conn });
        }
        Some(frame)
    }

    /// So many bytes of answers still wait in the driver. Whether a frame that waited may be taken now.
    pub(super) fn sent(&mut self, conn: ConnId, bytes_left: usize, out: &mut Outputs) -> bool {
        if !self.jammed && bytes_left > JAMMED {
            self.jammed = true;
            if !self.paused {
                self.paused = true;
                out.items.push(Output::Pause { conn });
            }
            return false;
        }
        if !self.jammed || bytes_left > FREED {
            return false;
        }
        self.jammed = false;
        if self.paused && self.queue.is_empty() {
            self.paused = false;
            out.items.push(Output::Resume { conn });
        }
        self.may_take()
    }
}
