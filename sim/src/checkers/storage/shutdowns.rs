//! How the processes of nodes ended: in order, or in a way in which they cannot have marked their logs as closed.
//!
//! A node takes the mark of a clean shutdown away when it opens its log directories, and writes it again when its
//! controlled shutdown is over. Who is killed between the two leaves none; who is killed after it was asked to go may have
//! written it already, and is not judged.

use std::collections::BTreeMap;

use broker_core::event::Event;

use crate::world::ProcEvent;

/// What is known of a node's processes.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// Its process has opened what lies on its disk.
    open: bool,
    /// Its process may have written the mark.
    leaving: bool,
    /// The controller has registered this process.
    registered: bool,
    /// A log directory failed: what lies there, marks included, is as it was before.
    offline: bool,
    /// What was there when its last process died bears no mark, and the page cache has outlived it.
    unmarked: bool,
    /// A process of it has died that did not say goodbye, and none was registered since.
    unclean: bool,
}

/// How the last processes of all nodes ended.
#[derive(Clone, Debug, Default)]
pub struct Shutdowns(BTreeMap<i32, Life>);

impl Shutdowns {
    /// Something happened to a node's process or disk.
    pub fn process(&mut self, node: i32, event: &ProcEvent) {
        let life = self.0.entry(node).or_default();
        match event {
            ProcEvent::Running => {
                *life =
                    Life { open: true, unclean: life.unclean, unmarked: life.unmarked, ..Life::default() };
            }
            ProcEvent::AskedToStop => life.leaving = true,
            ProcEvent::Killed | ProcEvent::Halted { .. } => {
                if life.open {
                    life.unmarked = !life.leaving && !life.offline;
                    life.unclean = !life.leaving;
                }
                life.open = false;
            }
            // That the mark is gone may not have reached the disk. Whom the controller has registered since then has
            // another broker epoch than the mark says.
            ProcEvent::PowerLost { .. } => {
                if life.open {
                    life.unmarked = false;
                    life.unclean = !life.leaving && (life.unclean || life.registered);
                }
                life.open = false;
            }
            ProcEvent::Exited { .. } => *life = Life::default(),
            ProcEvent::Wiped => *life = Life { unclean: true, ..Life::default() },
            ProcEvent::Restored { .. } => *life = Life::default(),
            _ => {}
        }
    }

    /// A node said something.
    pub fn hear(&mut self, node: i32, event: &Event) {
        match event {
            // It was asked to go, and has not written the mark yet.
            Event::ControlledShutdownStarted => self.of(node).leaving = false,
            Event::ControlledShutdownCompleted { .. } => self.of(node).leaving = true,
            Event::LogDirOffline { .. } => self.of(node).offline = true,
            _ => {}
        }
    }

    /// A node has opened its logs. Whether there can be no mark of a clean shutdown.
    pub fn started(&mut self, node: i32) -> bool {
        std::mem::take(&mut self.of(node).unmarked)
    }

    /// The controller registered a node's process. Whether one died before it that had not said goodbye.
    pub fn registered(&mut self, node: i32) -> bool {
        let life = self.of(node);
        life.registered = true;
        std::mem::take(&mut life.unclean)
    }

    fn of(&mut self, node: i32) -> &mut Life {
        self.0.entry(node).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Unsynced;

    const LOST: ProcEvent = ProcEvent::PowerLost { unsynced: Unsynced::Lost };

    fn lived(events: &[ProcEvent]) -> Shutdowns {
        let mut shutdowns = Shutdowns::default();
        events.iter().for_each(|event| shutdowns.process(1, event));
        shutdowns
    }

    #[test]
    fn who_is_killed_leaves_no_mark_and_who_exits_does() {
        let mut killed = lived(&[ProcEvent::Running, ProcEvent::Killed, ProcEvent::Running]);
        assert!(killed.started(1) && killed.registered(1));
        assert!(!killed.started(1) && !killed.registered(1), "once");
        let exits = ProcEvent::Exited { code: 0 };
        let mut stopped = lived(&[ProcEvent::Running, ProcEvent::AskedToStop, exits.clone()]);
        assert!(!stopped.started(1) && !stopped.registered(1));
        // It had opened nothing yet.
        let mut early = lived(&[ProcEvent::Running, exits, ProcEvent::Killed]);
        assert!(!early.started(1) && !early.registered(1));
    }

    #[test]
    fn who_is_killed_while_it_goes_is_judged_until_its_shutdown_is_over() {
        let goes = [ProcEvent::Running, ProcEvent::AskedToStop];
        let (begun, over) =
            (Event::ControlledShutdownStarted, Event::ControlledShutdownCompleted { granted: true });
        for (told, judged) in [(vec![], false), (vec![begun.clone()], true), (vec![begun, over], false)] {
            let mut shutdowns = lived(&goes);
            told.iter().for_each(|event| shutdowns.hear(1, event));
            shutdowns.process(1, &ProcEvent::Killed);
            assert_eq!((shutdowns.started(1), shutdowns.registered(1)), (judged, judged), "{told:?}");
        }
    }

    #[test]
    fn a_power_loss_may_bring_the_mark_back_but_not_the_epoch() {
        let mut early = lived(&[ProcEvent::Running, LOST]);
        assert!(!early.started(1) && !early.registered(1));
        let mut known = lived(&[ProcEvent::Running]);
        known.registered(1);
        known.process(1, &LOST);
        assert!(!known.started(1) && known.registered(1));
    }

    #[test]
    fn another_disk_is_not_known_but_an_empty_one_bears_no_mark() {
        let died = [ProcEvent::Running, ProcEvent::Killed];
        let mut wiped = lived(&died);
        wiped.process(1, &ProcEvent::Wiped);
        assert!(wiped.registered(1));
        let mut restored = lived(&died);
        restored.process(1, &ProcEvent::Restored { snapshot: "broker-1".to_owned() });
        assert!(!restored.started(1) && !restored.registered(1));
    }

    #[test]
    fn a_directory_that_failed_has_the_mark_that_it_had() {
        let mut shutdowns = lived(&[ProcEvent::Running]);
        shutdowns.hear(1, &Event::LogDirOffline { dir: "a".to_owned(), why: String::new() });
        shutdowns.process(1, &ProcEvent::Killed);
        assert!(!shutdowns.started(1) && shutdowns.registered(1));
    }
}
