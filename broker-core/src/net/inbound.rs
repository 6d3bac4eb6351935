//! A connection that somebody made to this node.
//!
//! One request at a time is handled, as Kafka mutes a channel from the moment a request is read until its answer is on
//! its way. What arrives meanwhile waits in a short queue; the driver is asked to pause when the queue is full, or when
//! the peer does not read its answers.

use alloc::collections::VecDeque;
use alloc::string::String;

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
