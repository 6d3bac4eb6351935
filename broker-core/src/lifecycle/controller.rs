//! A controller's registration (KIP-919): its endpoints and features, in the metadata log.

use wire::drive::{Instant, Nanos};
use wire::error::ErrorCode;
use wire::messages::controller_registration_request::{Feature, Listener};
use wire::messages::{ControllerRegistrationRequest, ControllerRegistrationResponse};
use wire::{Message, Reader, Uuid};

use super::broker::{PLAINTEXT, latest};
use super::{Attempt, LifecycleCall, Next, backoff};
use crate::ctx::Ctx;
use crate::metadata::{MetadataImage, feature};
use crate::net::{Call, CallOutcome, Peer};

/// The longest wait between attempts.
const BACKOFF_MAX: Nanos = Nanos::from_secs(120);
/// 3.7-IV0, the first metadata version with registrations of controllers.
const REGISTRATION_SUPPORTED: i16 = 15;

/// `ControllerRegistrationManager`: registers until the log says that this incarnation is registered.
#[derive(Clone)]
pub struct ControllerRegistrar {
    incarnation_id: Uuid,
    registered: bool,
    supported: bool,
    attempt: Option<Attempt>,
    next_at: Option<Instant>,
    failures: u32,
}

impl ControllerRegistrar {
    /// A controller that has just started.
    pub fn new(incarnation_id: Uuid) -> ControllerRegistrar {
        ControllerRegistrar {
            incarnation_id,
            registered: false,
            supported: false,
            attempt: None,
            next_at: None,
            failures: 0,
        }
    }

    /// Committed metadata changed what concerns this: features, or this controller's registration.
    pub fn on_metadata(&mut self, now: Instant, id: i32, image: &MetadataImage) {
        self.supported = image.features.metadata_version() >= REGISTRATION_SUPPORTED;
        let registration = image.controllers.get(&id);
        self.registered = registration.is_some_and(|r| r.incarnation_id == self.incarnation_id);
        if self.wanted() && self.attempt.is_none() && self.next_at.is_none() {
            self.next_at = Some(now);
        }
    }

    fn wanted(&self) -> bool {
        self.supported && !self.registered
    }

    /// No more communication.
    pub fn stop(&mut self) {
        self.supported = false;
        self.attempt = None;
        self.next_at = None;
    }

    /// When [`ControllerRegistrar::on_timer`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.attempt {
            Some(attempt) => attempt.due(),
            None => self.next_at,
        }
    }

    /// Registers, when it is time.
    pub fn on_timer(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono;
        if self.attempt.is_none() && self.next_at.is_some_and(|at| at <= now) {
            self.next_at = None;
            if !self.wanted() {
                return;
            }
            self.attempt = Some(Attempt::new(now));
        }
        self.pursue(ctx);
    }

    fn pursue(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.now.mono;
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.due().is_none_or(|at| at > now) {
            return;
        }
        // It may be retried for as long as there is a quorum to be found.
        match attempt.next(now, ctx.net, None) {
            Next::Send(peer) => self.send(ctx, peer),
            Next::Wait | Next::Expired => {}
        }
    }

    fn send(&self, ctx: &mut Ctx<'_>, to: Peer) {
        let config = ctx.config;
        let listeners = config.advertised.iter().filter(|l| l.controller).map(|l| Listener {
            name: l.name.as_str().into(),
            host: (&*l.endpoint.host).into(),
            port: l.endpoint.port,
            security_protocol: PLAINTEXT,
        });
        let features = feature::SUPPORTED.iter().map(|(name, range)| Feature {
            name: (*name).into(),
            min_supported_version: range.min,
            max_supported_version: range.max,
        });
        let request = ControllerRegistrationRequest {
            controller_id: config.node_id,
            incarnation_id: self.incarnation_id,
            zk_migration_ready: false,
            listeners: listeners.collect(),
            features: features.collect(),
        };
        let timeout = config.lifecycle.controller_socket_timeout;
        let call = Call::Lifecycle(LifecycleCall::RegisterController);
        let version = latest::<ControllerRegistrationRequest<'_>>();
        ctx.net.call(ctx.now, ctx.out, to, &request, version, timeout, call);
    }

    /// A registration ended.
    pub fn handle_outcome(&mut self, ctx: &mut Ctx<'_>, outcome: CallOutcome) {
        let now = ctx.now.mono;
        let Some(attempt) = &mut self.attempt else { return };
        let CallOutcome::Answered { body, version } = outcome else {
            attempt.failed(now);
            self.pursue(ctx);
            return;
        };
        let response = ControllerRegistrationResponse::decode(&mut Reader::new(&body), version);
        let error = response.map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |r| ErrorCode(r.error_code));
        if error == ErrorCode::NOT_CONTROLLER {
            attempt.not_controller(now);
            return;
        }
        self.attempt = None;
        if error.is_error() {
            let wait = backoff::after_failures(self.failures, BACKOFF_MAX, ctx.rng);
            self.failures += 1;
            self.next_at = Some(now + wait);
        } else {
            self.failures = 0;
        }
    }
}
