//! A scenario's admin client: one command, again and again, as somebody at a terminal would.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use rand_core::{Rng as _, SeedableRng};
use wire::Codecs;
use wire::drive::{ConnId, Instant, Nanos, Now};

use crate::Rng;
use crate::command::{CommandProcess, CommandSpec};
use crate::io::{Input, Output, Outputs};

/// What a scenario says about an admin client.
#[derive(Clone, Debug)]
pub struct AdminSpec {
    /// The client's name.
    pub name: Arc<str>,
    /// The command.
    pub command: CommandSpec,
    /// The pause between the end of one run and the beginning of the next: from the first to the second.
    pub every: (Nanos, Nanos),
}

/// A scenario's admin client. Each run of its command is a process of its own: what it prints comes out, its exit
/// status is not the client's.
#[derive(Clone)]
pub struct AdminClient {
    spec: AdminSpec,
    rng: Rng,
    running: Option<Box<CommandProcess>>,
    /// Connections of the running command.
    open: BTreeSet<ConnId>,
    next_run: Option<Instant>,
}

impl AdminClient {
    /// An admin client that waits for [`Input::Start`].
    pub fn new(spec: AdminSpec, rng: Rng) -> AdminClient {
        assert!(spec.every.0 <= spec.every.1, "a pause is a range");
        AdminClient { spec, rng, running: None, open: BTreeSet::new(), next_run: None }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        match input {
            Input::Start => self.run(now, codecs, out),
            Input::Stop => out.items.push(Output::Exit { code: 0 }),
            Input::Timer if self.running.is_none() => {
                if self.next_run.is_some_and(|at| at <= now.mono) {
                    self.run(now, codecs, out);
                }
            }
            input => self.pass(now, input, codecs, out),
        }
    }

    /// When it wants [`Input::Timer`].
    pub fn deadline(&self) -> Option<Instant> {
        match &self.running {
            Some(command) => command.deadline(),
            None => self.next_run,
        }
    }

    fn run(&mut self, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        self.next_run = None;
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        self.running = Some(Box::new(CommandProcess::new(self.spec.command.clone(), Rng::from_seed(seed))));
        self.pass(now, Input::Start, codecs, out);
        self.pass(now, Input::StdinClosed, codecs, out);
    }

    /// Hands an input to the running command and looks at what it wants.
    fn pass(&mut self, now: Now, input: Input, codecs: &dyn Codecs, out: &mut Outputs) {
        let Some(command) = &mut self.running else { return };
        if let Input::Closed { conn, .. } | Input::ConnectFailed { conn, .. } = &input {
            self.open.remove(conn);
        }
        let first = out.items.len();
        command.handle(now, input, codecs, out);
        let mut ended = false;
        for output in &out.items[first..] {
            match output {
                Output::Connect { conn, .. } => {
                    self.open.insert(*conn);
                }
                Output::Close { conn } => {
                    self.open.remove(conn);
                }
                Output::Exit { .. } => ended = true,
                _ => {}
            }
        }
        if ended {
            out.items.retain(|output| !matches!(output, Output::Exit { .. }));
            out.items.extend(core::mem::take(&mut self.open).into_iter().map(|conn| Output::Close { conn }));
            self.running = None;
            let (low, high) = self.spec.every;
            let pause = low.0 + self.rng.next_u64() % (high.0 - low.0 + 1);
            self.next_run = Some(now.mono + Nanos(pause));
        }
    }
}
