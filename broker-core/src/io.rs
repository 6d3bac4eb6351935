//! What goes into a node and what comes out: the contract between the core and its driver.
//!
//! The loop of a driver, for one node:
//!
//! 1. `Node::open` reads what the disk holds.
//! 2. Take the next input: a connection's news, a frame, a finished sync, or a timer when `node.deadline()` is due.
//! 3. `node.handle(now, input, disk, &mut outputs)`. It is total: bad bytes become an answer or a closed connection.
//! 4. Carry out the outputs in their order.
//! 5. Go to 2, until [`Output::Halt`] or [`Output::Stopped`].

use alloc::string::String;
use wire::Rope;
use wire::drive::{ConnError, ConnId, Endpoint};

use crate::disk::{DiskError, Ticket};
use crate::event::Event;

/// Which listener a connection came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listener {
    /// The broker listener: clients and other brokers.
    Broker,
    /// The controller listener: voters, observers, and brokers' requests to the active controller.
    Controller,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody connected.
    Accepted {
        /// The new connection.
        conn: ConnId,
        /// Where it came in.
        listener: Listener,
        /// The peer's address as Kafka prints it, without the slash: `10.0.0.7`.
        peer: String,
    },
    /// A connection that the node asked for stands.
    Connected {
        /// The id that the `Connect` output carried.
        conn: ConnId,
    },
    /// A connection that the node asked for could not be made. The id is dead.
    ConnectFailed {
        /// The id that the `Connect` output carried.
        conn: ConnId,
        /// Why.
        why: ConnError,
    },
    /// One whole frame, without its four bytes of size.
    Frame {
        /// Its connection.
        conn: ConnId,
        /// The payload.
        frame: Rope,
    },
    /// A peer announced a frame larger than `Node::frame_limit`; nothing of it was read.
    Oversized {
        /// Its connection.
        conn: ConnId,
        /// The announced size in bytes; negative sizes come as they stand.
        announced: i32,
    },
    /// News of a jam: what was sent on a connection did not fit the buffers below. Comes first when it begins, with what
    /// is left, then as it drains; the jam has ended when nothing is left. A connection without such news has none.
    Sent {
        /// Its connection.
        conn: ConnId,
        /// Bytes still waiting in the driver; the node stops taking requests from a connection whose answers jam.
        bytes_left: usize,
    },
    /// A connection is gone. The id is dead.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: ConnError,
    },
    /// A sync or replace ended.
    Synced {
        /// The ticket that the disk gave.
        ticket: Ticket,
        /// Whether it is durable now. A failure is final: the log directory goes offline.
        result: Result<(), DiskError>,
    },
    /// `Node::deadline` is due.
    Timer,
    /// SIGTERM: leave in an orderly way (controlled shutdown), then say [`Output::Stopped`].
    Shutdown,
}

/// What a node wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Make a connection.
    Connect {
        /// Its id, taken from the driver's counter in [`Outputs`].
        conn: ConnId,
        /// Where to.
        to: Endpoint,
    },
    /// Send a frame, size prefix included.
    Send {
        /// On this connection.
        conn: ConnId,
        /// Prefix and payload.
        frame: Rope,
    },
    /// Stop delivering frames of this connection.
    Pause {
        /// The connection.
        conn: ConnId,
    },
    /// Deliver frames of this connection again.
    Resume {
        /// The connection.
        conn: ConnId,
    },
    /// Close a connection after what was sent. The id is dead for the node at once.
    Close {
        /// The connection.
        conn: ConnId,
        /// In words, for people.
        why: String,
    },
    /// Something that matters happened.
    Event(Event),
    /// The node stops itself as Kafka's fault handlers do (for example: its last log directory failed).
    Halt {
        /// In words, for people.
        why: String,
    },
    /// A shutdown that was asked for has ended; the process may exit.
    Stopped,
}

/// The outputs of one call, in order, and the driver's counter of connection ids.
pub type Outputs = wire::drive::Outputs<Output>;

impl From<Event> for Output {
    fn from(event: Event) -> Output {
        Output::Event(event)
    }
}
