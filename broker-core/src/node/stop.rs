//! Leaving in an orderly way: the broker asks the controller, closes its logs and marks them clean; then the controller
//! resigns and the quorum hands over; then the process may end.
//!
//! The order is that of `BrokerServer.shutdown` and `ControllerServer.shutdown`.

use super::Core;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::io::Output;

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The controller moves leaderships away; the broker still serves.
    ControlledShutdown,
    /// Replicas flush and close.
    Replicas,
    /// The quorum hands over.
    Quorum,
    /// The metadata log flushes.
    MetadataLog,
    /// Done.
    Stopped,
}

/// A shutdown under way.
#[derive(Clone)]
pub(super) struct Stopping {
    step: Step,
}

impl Stopping {
    /// Whether the broker still answers.
    pub(super) fn still_serves(&self) -> bool {
        self.step == Step::ControlledShutdown
    }

    /// Whether the controller still answers: other nodes may need it for as long as the quorum has not handed over.
    pub(super) fn controller_serves(&self) -> bool {
        self.step <= Step::Quorum
    }
}

impl Core {
    /// SIGTERM. A second one changes nothing.
    pub(super) fn begin_stop(&mut self, ctx: &mut Ctx<'_>) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping { step: Step::ControlledShutdown });
        match &mut self.broker {
            Some(broker) => {
                broker.replicas.begin_controlled_shutdown();
                let progress = broker.lifecycle.begin_controlled_shutdown(ctx);
                self.progress(ctx, progress);
            }
            None => self.stop_quorum(ctx),
        }
    }

    /// The controller let the broker go, or it has waited long enough: its logs are closed.
    pub(super) fn broker_may_stop(&mut self, ctx: &mut Ctx<'_>) {
        let stopping = self.stopping.get_or_insert(Stopping { step: Step::Replicas });
        stopping.step = Step::Replicas;
        if let Some(broker) = &mut self.broker {
            broker.transactions.stop();
            broker.groups.stop();
            broker.replicas.shutdown(ctx);
        }
    }

    fn stop_quorum(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(stopping) = &mut self.stopping {
            stopping.step = Step::Quorum;
        }
        if let Some(role) = &mut self.controller {
            role.registrar.stop();
        }
        self.raft.shutdown(ctx);
    }

    /// Takes the next step once the last one is done.
    pub(super) fn go_on_stopping(&mut self, ctx: &mut Ctx<'_>) {
        loop {
            let Some(stopping) = &mut self.stopping else { return };
            match stopping.step {
                Step::Replicas if self.broker.as_ref().is_none_or(|b| b.replicas.is_shut_down()) => {
                    self.stop_quorum(ctx);
                }
                Step::Quorum if self.raft.is_shut_down() => {
                    stopping.step = Step::MetadataLog;
                    if let Some(role) = &mut self.controller {
                        role.controller.resign(ctx);
                    }
                    // A log that cannot be flushed is recovered at the next start.
                    if let Err(e) = self.raft.close(ctx) {
                        ctx.event(|| Event::Warning { text: alloc::format!("{e}") });
                    }
                }
                Step::MetadataLog if self.raft.is_closed() => {
                    stopping.step = Step::Stopped;
                    self.halted = true;
                    ctx.out.items.push(Output::Stopped);
                    return;
                }
                _ => return,
            }
        }
    }
}
