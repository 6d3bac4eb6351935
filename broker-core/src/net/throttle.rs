//! Clients that go over a quota: told to wait, and not listened to meanwhile (KIP-219).
//!
//! A response that tells a time to wait leaves at once. Its connection stays muted for that time, so that a client that
//! does not wait gains nothing by it.

use wire::drive::{ConnId, Instant};

use super::{Conn, Net, RequestToken};
use crate::event::Event;
use crate::io::Outputs;
use crate::metadata::ClientQuotasImage;
use crate::quota::clients::{MutationQuota, Violation};

impl Net {
    /// The quotas changed.
    pub fn set_client_quotas(&mut self, image: &ClientQuotasImage) {
        self.quotas.update(image);
    }

    /// Whether anybody has a quota: only then it is to be noted who sends requests, and what is answered is measured.
    #[inline]
    pub fn measures_clients(&self) -> bool {
        self.quotas.enabled()
    }

    /// Who sent the request that is about to be handled, and how large its header and body are.
    pub fn note_client(&mut self, conn: ConnId, client_id: &str, request_bytes: usize) {
        if let Some(inbound) = self.conns.inbound(conn) {
            inbound.note_client(client_id, request_bytes);
        }
    }

    /// A Produce request is about to be answered: the milliseconds that the answer has to tell.
    #[inline]
    pub fn throttle_produce(&mut self, now: Instant, out: &mut Outputs, token: RequestToken) -> i32 {
        if !self.quotas.enabled() {
            return 0;
        }
        let Some(Conn::In(inbound)) = self.conns.get_mut(token.conn) else { return 0 };
        let Some(client) = inbound.client() else { return 0 };
        let violation = self.quotas.produced(now, &client.id, client.request_bytes);
        self.violated(now, out, token, violation)
    }

    /// A client's Fetch would be answered with so many bytes. If this gives milliseconds, it is to be answered with
    /// these and nothing else.
    pub fn throttle_fetch(
        &mut self,
        now: Instant,
        out: &mut Outputs,
        token: RequestToken,
        bytes: usize,
    ) -> Option<i32> {
        let Some(Conn::In(inbound)) = self.conns.get_mut(token.conn) else { return None };
        let violation = self.quotas.fetched(now, &inbound.client()?.id, bytes);
        Some(self.violated(now, out, token, violation)).filter(|ms| *ms > 0)
    }

    /// The most that a client's Fetch may be answered with.
    #[inline]
    pub fn most_to_fetch(&mut self, now: Instant, token: RequestToken) -> i32 {
        if !self.quotas.enabled() {
            return i32::MAX;
        }
        let Some(Conn::In(inbound)) = self.conns.get_mut(token.conn) else { return i32::MAX };
        let Some(client) = inbound.client() else { return i32::MAX };
        let most = self.quotas.most_to_fetch(now, &client.id);
        most.map_or(i32::MAX, |most| i32::try_from(most).unwrap_or(i32::MAX))
    }

    /// What a request may do to partitions, as far as its client has a quota for that.
    #[inline]
    pub fn mutation_quota(&mut self, now: Instant, token: RequestToken) -> MutationQuota<'_> {
        if !self.quotas.enabled() {
            return MutationQuota::UNBOUNDED;
        }
        let Some(Conn::In(inbound)) = self.conns.get_mut(token.conn) else { return MutationQuota::UNBOUNDED };
        let Some(client) = inbound.client() else { return MutationQuota::UNBOUNDED };
        self.quotas.mutations(now, &client.id, token.key, token.version)
    }

    /// Mutes the connection of a request that is about to be answered until then.
    pub fn throttle(&mut self, token: RequestToken, until: Instant) {
        if let Some(inbound) = self.conns.inbound(token.conn) {
            inbound.throttle(until);
        }
    }

    /// Tells of a violation, when it is the client's first.
    pub fn tell_violation(&mut self, out: &mut Outputs, token: RequestToken, violation: &Violation) {
        let client = self.conns.inbound(token.conn).and_then(|inbound| inbound.client());
        if let Some(client) = client.filter(|_| violation.first) {
            out.event(|| Event::ClientThrottled {
                client_id: client.id.clone(),
                quota: violation.quota,
                throttle_ms: violation.throttle.as_millis(),
            });
        }
    }

    fn violated(
        &mut self,
        now: Instant,
        out: &mut Outputs,
        token: RequestToken,
        violation: Option<Violation>,
    ) -> i32 {
        let Some(violation) = violation else { return 0 };
        self.tell_violation(out, token, &violation);
        self.throttle(token, now + violation.throttle);
        violation.throttle_ms()
    }

    /// Takes requests again from those who have waited.
    pub(super) fn end_throttles(&mut self, now: Instant) {
        while let Some(&(until, conn)) = self.throttled.first()
            && until <= now
        {
            self.throttled.pop_first();
            // It may be gone by now.
            if self.conns.inbound(conn).is_some_and(|inbound| inbound.end_throttle()) {
                self.ready.push_back(conn);
            }
        }
    }
}
