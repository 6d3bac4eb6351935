//! `CleanMarkHoldsOnce`: a broker takes its logs for closed in order only if its last process has closed them.
//!
//! The mark of a clean shutdown holds for one start: it goes before any log is opened (KAFKA-10471, `LogManager.java`), so
//! that whoever dies afterwards has its logs recovered. [`Shutdowns`](super::shutdowns::Shutdowns) says who cannot have
//! left a mark.

/// The invariant's name.
pub const NAME: &str = "CleanMarkHoldsOnce";

/// A node has opened its logs; `unmarked`: its last process died without closing them.
pub fn started(node: i32, clean: bool, unmarked: bool) -> Option<String> {
    (clean && unmarked).then(|| {
        format!(
            "broker-{node} found the mark of a clean shutdown when it started, and recovered nothing. Its last process had died without closing its logs."
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::checkers::replicas::story::*;
    use crate::world::ProcEvent;
    use broker_core::event::Event;

    fn started_after(ends: &[ProcEvent], clean: bool) -> Vec<&'static str> {
        let mut replicas = told(&replicated());
        replicas.process_event(2, &ProcEvent::Running);
        ends.iter().for_each(|event| replicas.process_event(2, event));
        replicas.process_event(2, &ProcEvent::Running);
        replicas.hear(2, &opened(10, &[(0, 0)]));
        replicas.hear(2, &Event::Started { clean });
        names(&mut replicas)
    }

    #[test]
    fn fires_on_a_mark_that_was_there_before() {
        assert_eq!(started_after(&[ProcEvent::Killed], true), ["CleanMarkHoldsOnce"]);
    }

    #[test]
    fn is_silent_where_logs_are_recovered_or_were_closed() {
        assert_eq!(started_after(&[ProcEvent::Killed], false), [""; 0]);
        assert_eq!(started_after(&[ProcEvent::AskedToStop, ProcEvent::Exited { code: 0 }], true), [""; 0]);
        assert_eq!(started_after(&[ProcEvent::AskedToStop, ProcEvent::Killed], true), [""; 0]);
    }
}
