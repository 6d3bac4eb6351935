//! The frame of the tools that run on until they have done their work or are told to stop: console clients and load.
//!
//! What such a tool does is its [`Work`]. It begins with the command line, takes every input from then on, and once it
//! has ended says its last words; the exit status is told once, after everything else.

use alloc::boxed::Box;

use wire::Codecs;
use wire::drive::{Instant, Now};

use super::CommandSpec;
use super::session::{Exception, Stop, Terminal};
use crate::Rng;
use crate::io::{Input, Output, Outputs};

/// What a tool does between its command line and its end.
pub(super) trait Work: Clone {
    /// Reads the command line and makes the clients; the exit status if that cannot be, for which the reason is told
    /// already.
    fn begin(spec: &CommandSpec, terminal: &mut Terminal<'_>, rng: &mut Rng) -> Result<Self, i32>;

    /// Takes one input, the first of which is [`Input::Start`].
    fn handle(&mut self, now: Now, input: &Input, codecs: &dyn Codecs, out: &mut Outputs);

    /// When it wants [`Input::Timer`].
    fn deadline(&self) -> Option<Instant>;

    /// The exit status, once everything is done and closed.
    fn ended(&self) -> Option<i32>;

    /// Says its last words and lets go of its connections.
    fn end(&mut self, now: Now, code: i32, out: &mut Outputs);
}

/// Such a tool as a process.
#[derive(Clone)]
pub(super) struct Running<W> {
    rng: Rng,
    work: Option<Box<W>>,
    exited: bool,
}

impl<W: Work> Running<W> {
    pub fn new(rng: Rng) -> Running<W> {
        Running { rng, work: None, exited: false }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.work.as_ref().filter(|_| !self.exited).and_then(|work| work.deadline())
    }

    pub fn handle(
        &mut self,
        spec: &CommandSpec,
        now: Now,
        input: &Input,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        if self.exited {
            return;
        }
        if matches!(input, Input::Start) {
            match W::begin(spec, &mut Terminal { now, out }, &mut self.rng) {
                Ok(work) => self.work = Some(Box::new(work)),
                Err(code) => return self.exit(code, out),
            }
        }
        // SIGTERM may come before the beginning.
        let Some(work) = &mut self.work else { return self.exit(super::TERMINATED, out) };
        work.handle(now, input, codecs, out);
        if let Some(code) = work.ended() {
            work.end(now, code, out);
            self.exit(code, out);
        }
    }

    fn exit(&mut self, code: i32, out: &mut Outputs) {
        self.exited = true;
        out.items.push(Output::Exit { code });
    }
}

/// The exit status of a tool that did not begin; `tell` says what Java says of an exception.
pub(super) fn not_begun(stop: Stop, tell: impl FnOnce(&Exception)) -> i32 {
    match stop {
        Stop::Exit(code) => code,
        Stop::Thrown(exception) => {
            tell(&exception);
            1
        }
        Stop::Wait => unreachable!("a tool that begins waits for nothing"),
    }
}
