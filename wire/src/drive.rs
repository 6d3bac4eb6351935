//! What every state machine of the project shares with its driver: time, connections, endpoints.
//!
//! Nodes and clients are state machines without IO. A driver (the simulated world, or real sockets and files) hands
//! them inputs with the time at which they happen, and carries out the outputs in their order.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A span of time in integer nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time.
    pub const ZERO: Nanos = Nanos(0);

    /// From microseconds.
    pub const fn from_micros(us: u64) -> Nanos {
        Nanos(us * 1_000)
    }

    /// From milliseconds.
    pub const fn from_millis(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    /// From seconds.
    pub const fn from_secs(s: u64) -> Nanos {
        Nanos(s * 1_000_000_000)
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// A point on a host's monotonic clock, in nanoseconds since the driver began.
///
/// It never goes back, it survives process restarts, and says nothing of the date: see [`Now::wall_ms`] for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant plus so many milliseconds.
    pub const fn plus_millis(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

impl Add<Nanos> for Instant {
    type Output = Instant;
    fn add(self, span: Nanos) -> Instant {
        Instant(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Nanos> for Instant {
    fn add_assign(&mut self, span: Nanos) {
        *self = *self + span;
    }
}

impl Sub<Instant> for Instant {
    type Output = Nanos;
    fn sub(self, earlier: Instant) -> Nanos {
        self.since(earlier)
    }
}

/// The two clocks of a host at one moment. They are different things and may drift apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time: for time-outs, sessions and lag.
    pub mono: Instant,
    /// Milliseconds since 1970-01-01T00:00:00Z: for record timestamps and retention only.
    pub wall_ms: i64,
}

/// A connection of one process. The driver gives these out and never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ConnId(pub u64);

/// A host name and port to connect to, such as `broker-1:9092`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A DNS-like name.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// An endpoint from its parts.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a connection could not be made, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnError {
    /// Nothing listens there: the host runs, the process does not.
    Refused,
    /// The peer's process died, or a cut with reset broke the connection.
    Reset,
    /// Nobody answered within the time that the operating system allows.
    TimedOut,
    /// No host has that name.
    UnknownHost,
    /// The peer closed the connection in an orderly way.
    Closed,
}

impl fmt::Display for ConnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnError::Refused => "connection refused",
            ConnError::Reset => "connection reset by peer",
            ConnError::TimedOut => "connection timed out",
            ConnError::UnknownHost => "unknown host",
            ConnError::Closed => "connection closed by peer",
        })
    }
}

/// The outputs of one call, in order, and the driver's counter of connection ids.
#[derive(Clone, Debug)]
pub struct Outputs<O> {
    /// In the order in which they must happen. The driver drains it after each call.
    pub items: Vec<O>,
    /// Whether anybody listens to events; when not, making one costs a branch.
    pub events_wanted: bool,
    next_conn: u64,
}

impl<O> Default for Outputs<O> {
    fn default() -> Outputs<O> {
        Outputs { items: Vec::new(), events_wanted: false, next_conn: 0 }
    }
}

impl<O> Outputs<O> {
    /// An empty list, with a listener; connection ids begin after `next_conn`.
    pub fn new(next_conn: u64) -> Outputs<O> {
        Outputs { items: Vec::new(), events_wanted: true, next_conn }
    }

    /// A connection id that was never used: the driver takes its own, for accepted connections, from here, too.
    pub fn next_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId(self.next_conn)
    }

    /// Adds an event, if anybody listens.
    #[inline]
    pub fn event<E: Into<O>>(&mut self, make: impl FnOnce() -> E) {
        if self.events_wanted {
            let event = make();
            self.items.push(event.into());
        }
    }
}
