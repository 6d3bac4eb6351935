//! Formatting the directories of a new node, and opening those of one that was there before.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::{Rng as _, SeedableRng};
use wire::drive::Now;
use wire::{Codecs, Uuid};

use super::{Broker, ControllerRole, Core, Node};
use crate::api::forward::Forwarder;
use crate::config::NodeConfig;
use crate::controller::Controller;
use crate::coordinator::{GroupCoordinator, TransactionCoordinator};
use crate::ctx::Rng;
use crate::disk::{Disk, DiskError, Ticket};
use crate::event::Event;
use crate::io::{Output, Outputs};
use crate::lifecycle::{BrokerLifecycle, ControllerRegistrar, Identity};
use crate::log::{LogDir, LogError};
use crate::metadata::{ImageDelta, MetadataImage};
use crate::net::Net;
use crate::producer_ids::ProducerIds;
use crate::raft::format::{FormatOptions, default_bootstrap_records};
use crate::raft::{self, Raft, RaftConfig, VoterSet};
use crate::replica::ReplicaManager;

/// Why a node could not be formatted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A directory has been formatted before: nothing was changed.
    #[error(
        "Log directory {0} is already formatted. Use --ignore-formatted to ignore this directory and format the others."
    )]
    AlreadyFormatted(String),
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] DiskError),
}

/// What the nodes of a new cluster are formatted with.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// The cluster's id: 22 characters of base64.
    pub id: String,
    /// The first voters of a dynamic quorum (KIP-853); absent where `controller.quorum.voters` names them.
    pub voters: Option<VoterSet>,
}

/// Why a node could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The directory was never formatted.
    #[error("No `meta.properties` found in {0} (have you run `kafka-storage.sh` to format the directory?)")]
    NotFormatted(String),
    /// The directory belongs to another node or to another cluster.
    #[error(
        "Stored node id {stored} doesn't match previous node id {configured} in {dir}/meta.properties. If you moved \
             your data, make sure your configured node id matches. If you intend to create a new node, you should \
             remove all data in your data directories."
    )]
    OtherNode {
        /// The directory.
        dir: String,
        /// As configured.
        configured: i32,
        /// As stored.
        stored: i32,
    },
    /// The directories do not agree on their cluster.
    #[error("Invalid cluster.id in: {dir}/meta.properties. Expected {expected}, but read {stored}")]
    OtherCluster {
        /// The directory.
        dir: String,
        /// That of the other directories.
        expected: String,
        /// As stored.
        stored: String,
    },
    /// The directory of the metadata log could not be read.
    #[error("Encountered I/O error in metadata log directory {dir}. Cannot continue. ({error})")]
    MetadataDir {
        /// The directory.
        dir: String,
        /// What the disk says.
        error: LogError,
    },
    /// None of the log directories could be read.
    #[error("Shutdown broker because none of the specified log dirs from {0} can be created or validated")]
    NoLogDir(String),
    /// A file of a log directory is not what it should be.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The records with which a new cluster begins could not be read.
    #[error("{0}")]
    Bootstrap(String),
    /// The metadata log could not be opened.
    #[error("{0}")]
    Raft(#[from] raft::OpenError),
}

impl Node {
    /// Formats the log directories of a new node, as `kafka-storage format` does: `meta.properties` in each of them, with
    /// directory ids drawn from `seed`, and what the metadata log of a new cluster begins with. All of it is durable
    /// when the tickets have come back.
    pub fn format(
        config: &NodeConfig,
        cluster: &NewCluster,
        seed: [u8; 32],
        now: Now,
        codecs: &dyn Codecs,
        disk: &mut dyn Disk,
    ) -> Result<Vec<Ticket>, FormatError> {
        let mut rng = Rng::from_seed(seed);
        let mut log_dirs = Vec::new();
        for dir in directories(config) {
            if disk.exists(&alloc::format!("{dir}/meta.properties")) {
                return Err(FormatError::AlreadyFormatted(dir.to_string()));
            }
            let mut id = random_uuid(&mut rng);
            // The first voters of a dynamic quorum are known by the directories of their metadata logs.
            let voters = cluster.voters.as_ref().filter(|_| dir == config.metadata.dir);
            if let Some(voter) = voters.and_then(|v| v.node(config.node_id)) {
                id = voter.key.directory_id;
            }
            log_dirs.push((dir.to_string(), id));
        }
        let options = FormatOptions {
            cluster_id: cluster.id.clone(),
            node_id: config.node_id,
            log_dirs,
            metadata_dir: config.metadata.dir.clone(),
            voters: cluster.voters.clone(),
            records: default_bootstrap_records(),
            now_ms: now.wall_ms,
        };
        Ok(raft::format::format(disk, codecs, &options)?)
    }

    /// Opens a node over what its disk holds. `seed` is that of this incarnation's own stream of chance.
    pub fn open(
        config: NodeConfig,
        seed: [u8; 32],
        now: Now,
        codecs: Arc<dyn Codecs>,
        disk: &mut dyn Disk,
    ) -> Result<Node, OpenError> {
        let mut rng = Rng::from_seed(seed);
        let dirs = open_directories(&config, disk)?;
        let cluster_id: Arc<str> = dirs[0].cluster_id().unwrap_or_default().into();
        let metadata_dir = dirs.iter().find(|d| d.path == config.metadata.dir).unwrap_or(&dirs[0]);
        let directory_id = metadata_dir.directory_id().unwrap_or(Uuid::ZERO);
        let raft_config = RaftConfig::new(&config, &cluster_id, directory_id);
        let raft = Raft::open(raft_config, now, disk, &*codecs, &mut rng)?;
        let bootstrap = raft::format::read_bootstrap(disk, &*codecs, &config.metadata.dir);
        let bootstrap = bootstrap.map_err(OpenError::Bootstrap)?;
        let incarnation_id = random_uuid(&mut rng);
        let clean = dirs.iter().all(|d| d.clean);
        let controller = config.roles.controller.then(|| ControllerRole {
            controller: Controller::new(&config, cluster_id.clone(), bootstrap),
            registrar: ControllerRegistrar::new(incarnation_id),
        });
        // What the replicas tell of their recovery is news of the first call.
        let mut out = Outputs::new(0);
        let broker = config.roles.broker.then(|| {
            let data: Vec<LogDir> = dirs.into_iter().filter(|d| config.log_dirs.contains(&d.path)).collect();
            let identity = Identity {
                cluster_id: cluster_id.to_string(),
                incarnation_id,
                directories: data.iter().filter_map(LogDir::directory_id).collect(),
                previous_broker_epoch: previous_epoch(&data),
            };
            Broker {
                lifecycle: BrokerLifecycle::new(&config, identity, now.mono),
                replicas: ReplicaManager::open(&config, data, now, disk, &*codecs, &mut out),
                forwarder: Forwarder::default(),
                producer_ids: ProducerIds::default(),
                transactions: TransactionCoordinator::default(),
                groups: GroupCoordinator::new(&config),
                follows_metadata: false,
                open: false,
            }
        });
        let told = out.items.into_iter().map(|item| match item {
            Output::Event(event) => event,
            other => unreachable!("opening replicas puts out events only, not {other:?}"),
        });
        let news: Vec<Event> = told.chain([Event::Started { clean }]).collect();
        let core = Core {
            cluster_id,
            raft,
            image: MetadataImage::default(),
            delta: ImageDelta::default(),
            image_epoch: 0,
            broker,
            controller,
            stopping: None,
            news,
            start_at: Some(now.mono),
            halted: false,
        };
        let net = Net::new(&config);
        let deadline = core.deadline(&net);
        Ok(Node { net, config: Arc::new(config), codecs, rng, core, deadline })
    }
}

/// The broker epoch that every directory was closed with, if they were all closed cleanly and agree.
fn previous_epoch(dirs: &[LogDir]) -> Option<i64> {
    let first = dirs.first()?.clean_broker_epoch?;
    dirs.iter().all(|d| d.clean_broker_epoch == Some(first)).then_some(first)
}

/// The log directories and the metadata log directory, each once.
fn directories(config: &NodeConfig) -> impl Iterator<Item = &str> {
    let metadata = Some(config.metadata.dir.as_str()).filter(|dir| !config.log_dirs.iter().any(|d| d == dir));
    metadata.into_iter().chain(config.log_dirs.iter().map(String::as_str))
}

/// Reads the directories. One that the disk does not give is offline from the beginning, unless the metadata log lies
/// there.
fn open_directories(config: &NodeConfig, disk: &mut dyn Disk) -> Result<Vec<LogDir>, OpenError> {
    let mut dirs: Vec<LogDir> = Vec::new();
    for path in directories(config) {
        let dir = match LogDir::open_with(path, disk, config.mutants) {
            Ok(dir) => dir,
            Err(error @ LogError::Disk { .. }) if path == config.metadata.dir => {
                return Err(OpenError::MetadataDir { dir: path.to_string(), error });
            }
            Err(LogError::Disk { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(cluster_id) = dir.cluster_id() else {
            return Err(OpenError::NotFormatted(path.to_string()));
        };
        if let Some(stored) = dir.node_id().filter(|id| *id != config.node_id) {
            return Err(OpenError::OtherNode { dir: path.to_string(), configured: config.node_id, stored });
        }
        if let Some(expected) = dirs.first().and_then(LogDir::cluster_id)
            && expected != cluster_id
        {
            return Err(OpenError::OtherCluster {
                dir: path.to_string(),
                expected: expected.to_string(),
                stored: cluster_id.to_string(),
            });
        }
        dirs.push(dir);
    }
    if config.roles.broker && !dirs.iter().any(|d| config.log_dirs.contains(&d.path)) {
        return Err(OpenError::NoLogDir(config.log_dirs.join(", ")));
    }
    Ok(dirs)
}

/// A random UUID whose text does not begin with a dash, which command lines would take for an option.
fn random_uuid(rng: &mut Rng) -> Uuid {
    loop {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        let id = Uuid::from_random(bytes);
        if !id.to_text().starts_with('-') {
            return id;
        }
    }
}
