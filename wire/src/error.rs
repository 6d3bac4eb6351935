//! Kafka's error codes (`Errors.java`): one table with their names, texts, Java exceptions and what a client may do.

use core::fmt;

/// An error code, as it stands in responses.
///
/// A code that the table lacks is kept as it is and otherwise treated as [`ErrorCode::UNKNOWN_SERVER_ERROR`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(pub i16);

/// What a client may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Nothing: the exception is not a `RetriableException`.
    Final,
    /// Try again: the exception is a `RetriableException`.
    Retry,
    /// Refresh the metadata and try again: the exception is an `InvalidMetadataException`.
    Refresh,
}

struct Row {
    code: i16,
    name: &'static str,
    remedy: Remedy,
    exception: &'static str,
    message: &'static str,
}

impl ErrorCode {
    fn row(self) -> &'static Row {
        // The table begins at -1 and has no gaps.
        let index = usize::try_from(self.0.saturating_add(1)).unwrap_or(0);
        TABLE.get(index).filter(|row| row.code == self.0).unwrap_or(&TABLE[0])
    }

    /// Whether it says that nothing went wrong.
    pub fn is_none(self) -> bool {
        self == ErrorCode::NONE
    }

    /// Whether it says that something went wrong.
    pub fn is_error(self) -> bool {
        self != ErrorCode::NONE
    }

    /// Kafka's name, such as `NOT_LEADER_OR_FOLLOWER`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Kafka's text, which stands for a message when a response has none. Empty for [`ErrorCode::NONE`].
    pub fn message(self) -> &'static str {
        if self.is_none() { "" } else { self.row().message }
    }

    /// Whether Java clients try again.
    pub fn retriable(self) -> bool {
        self.row().remedy != Remedy::Final
    }

    /// Whether Java clients refresh their metadata before they try again.
    pub fn refreshes_metadata(self) -> bool {
        self.row().remedy == Remedy::Refresh
    }

    /// The class of the Java exception, such as `org.apache.kafka.common.errors.TimeoutException`, which the tools
    /// print. Empty for [`ErrorCode::NONE`].
    pub fn exception(self) -> &'static str {
        if self.is_none() { "" } else { self.row().exception }
    }

    /// The class of the Java exception without its package.
    pub fn exception_simple(self) -> &'static str {
        self.exception().rsplit('.').next().unwrap_or("")
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.0
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> ErrorCode {
        ErrorCode(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

/// The table: name, code, remedy, exception (within `org.apache.kafka.common`) and text.
macro_rules! errors {
    ($($name:ident = $code:literal, $remedy:ident, $exception:literal, $message:literal;)*) => {
        impl ErrorCode {
            $(
                #[doc = $message]
                pub const $name: ErrorCode = ErrorCode($code);
            )*
        }

        static TABLE: &[Row] = &[$(Row {
            code: $code,
            name: stringify!($name),
            remedy: Remedy::$remedy,
            exception: concat!("org.apache.kafka.common.", $exception),
            message: $message,
        }),*];
    };
}

errors! {
    UNKNOWN_SERVER_ERROR = -1, Final, "errors.UnknownServerException", "The server experienced an unexpected error when processing the request.";
    NONE = 0, Final, "", "No error.";
    OFFSET_OUT_OF_RANGE = 1, Final, "errors.OffsetOutOfRangeException", "The requested offset is not within the range of offsets maintained by the server.";
    CORRUPT_MESSAGE = 2, Retry, "errors.CorruptRecordException", "This message has failed its CRC checksum, exceeds the valid size, has a null key for a compacted topic, or is otherwise corrupt.";
    UNKNOWN_TOPIC_OR_PARTITION = 3, Refresh, "errors.UnknownTopicOrPartitionException", "This server does not host this topic-partition.";
    INVALID_FETCH_SIZE = 4, Final, "errors.InvalidFetchSizeException", "The requested fetch size is invalid.";
    LEADER_NOT_AVAILABLE = 5, Refresh, "errors.LeaderNotAvailableException", "There is no leader for this topic-partition as we are in the middle of a leadership election.";
    NOT_LEADER_OR_FOLLOWER = 6, Refresh, "errors.NotLeaderOrFollowerException", "For requests intended only for the leader, this error indicates that the broker is not the current leader. For requests intended for any replica, this error indicates that the broker is not a replica of the topic partition.";
    REQUEST_TIMED_OUT = 7, Retry, "errors.TimeoutException", "The request timed out.";
    BROKER_NOT_AVAILABLE = 8, Final, "errors.BrokerNotAvailableException", "The broker is not available.";
    REPLICA_NOT_AVAILABLE = 9, Refresh, "errors.ReplicaNotAvailableException", "The replica is not available for the requested topic-partition. Produce/Fetch requests and other requests intended only for the leader or follower return NOT_LEADER_OR_FOLLOWER if the broker is not a replica of the topic-partition.";
    MESSAGE_TOO_LARGE = 10, Final, "errors.RecordTooLargeException", "The request included a message larger than the max message size the server will accept.";
    STALE_CONTROLLER_EPOCH = 11, Final, "errors.ControllerMovedException", "The controller moved to another broker.";
    OFFSET_METADATA_TOO_LARGE = 12, Final, "errors.OffsetMetadataTooLarge", "The metadata field of the offset request was too large.";
    NETWORK_EXCEPTION = 13, Refresh, "errors.NetworkException", "The server disconnected before a response was received.";
    COORDINATOR_LOAD_IN_PROGRESS = 14, Retry, "errors.CoordinatorLoadInProgressException", "The coordinator is loading and hence can't process requests.";
    COORDINATOR_NOT_AVAILABLE = 15, Retry, "errors.CoordinatorNotAvailableException", "The coordinator is not available.";
    NOT_COORDINATOR = 16, Retry, "errors.NotCoordinatorException", "This is not the correct coordinator.";
    INVALID_TOPIC_EXCEPTION = 17, Final, "errors.InvalidTopicException", "The request attempted to perform an operation on an invalid topic.";
    RECORD_LIST_TOO_LARGE = 18, Final, "errors.RecordBatchTooLargeException", "The request included message batch larger than the configured segment size on the server.";
    NOT_ENOUGH_REPLICAS = 19, Retry, "errors.NotEnoughReplicasException", "Messages are rejected since there are fewer in-sync replicas than required.";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, Retry, "errors.NotEnoughReplicasAfterAppendException", "Messages are written to the log, but to fewer in-sync replicas than required.";
    INVALID_REQUIRED_ACKS = 21, Final, "errors.InvalidRequiredAcksException", "Produce request specified an invalid value for required acks.";
    ILLEGAL_GENERATION = 22, Final, "errors.IllegalGenerationException", "Specified group generation id is not valid.";
    INCONSISTENT_GROUP_PROTOCOL = 23, Final, "errors.InconsistentGroupProtocolException", "The group member's supported protocols are incompatible with those of existing members or first group member tried to join with empty protocol type or empty protocol list.";
    INVALID_GROUP_ID = 24, Final, "errors.InvalidGroupIdException", "The group id is invalid.";
    UNKNOWN_MEMBER_ID = 25, Final, "errors.UnknownMemberIdException", "The coordinator is not aware of this member.";
    INVALID_SESSION_TIMEOUT = 26, Final, "errors.InvalidSessionTimeoutException", "The session timeout is not within the range allowed by the broker (as configured by group.min.session.timeout.ms and group.max.session.timeout.ms).";
    REBALANCE_IN_PROGRESS = 27, Final, "errors.RebalanceInProgressException", "The group is rebalancing, so a rejoin is needed.";
    INVALID_COMMIT_OFFSET_SIZE = 28, Final, "errors.InvalidCommitOffsetSizeException", "The committing offset data size is not valid.";
    TOPIC_AUTHORIZATION_FAILED = 29, Final, "errors.TopicAuthorizationException", "Topic authorization failed.";
    GROUP_AUTHORIZATION_FAILED = 30, Final, "errors.GroupAuthorizationException", "Group authorization failed.";
    CLUSTER_AUTHORIZATION_FAILED = 31, Final, "errors.ClusterAuthorizationException", "Cluster authorization failed.";
    INVALID_TIMESTAMP = 32, Final, "errors.InvalidTimestampException", "The timestamp of the message is out of acceptable range.";
    UNSUPPORTED_SASL_MECHANISM = 33, Final, "errors.UnsupportedSaslMechanismException", "The broker does not support the requested SASL mechanism.";
    ILLEGAL_SASL_STATE = 34, Final, "errors.IllegalSaslStateException", "Request is not valid given the current SASL state.";
    UNSUPPORTED_VERSION = 35, Final, "errors.UnsupportedVersionException", "The version of API is not supported.";
    TOPIC_ALREADY_EXISTS = 36, Final, "errors.TopicExistsException", "Topic with this name already exists.";
    INVALID_PARTITIONS = 37, Final, "errors.InvalidPartitionsException", "Number of partitions is below 1.";
    INVALID_REPLICATION_FACTOR = 38, Final, "errors.InvalidReplicationFactorException", "Replication factor is below 1 or larger than the number of available brokers.";
    INVALID_REPLICA_ASSIGNMENT = 39, Final, "errors.InvalidReplicaAssignmentException", "Replica assignment is invalid.";
    INVALID_CONFIG = 40, Final, "errors.InvalidConfigurationException", "Configuration is invalid.";
    NOT_CONTROLLER = 41, Retry, "errors.NotControllerException", "This is not the correct controller for this cluster.";
    INVALID_REQUEST = 42, Final, "errors.InvalidRequestException", "This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.";
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, Final, "errors.UnsupportedForMessageFormatException", "The message format version on the broker does not support the request.";
    POLICY_VIOLATION = 44, Final, "errors.PolicyViolationException", "Request parameters do not satisfy the configured policy.";
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, Final, "errors.OutOfOrderSequenceException", "The broker received an out of order sequence number.";
    DUPLICATE_SEQUENCE_NUMBER = 46, Final, "errors.DuplicateSequenceException", "The broker received a duplicate sequence number.";
    INVALID_PRODUCER_EPOCH = 47, Final, "errors.InvalidProducerEpochException", "Producer attempted to produce with an old epoch.";
    INVALID_TXN_STATE = 48, Final, "errors.InvalidTxnStateException", "The producer attempted a transactional operation in an invalid state.";
    INVALID_PRODUCER_ID_MAPPING = 49, Final, "errors.InvalidPidMappingException", "The producer attempted to use a producer id which is not currently assigned to its transactional id.";
    INVALID_TRANSACTION_TIMEOUT = 50, Final, "errors.InvalidTxnTimeoutException", "The transaction timeout is larger than the maximum value allowed by the broker (as configured by transaction.max.timeout.ms).";
    CONCURRENT_TRANSACTIONS = 51, Retry, "errors.ConcurrentTransactionsException", "The producer attempted to update a transaction while another concurrent operation on the same transaction was ongoing.";
    TRANSACTION_COORDINATOR_FENCED = 52, Final, "errors.TransactionCoordinatorFencedException", "Indicates that the transaction coordinator sending a WriteTxnMarker is no longer the current coordinator for a given producer.";
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, Final, "errors.TransactionalIdAuthorizationException", "Transactional Id authorization failed.";
    SECURITY_DISABLED = 54, Final, "errors.SecurityDisabledException", "Security features are disabled.";
    OPERATION_NOT_ATTEMPTED = 55, Final, "errors.OperationNotAttemptedException", "The broker did not attempt to execute this operation. This may happen for batched RPCs where some operations in the batch failed, causing the broker to respond without trying the rest.";
    KAFKA_STORAGE_ERROR = 56, Refresh, "errors.KafkaStorageException", "Disk error when trying to access log file on the disk.";
    LOG_DIR_NOT_FOUND = 57, Final, "errors.LogDirNotFoundException", "The user-specified log directory is not found in the broker config.";
    SASL_AUTHENTICATION_FAILED = 58, Final, "errors.SaslAuthenticationException", "SASL Authentication failed.";
    UNKNOWN_PRODUCER_ID = 59, Final, "errors.UnknownProducerIdException", "This exception is raised by the broker if it could not locate the producer metadata associated with the producerId in question. This could happen if, for instance, the producer's records were deleted because their retention time had elapsed. Once the last records of the producerId are removed, the producer's metadata is removed from the broker, and future appends by the producer will return this exception.";
    REASSIGNMENT_IN_PROGRESS = 60, Final, "errors.ReassignmentInProgressException", "A partition reassignment is in progress.";
    DELEGATION_TOKEN_AUTH_DISABLED = 61, Final, "errors.DelegationTokenDisabledException", "Delegation Token feature is not enabled.";
    DELEGATION_TOKEN_NOT_FOUND = 62, Final, "errors.DelegationTokenNotFoundException", "Delegation Token is not found on server.";
    DELEGATION_TOKEN_OWNER_MISMATCH = 63, Final, "errors.DelegationTokenOwnerMismatchException", "Specified Principal is not valid Owner/Renewer.";
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = 64, Final, "errors.UnsupportedByAuthenticationException", "Delegation Token requests are not allowed on PLAINTEXT/1-way SSL channels and on delegation token authenticated channels.";
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, Final, "errors.DelegationTokenAuthorizationException", "Delegation Token authorization failed.";
    DELEGATION_TOKEN_EXPIRED = 66, Final, "errors.DelegationTokenExpiredException", "Delegation Token is expired.";
    INVALID_PRINCIPAL_TYPE = 67, Final, "errors.InvalidPrincipalTypeException", "Supplied principalType is not supported.";
    NON_EMPTY_GROUP = 68, Final, "errors.GroupNotEmptyException", "The group is not empty.";
    GROUP_ID_NOT_FOUND = 69, Final, "errors.GroupIdNotFoundException", "The group id does not exist.";
    FETCH_SESSION_ID_NOT_FOUND = 70, Retry, "errors.FetchSessionIdNotFoundException", "The fetch session ID was not found.";
    INVALID_FETCH_SESSION_EPOCH = 71, Retry, "errors.InvalidFetchSessionEpochException", "The fetch session epoch is invalid.";
    LISTENER_NOT_FOUND = 72, Refresh, "errors.ListenerNotFoundException", "There is no listener on the leader broker that matches the listener on which metadata request was processed.";
    TOPIC_DELETION_DISABLED = 73, Final, "errors.TopicDeletionDisabledException", "Topic deletion is disabled.";
    FENCED_LEADER_EPOCH = 74, Refresh, "errors.FencedLeaderEpochException", "The leader epoch in the request is older than the epoch on the broker.";
    UNKNOWN_LEADER_EPOCH = 75, Retry, "errors.UnknownLeaderEpochException", "The leader epoch in the request is newer than the epoch on the broker.";
    UNSUPPORTED_COMPRESSION_TYPE = 76, Final, "errors.UnsupportedCompressionTypeException", "The requesting client does not support the compression type of given partition.";
    STALE_BROKER_EPOCH = 77, Final, "errors.StaleBrokerEpochException", "Broker epoch has changed.";
    OFFSET_NOT_AVAILABLE = 78, Retry, "errors.OffsetNotAvailableException", "The leader high watermark has not caught up from a recent leader election so the offsets cannot be guaranteed to be monotonically increasing.";
    MEMBER_ID_REQUIRED = 79, Final, "errors.MemberIdRequiredException", "The group member needs to have a valid member id before actually entering a consumer group.";
    PREFERRED_LEADER_NOT_AVAILABLE = 80, Refresh, "errors.PreferredLeaderNotAvailableException", "The preferred leader was not available.";
    GROUP_MAX_SIZE_REACHED = 81, Final, "errors.GroupMaxSizeReachedException", "The group has reached its maximum size.";
    FENCED_INSTANCE_ID = 82, Final, "errors.FencedInstanceIdException", "The broker rejected this static consumer since another consumer with the same group.instance.id has registered with a different member.id.";
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, Refresh, "errors.EligibleLeadersNotAvailableException", "Eligible topic partition leaders are not available.";
    ELECTION_NOT_NEEDED = 84, Refresh, "errors.ElectionNotNeededException", "Leader election not needed for topic partition.";
    NO_REASSIGNMENT_IN_PROGRESS = 85, Final, "errors.NoReassignmentInProgressException", "No partition reassignment is in progress.";
    GROUP_SUBSCRIBED_TO_TOPIC = 86, Final, "errors.GroupSubscribedToTopicException", "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.";
    INVALID_RECORD = 87, Final, "InvalidRecordException", "This record has failed the validation on broker and hence will be rejected.";
    UNSTABLE_OFFSET_COMMIT = 88, Retry, "errors.UnstableOffsetCommitException", "There are unstable offsets that need to be cleared.";
    THROTTLING_QUOTA_EXCEEDED = 89, Retry, "errors.ThrottlingQuotaExceededException", "The throttling quota has been exceeded.";
    PRODUCER_FENCED = 90, Final, "errors.ProducerFencedException", "There is a newer producer with the same transactionalId which fences the current one.";
    RESOURCE_NOT_FOUND = 91, Final, "errors.ResourceNotFoundException", "A request illegally referred to a resource that does not exist.";
    DUPLICATE_RESOURCE = 92, Final, "errors.DuplicateResourceException", "A request illegally referred to the same resource twice.";
    UNACCEPTABLE_CREDENTIAL = 93, Final, "errors.UnacceptableCredentialException", "Requested credential would not meet criteria for acceptability.";
    INCONSISTENT_VOTER_SET = 94, Final, "errors.InconsistentVoterSetException", "Indicates that the either the sender or recipient of a voter-only request is not one of the expected voters.";
    INVALID_UPDATE_VERSION = 95, Final, "errors.InvalidUpdateVersionException", "The given update version was invalid.";
    FEATURE_UPDATE_FAILED = 96, Final, "errors.FeatureUpdateFailedException", "Unable to update finalized features due to an unexpected server error.";
    PRINCIPAL_DESERIALIZATION_FAILURE = 97, Final, "errors.PrincipalDeserializationException", "Request principal deserialization failed during forwarding. This indicates an internal error on the broker cluster security setup.";
    SNAPSHOT_NOT_FOUND = 98, Final, "errors.SnapshotNotFoundException", "Requested snapshot was not found.";
    POSITION_OUT_OF_RANGE = 99, Final, "errors.PositionOutOfRangeException", "Requested position is not greater than or equal to zero, and less than the size of the snapshot.";
    UNKNOWN_TOPIC_ID = 100, Refresh, "errors.UnknownTopicIdException", "This server does not host this topic ID.";
    DUPLICATE_BROKER_REGISTRATION = 101, Final, "errors.DuplicateBrokerRegistrationException", "This broker ID is already in use.";
    BROKER_ID_NOT_REGISTERED = 102, Final, "errors.BrokerIdNotRegisteredException", "The given broker ID was not registered.";
    INCONSISTENT_TOPIC_ID = 103, Refresh, "errors.InconsistentTopicIdException", "The log's topic ID did not match the topic ID in the request.";
    INCONSISTENT_CLUSTER_ID = 104, Final, "errors.InconsistentClusterIdException", "The clusterId in the request does not match that found on the server.";
    TRANSACTIONAL_ID_NOT_FOUND = 105, Final, "errors.TransactionalIdNotFoundException", "The transactionalId could not be found.";
    FETCH_SESSION_TOPIC_ID_ERROR = 106, Retry, "errors.FetchSessionTopicIdException", "The fetch session encountered inconsistent topic ID usage.";
    INELIGIBLE_REPLICA = 107, Final, "errors.IneligibleReplicaException", "The new ISR contains at least one ineligible replica.";
    NEW_LEADER_ELECTED = 108, Final, "errors.NewLeaderElectedException", "The AlterPartition request successfully updated the partition state but the leader has changed.";
    OFFSET_MOVED_TO_TIERED_STORAGE = 109, Final, "errors.OffsetMovedToTieredStorageException", "The requested offset is moved to tiered storage.";
    FENCED_MEMBER_EPOCH = 110, Final, "errors.FencedMemberEpochException", "The member epoch is fenced by the group coordinator. The member must abandon all its partitions and rejoin.";
    UNRELEASED_INSTANCE_ID = 111, Final, "errors.UnreleasedInstanceIdException", "The instance ID is still used by another member in the consumer group. That member must leave first.";
    UNSUPPORTED_ASSIGNOR = 112, Final, "errors.UnsupportedAssignorException", "The assignor or its version range is not supported by the consumer group.";
    STALE_MEMBER_EPOCH = 113, Final, "errors.StaleMemberEpochException", "The member epoch is stale. The member must retry after receiving its updated member epoch via the ConsumerGroupHeartbeat API.";
    MISMATCHED_ENDPOINT_TYPE = 114, Final, "errors.MismatchedEndpointTypeException", "The request was sent to an endpoint of the wrong type.";
    UNSUPPORTED_ENDPOINT_TYPE = 115, Final, "errors.UnsupportedEndpointTypeException", "This endpoint type is not supported yet.";
    UNKNOWN_CONTROLLER_ID = 116, Final, "errors.UnknownControllerIdException", "This controller ID is not known.";
    UNKNOWN_SUBSCRIPTION_ID = 117, Final, "errors.UnknownSubscriptionIdException", "Client sent a push telemetry request with an invalid or outdated subscription ID.";
    TELEMETRY_TOO_LARGE = 118, Final, "errors.TelemetryTooLargeException", "Client sent a push telemetry request larger than the maximum size the broker will accept.";
    INVALID_REGISTRATION = 119, Final, "errors.InvalidRegistrationException", "The controller has considered the broker registration to be invalid.";
    TRANSACTION_ABORTABLE = 120, Final, "errors.TransactionAbortableException", "The server encountered an error with the transaction. The client can abort the transaction to continue using this transactional ID.";
    INVALID_RECORD_STATE = 121, Final, "errors.InvalidRecordStateException", "The record state is invalid. The acknowledgement of delivery could not be completed.";
    SHARE_SESSION_NOT_FOUND = 122, Retry, "errors.ShareSessionNotFoundException", "The share session was not found.";
    INVALID_SHARE_SESSION_EPOCH = 123, Retry, "errors.InvalidShareSessionEpochException", "The share session epoch is invalid.";
    FENCED_STATE_EPOCH = 124, Final, "errors.FencedStateEpochException", "The coordinator rejected the request because the state epoch did not match.";
    INVALID_VOTER_KEY = 125, Final, "errors.InvalidVoterKeyException", "The voter key doesn't match the receiving replica's key.";
    DUPLICATE_VOTER = 126, Final, "errors.DuplicateVoterException", "The voter is already part of the set of voters.";
    VOTER_NOT_FOUND = 127, Final, "errors.VoterNotFoundException", "The voter is not part of the set of voters.";
    INVALID_REGULAR_EXPRESSION = 128, Final, "errors.InvalidRegularExpression", "The regular expression is not valid.";
    REBOOTSTRAP_REQUIRED = 129, Final, "errors.RebootstrapRequiredException", "Client metadata is stale. The client should rebootstrap to obtain new metadata.";
    STREAMS_INVALID_TOPOLOGY = 130, Final, "errors.StreamsInvalidTopologyException", "The supplied topology is invalid.";
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, Final, "errors.StreamsInvalidTopologyEpochException", "The supplied topology epoch is invalid.";
    STREAMS_TOPOLOGY_FENCED = 132, Final, "errors.StreamsTopologyFencedException", "The supplied topology epoch is outdated.";
    SHARE_SESSION_LIMIT_REACHED = 133, Retry, "errors.ShareSessionLimitReachedException", "The limit of share sessions has been reached.";
    GROUP_DELETION_FAILED = 134, Final, "errors.GroupDeletionFailedException", "DeleteGroups could not complete; see the error message on the per-group result for details.";
    STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED = 135, Final, "errors.StreamsTopologyDescriptionUpdateFailedException", "The broker could not process the topology description update; see the error message for details.";
    CONTROLLER_ID_NOT_REGISTERED = 136, Final, "errors.ControllerIdNotRegisteredException", "The given controller ID was not registered.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_gaps() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code, index as i16 - 1);
            assert_eq!(ErrorCode(row.code).name(), row.name);
        }
        assert_eq!(TABLE.len(), 138);
    }

    #[test]
    fn unknown_codes_are_unknown_server_errors() {
        for code in [i16::MIN, -2, 137, i16::MAX] {
            assert_eq!(ErrorCode(code).name(), "UNKNOWN_SERVER_ERROR");
            assert!(ErrorCode(code).is_error() && !ErrorCode(code).retriable());
        }
    }

    #[test]
    fn clients_know_what_to_do() {
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.refreshes_metadata());
        assert!(
            ErrorCode::REQUEST_TIMED_OUT.retriable() && !ErrorCode::REQUEST_TIMED_OUT.refreshes_metadata()
        );
        assert!(!ErrorCode::MESSAGE_TOO_LARGE.retriable());
        assert_eq!(
            ErrorCode::REQUEST_TIMED_OUT.exception(),
            "org.apache.kafka.common.errors.TimeoutException"
        );
        assert_eq!(ErrorCode::REQUEST_TIMED_OUT.exception_simple(), "TimeoutException");
        assert_eq!(ErrorCode::INVALID_RECORD.exception(), "org.apache.kafka.common.InvalidRecordException");
        assert_eq!(ErrorCode::NONE.exception_simple(), "");
        assert_eq!(ErrorCode::NONE.message(), "");
    }
}
