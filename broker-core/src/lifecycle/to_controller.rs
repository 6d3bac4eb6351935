//! A request on its way to the active controller (`NodeToControllerRequestThread`).
//!
//! The active controller is the quorum's leader as this node knows it. A request whose connection breaks, or that meets
//! a controller that is no longer active, looks for the controller again, until its time is up.

use wire::drive::{Instant, Nanos};

use crate::net::{Net, Peer};

/// How long to wait for a controller to become known before looking again.
const NO_CONTROLLER_BACKOFF: Nanos = Nanos::from_millis(100);
/// How long to wait after a controller said that it is not the active one.
const NOT_CONTROLLER_BACKOFF: Nanos = Nanos::from_millis(50);

/// One request, through all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    created: Instant,
    /// When to try again; absent while it is under way.
    retry_at: Option<Instant>,
}

/// What to do with a request whose attempt is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it there.
    Send(Peer),
    /// Nobody knows the controller: wait.
    Wait,
    /// Its time is up.
    Expired,
}

impl Attempt {
    /// A new request, to be tried at once.
    pub(crate) fn new(now: Instant) -> Attempt {
        Attempt { created: now, retry_at: Some(now) }
    }

    /// When to call [`Attempt::next`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Where to send it now, if that is known. The caller sends.
    pub(crate) fn next(&mut self, now: Instant, net: &Net, give_up_after: Option<Nanos>) -> Next {
        if give_up_after.is_some_and(|limit| now.since(self.created) >= limit) {
            return Next::Expired;
        }
        match net.active_controller() {
            Some(peer) => {
                self.retry_at = None;
                Next::Send(peer)
            }
            None => {
                self.retry_at = Some(now + NO_CONTROLLER_BACKOFF);
                Next::Wait
            }
        }
    }

    /// It was not answered. The connections back off by themselves, so that trying at once does no harm.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.retry_at = Some(now);
    }

    /// It was answered with NOT_CONTROLLER.
    pub(crate) fn not_controller(&mut self, now: Instant) {
        self.retry_at = Some(now + NOT_CONTROLLER_BACKOFF);
    }
}
