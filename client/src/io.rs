//! What goes into a client process and what comes out: the contract between the clients and their driver.
//!
//! The loop of a driver, for one process:
//!
//! 1. Build a [`Process`] for this incarnation, hand it [`Input::Start`].
//! 2. Take the next input: a connection's news, a frame, standard input, or a timer when `process.deadline()` is due.
//! 3. `process.handle(now, input, codecs, &mut outputs)`. It is total: bad bytes close a connection.
//! 4. Carry out the outputs in their order.
//! 5. Go to 2, until [`Output::Exit`].
//!
//! SIGTERM is [`Input::Stop`]: the process closes its client as a Java application with a shutdown hook does, then
//! exits. kill -9 is nothing but dropping the process.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;
use wire::drive::{ConnError, ConnId, Endpoint, Instant, Now};
use wire::{Codecs, Rope};

use crate::command::CommandProcess;
use crate::event::ClientEvent;
use crate::workload::{AdminClient, ConsumerClient, ProducerClient, ReaderClient, TransactionalClient};

/// What happens to a client process.
#[derive(Clone, Debug)]
pub enum Input {
    /// The process begins. Comes once, first.
    Start,
    /// A connection that the process asked for stands.
    Connected {
        /// The id that the `Connect` output carried.
        conn: ConnId,
    },
    /// A connection that the process asked for could not be made. The id is dead.
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
    /// A connection is gone. The id is dead.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: ConnError,
    },
    /// `Process::deadline` is due.
    Timer,
    /// SIGTERM: close in an orderly way, then say [`Output::Exit`].
    Stop,
    /// Bytes of standard input, cut anywhere.
    Stdin {
        /// The bytes.
        bytes: Bytes,
    },
    /// Standard input is at its end.
    StdinClosed,
}

/// What a client process wants done.
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
    /// Close a connection at once; what was received on it and not delivered yet is dropped. The id is dead.
    Close {
        /// The connection.
        conn: ConnId,
    },
    /// Something that matters happened.
    Event(ClientEvent),
    /// Text for standard output.
    Stdout(String),
    /// Text for standard error.
    Stderr(String),
    /// The process ends. Nothing comes after it.
    Exit {
        /// The exit status.
        code: i32,
    },
}

/// The outputs of one call, in order, and the driver's counter of connection ids.
pub type Outputs = wire::drive::Outputs<Output>;

impl From<ClientEvent> for Output {
    fn from(event: ClientEvent) -> Output {
        Output::Event(event)
    }
}

/// One client process. Cloning it clones all it knows.
#[derive(Clone)]
pub enum Process {
    /// A scenario's producer.
    Producer(Box<ProducerClient>),
    /// A scenario's consumer.
    Consumer(Box<ConsumerClient>),
    /// A scenario's program that consumes, transforms and produces.
    Transactional(Box<TransactionalClient>),
    /// Reads partitions from their start to what their end was, then exits.
    Reader(Box<ReaderClient>),
    /// A `kafka-*` command.
    Command(Box<CommandProcess>),
    /// A command again and again.
    Admin(Box<AdminClient>),
}

impl Process {
    /// Takes one input. See the module's documentation for the loop.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        match self {
            Process::Producer(process) => process.handle(now, input, codecs, out),
            Process::Consumer(process) => process.handle(now, input, codecs, out),
            Process::Transactional(process) => process.handle(now, input, codecs, out),
            Process::Reader(process) => process.handle(now, input, codecs, out),
            Process::Command(process) => process.handle(now, input, codecs, out),
            Process::Admin(process) => process.handle(now, input, codecs, out),
        }
    }

    /// When to call `handle` with [`Input::Timer`]. O(1).
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Process::Producer(process) => process.deadline(),
            Process::Consumer(process) => process.deadline(),
            Process::Transactional(process) => process.deadline(),
            Process::Reader(process) => process.deadline(),
            Process::Command(process) => process.deadline(),
            Process::Admin(process) => process.deadline(),
        }
    }
}
