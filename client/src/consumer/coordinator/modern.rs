//! Membership by KIP-848.

use wire::drive::{Instant, Now};
use wire::error::ErrorCode;

use super::super::Consumer;
use super::classic::Generation;
use super::commit::Purpose;
use crate::error::ClientError;
use crate::io::Outputs;

#[derive(Clone, Debug, Default)]
pub(in crate::consumer) struct Modern {}

impl Modern {
    pub fn new(_: &mut crate::Rng) -> Modern {
        todo!()
    }
    pub fn subscription_changed(&mut self) {}
    pub fn commit_as(&self, _: Purpose) -> Result<Generation, ClientError> {
        todo!()
    }
    pub fn is_member(&self) -> bool {
        todo!()
    }
    pub fn committed_before_revocation(&mut self) {
        todo!()
    }
}

#[derive(Clone, Copy, Debug)]
pub(in crate::consumer) struct Beat;

impl Consumer {
    pub(in crate::consumer) fn consumer_heartbeat_done(
        &mut self,
        _: Instant,
        _: &Beat,
        _: &crate::net::Done<super::super::Call>,
        _: &mut Outputs,
    ) {
        todo!()
    }
    pub(super) fn poll_modern(&mut self, _: Now, _: &mut Outputs) -> bool {
        todo!()
    }
    pub(super) fn drive_modern(&mut self, _: Instant, _: &mut Outputs) {
        todo!()
    }
    pub(super) fn modern_commit_refused(&mut self, _: Instant, _: ErrorCode, _: &mut Outputs) -> ClientError {
        todo!()
    }
    pub(super) fn leave_modern(&mut self, _: Instant, _: &mut Outputs) {
        todo!()
    }
}
