use super::*;

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn broker(extra: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
    let mut all = given(&[
        ("process.roles", "broker"),
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://broker-1:9092"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "101@controller-101:9093"),
        ("log.dirs", "/data/broker-1"),
    ]);
    all.extend(given(extra));
    NodeConfig::parse(&all)
}

#[test]
fn the_tables_are_sorted_and_their_defaults_valid() {
    for table in [NODE_KEYS, TOPIC_KEYS] {
        assert!(table.is_sorted_by(|a, b| a.name < b.name));
        for key in table {
            if let Some(default) = key.default.filter(|d| !(d.is_empty() && key.kind == Kind::Int)) {
                key.parse(default).unwrap_or_else(|e| panic!("default: {e}"));
            }
            if let Some(server) = key.server_synonym {
                assert!(node_key(server).is_some(), "{server}");
            }
        }
    }
}

#[test]
fn a_broker_is_parsed_with_kafkas_defaults() {
    let config = broker(&[]).unwrap();
    assert_eq!(config.node_id, 1);
    assert_eq!(config.roles, Roles { broker: true, controller: false });
    assert_eq!(config.log_dirs, ["data/broker-1"]);
    assert_eq!(config.metadata.dir, "data/broker-1");
    assert_eq!(config.quorum.voters[0].to_string(), "101@controller-101:9093");
    assert_eq!(config.quorum.fetch_timeout, Nanos::from_secs(2));
    assert_eq!(config.controller.session_timeout, Nanos::from_secs(9));
    assert_eq!(config.lifecycle.heartbeat_interval, Nanos::from_secs(2));
    assert_eq!(config.replica.lag_time_max, Nanos::from_secs(30));
    assert_eq!(config.broker_listener().unwrap().endpoint, Endpoint::new("broker-1", 9092));
    assert_eq!(config.controller_listener(), None);
    assert_eq!(config.log_config(Dynamic::default()), crate::log::LogConfig::default());
}

#[test]
fn what_kafka_refuses_is_refused() {
    for (extra, want) in [
        (("broker.rak", "a"), "unknown configuration broker.rak (did you mean broker.rack?)"),
        (("colour", "red"), "unknown configuration colour"),
        (("node.id", "one"), "Invalid value one for configuration node.id: Not a number of type INT"),
        (
            ("num.partitions", "0"),
            "Invalid value 0 for configuration num.partitions: Value must be at least 1",
        ),
        (
            ("node.id", "101"),
            "If process.roles contains just the 'broker' role, the node id 101 must not be included in the set of \
             voters controller.quorum.voters=101@controller-101:9093",
        ),
        (
            ("process.roles", "broker,controller"),
            "If process.roles contains the 'controller' role, the node id 1 must be included in the set of voters \
             controller.quorum.voters=101@controller-101:9093",
        ),
        (("listeners", "nonsense"), "Unable to parse nonsense to a broker endpoint"),
        (
            ("replica.lag.time.max.ms", "100"),
            "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent \
             frequent changes in ISR",
        ),
    ] {
        assert_eq!(broker(&[extra]).unwrap_err().to_string(), want);
    }
    assert_eq!(NodeConfig::parse(&given(&[])), Err(ConfigError::Missing("process.roles")));
}

#[test]
fn a_topics_setting_comes_from_the_first_layer_that_has_it() {
    let config = broker(&[("log.retention.hours", "1"), ("message.max.bytes", "2000")]).unwrap();
    let topic = overrides(&[("retention.ms", "60000"), ("cleanup.policy", "compact, delete")]);
    let own = overrides(&[("message.max.bytes", "3000")]);
    let cluster = overrides(&[("message.max.bytes", "4000"), ("min.insync.replicas", "1")]);
    let none = Dynamic::default();
    assert_eq!(config.topic_number(none, "retention.ms"), 3_600_000);
    assert_eq!(config.topic_number(none, "max.message.bytes"), 2000);
    let dynamic = Dynamic { cluster: Some(&cluster), ..none };
    assert_eq!(config.topic_number(dynamic, "max.message.bytes"), 4000);
    let dynamic = Dynamic { topic: Some(&topic), broker: Some(&own), cluster: Some(&cluster) };
    assert_eq!(config.topic_number(dynamic, "max.message.bytes"), 3000);
    let log = config.log_config(dynamic);
    assert_eq!((log.retention_ms, log.compact, log.delete), (60_000, true, true));
}

/// The line that `kafka-configs --describe --all` prints of a setting.
fn line(described: &[Described], name: &str) -> String {
    let d = described.iter().find(|d| d.name == name).unwrap();
    let source = |s: ConfigSource| match s {
        ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        ConfigSource::Group => "GROUP_CONFIG",
    };
    let null = || "null".to_string();
    let synonyms: Vec<String> = d
        .synonyms
        .iter()
        .map(|s| format!("{}:{}={}", source(s.source), s.name, s.value.clone().unwrap_or_else(null)))
        .collect();
    let value = d.value.clone().unwrap_or_else(null);
    format!("{}={value} sensitive={} synonyms={{{}}}", d.name, d.sensitive, synonyms.join(", "))
}

#[test]
fn settings_are_described_as_apache_kafka_describes_them() {
    let config = broker(&[]).unwrap();
    let topic = overrides(&[("retention.ms", "60000"), ("min.insync.replicas", "2")]);
    let own = overrides(&[("log.cleaner.threads", "2"), ("leader.replication.throttled.rate", "50000")]);
    let cluster = overrides(&[("min.insync.replicas", "1"), ("leader.replication.throttled.rate", "60000")]);
    let dynamic = Dynamic { topic: Some(&topic), broker: Some(&own), cluster: Some(&cluster) };
    let topics = config.describe_topic(dynamic);
    let nodes = config.describe_node(dynamic);
    // Each line as captured from Apache Kafka 4.3.1.
    for want in [
        "min.insync.replicas=2 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:min.insync.replicas=2, \
         DYNAMIC_DEFAULT_BROKER_CONFIG:min.insync.replicas=1, DEFAULT_CONFIG:min.insync.replicas=1}",
        "retention.ms=60000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=60000}",
        "flush.ms=9223372036854775807 sensitive=false synonyms={}",
        "segment.ms=604800000 sensitive=false synonyms={}",
        "max.message.bytes=1048588 sensitive=false synonyms={DEFAULT_CONFIG:message.max.bytes=1048588}",
        "remote.storage.enable=false sensitive=false synonyms={}",
        "follower.replication.throttled.replicas= sensitive=false synonyms={}",
    ] {
        assert_eq!(line(&topics, want.split_once('=').unwrap().0), want);
    }
    for want in [
        "broker.id=1 sensitive=false synonyms={STATIC_BROKER_CONFIG:broker.id=1, DEFAULT_CONFIG:broker.id=-1}",
        "node.id=1 sensitive=false synonyms={STATIC_BROKER_CONFIG:node.id=1}",
        "log.retention.ms=null sensitive=false synonyms={}",
        "log.retention.hours=168 sensitive=false synonyms={DEFAULT_CONFIG:log.retention.hours=168}",
        "log.cleaner.threads=2 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:log.cleaner.threads=2, \
         DEFAULT_CONFIG:log.cleaner.threads=1}",
        "leader.replication.throttled.rate=50000 sensitive=false \
         synonyms={DYNAMIC_BROKER_CONFIG:leader.replication.throttled.rate=50000, \
         DYNAMIC_DEFAULT_BROKER_CONFIG:leader.replication.throttled.rate=60000}",
        "ssl.key.password=null sensitive=true synonyms={}",
        "listeners=PLAINTEXT://broker-1:9092 sensitive=false synonyms={STATIC_BROKER_CONFIG:listeners=PLAINTEXT://broker-1:9092, \
         DEFAULT_CONFIG:listeners=PLAINTEXT://:9092}",
    ] {
        assert_eq!(line(&nodes, want.split_once('=').unwrap().0), want);
    }
    assert_eq!(topics.len(), 33);
    assert!(topics.is_sorted_by(|a, b| a.name < b.name));
    assert!(nodes.is_sorted_by(|a, b| a.name < b.name));
    assert!(nodes.iter().all(|d| d.name != "follower.replication.throttled.rate"), "it is not set");
    let shared = config.describe_cluster_default(&cluster);
    assert_eq!(
        line(&shared, "min.insync.replicas"),
        "min.insync.replicas=1 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:min.insync.replicas=1}"
    );
}

#[test]
fn overrides_are_refused_in_kafkas_words() {
    assert_eq!(validate_topic("nope", "2").unwrap_err(), "Unknown topic config name: nope");
    assert_eq!(
        validate_topic("min.insync.replicas", "zero").unwrap_err(),
        "Invalid value zero for configuration min.insync.replicas: Not a number of type INT"
    );
    assert_eq!(validate_topic("retention.ms", "60000"), Ok(()));
    assert_eq!(
        validate_broker_override("broker.id", Some("7"), true),
        Err("Cannot update these configs dynamically: [broker.id]".into())
    );
    assert_eq!(validate_broker_override("log.cleaner.threads", Some("2"), true), Ok(()));
    assert!(validate_broker_override("log.cleaner.threads", Some("0"), true).is_ok());
    for (name, value, want) in [
        ("num.io.threads", "0", "Value must be at least 1"),
        ("leader.replication.throttled.rate", "-1", "Value must be at least 0"),
        ("leader.replication.throttled.rate", "1.5", "Not a number of type LONG"),
        ("follower.replication.throttled.rate", "", "Not a number of type LONG"),
    ] {
        let refused = format!("Invalid value {value} for configuration {name}: {want}");
        assert_eq!(validate_broker_override(name, Some(value), false), Err(refused));
    }
    assert_eq!(validate_broker_override("leader.replication.throttled.rate", Some("  7 "), true), Ok(()));
    let replicas = "leader.replication.throttled.replicas";
    assert_eq!(validate_topic(replicas, "0:1,0:2"), Ok(()));
    for (value, shown) in [("0-1,2:3", "[0-1, 2:3]"), ("*,0:1", "[*, 0:1]"), ("-1:2", "[-1:2]")] {
        let refused = format!(
            "Invalid value {shown} for configuration {replicas}: {replicas} must be the literal '*' or a list of replicas \
             in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
        );
        assert_eq!(validate_topic(replicas, value), Err(refused));
    }
}
