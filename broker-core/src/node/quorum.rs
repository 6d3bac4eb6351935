//! What the quorum tells: commits, snapshots, leaders. The image, and everybody who follows it.

use wire::drive::Endpoint;
use wire::records::MetadataRecord;

use super::Core;
use crate::coordinator::Parts;
use crate::ctx::Ctx;
use crate::metadata::{ImageDelta, MetadataImage};
use crate::net::Peer;
use crate::raft::{Signal, SnapshotError};

impl Core {
    /// Takes what the quorum signalled. Whether there was anything.
    pub(super) fn take_signals(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let signals = self.raft.take_signals();
        if signals.is_empty() {
            return false;
        }
        for signal in signals {
            match signal {
                Signal::Committed { base_offset, last_offset, epoch, records, .. } => {
                    self.committed(ctx, base_offset, last_offset, epoch, &records);
                }
                Signal::LoadSnapshot { end_offset, epoch, records, .. } => {
                    self.load_snapshot(ctx, end_offset, epoch, &records);
                }
                Signal::LeaderChanged { leader, epoch } => self.leader_changed(ctx, leader, epoch),
                Signal::Fatal { why } => self.halt(ctx, why),
            }
            if self.halted {
                return true;
            }
        }
        self.publish(ctx);
        self.snapshot_if_needed(ctx);
        true
    }

    fn committed(
        &mut self,
        ctx: &mut Ctx<'_>,
        base_offset: i64,
        last_offset: i64,
        epoch: i32,
        records: &[MetadataRecord],
    ) {
        for (record, offset) in records.iter().zip(base_offset..) {
            if let Err(e) = self.image.apply(record, offset, &mut self.delta) {
                return self.halt(
                    ctx,
                    alloc::format!("Error replaying metadata log record at offset {offset}: {e}"),
                );
            }
        }
        // Batches of the quorum's own have offsets too.
        self.image.offset = last_offset;
        self.image_epoch = epoch;
        if let Some(role) = &mut self.controller {
            if records.is_empty() {
                role.controller.quorum_appended(last_offset);
            }
            role.controller.committed(ctx, last_offset);
        }
    }

    fn load_snapshot(&mut self, ctx: &mut Ctx<'_>, end_offset: i64, epoch: i32, records: &[MetadataRecord]) {
        match MetadataImage::from_snapshot(records, end_offset) {
            Ok(image) => {
                self.image = image;
                self.image_epoch = epoch;
                self.delta = ImageDelta { everything: true, ..ImageDelta::default() };
            }
            Err(e) => self.halt(ctx, alloc::format!("Error loading snapshot {end_offset}-{epoch}: {e}")),
        }
    }

    fn leader_changed(&mut self, ctx: &mut Ctx<'_>, leader: Option<i32>, epoch: i32) {
        ctx.net.set_active_controller(leader);
        let Some(role) = &mut self.controller else { return };
        let mine = leader == Some(ctx.config.node_id);
        if role.controller.epoch().is_some_and(|active| !mine || active != epoch) {
            role.controller.resign(ctx);
        }
        if mine && !role.controller.is_active() && self.raft.is_leader() {
            role.controller.activate(ctx, &mut self.raft, &self.image, epoch);
        }
    }

    /// Tells everybody who follows the image what changed in it.
    fn publish(&mut self, ctx: &mut Ctx<'_>) {
        if self.delta.is_empty() {
            return;
        }
        let delta = core::mem::take(&mut self.delta);
        let me = ctx.config.node_id;
        if delta.everything {
            for id in self.image.brokers.keys() {
                set_endpoint(ctx, &self.image, *id);
            }
        }
        for id in &delta.brokers {
            set_endpoint(ctx, &self.image, *id);
        }
        if delta.everything || delta.client_quotas {
            ctx.net.set_client_quotas(&self.image.client_quotas);
        }
        if let Some(role) = &mut self.controller
            && (delta.everything || delta.features || delta.controllers.contains(&me))
        {
            role.registrar.on_metadata(ctx.now.mono, me, &self.image);
        }
        if let Some(broker) = &mut self.broker
            && broker.follows_metadata
        {
            broker.replicas.on_metadata(ctx, &self.image, &delta);
            broker.transactions.on_metadata(ctx, &mut broker.replicas, &self.image);
            let mut parts = Parts { ctx, image: &self.image, replicas: &mut broker.replicas };
            broker.groups.on_metadata(&mut parts, &delta);
        }
    }

    fn snapshot_if_needed(&mut self, ctx: &mut Ctx<'_>) {
        if !self.raft.snapshot_needed(ctx.now) || self.image.in_transaction() || self.image.is_empty() {
            return;
        }
        let records = self.image.to_records();
        match self.raft.write_snapshot(ctx, self.image.offset + 1, self.image_epoch, &records) {
            Ok(()) | Err(SnapshotError::NotNeeded) => {}
            Err(e @ SnapshotError::Disk(_)) => {
                self.halt(ctx, alloc::format!("Error writing a snapshot: {e}"))
            }
        }
    }
}

/// Where a broker is to be found by other brokers.
fn set_endpoint(ctx: &mut Ctx<'_>, image: &MetadataImage, id: i32) {
    let name = ctx.config.broker_listener().map_or("PLAINTEXT", |l| l.name.as_str());
    match image.broker(id).and_then(|b| b.listener(name)) {
        Some(listener) => {
            ctx.net.set_endpoint(Peer::Broker(id), Endpoint::new(listener.host.clone(), listener.port));
        }
        None => ctx.net.remove_endpoint(Peer::Broker(id)),
    }
}
