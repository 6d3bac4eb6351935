//! The tables of the scenario format: every key of every object, with what it means.

use serde_json::{Map, Value, json};

use super::shape::{Field, Object, Shape, opt, req};

const NAMES: Shape = Shape::List(&Shape::Text);
const CONFIG: Shape = Shape::Map(&Shape::Scalar);
const IDS: Shape = Shape::List(&Shape::Int(0, 1_000_000));

/// A scenario file.
pub const SCENARIO: Shape = Shape::Object(&Object {
    name: "a scenario",
    doc: "A cluster, its topics and clients, and what happens to them.",
    fields: &[
        opt("$schema", Shape::Text, "Where editors find this schema."),
        req("title", Shape::Text, "One line that says what happens."),
        opt("about", Shape::Text, "The question that the scenario answers."),
        opt("from", Shape::Text, "The lab sheet, paper or bug that it comes from."),
        req("cluster", CLUSTER, "Brokers and controllers."),
        opt("topics", Shape::List(&TOPIC), "Topics that exist at 0.0 s."),
        opt("clients", Shape::Map(&CLIENT), "Clients by name."),
        req("steps", Shape::List(&STEP), "What happens, in order."),
        opt("finally", FINALLY, "What must hold at the end."),
        opt("variants", Shape::Map(&VARIANT), "The same sheet with one thing flipped."),
        opt("limit", Shape::Duration, "Longest virtual time of a run; 1h."),
        opt(
            "sometimes",
            NAMES,
            "Domain events that some runs of a sweep should reach, such as LogTruncated.",
        ),
        opt(
            "swarm",
            Shape::Map(&Shape::Either(
                &[Shape::List(&Shape::Json), Shape::Text],
                "values to draw from such as [1, 3, 5], or a range of whole numbers such as \"3..5\"",
            )),
            "JSON pointers, and the values of which each seed draws one to put there.",
        ),
    ],
});

const CLUSTER: Shape = Shape::Object(&Object {
    name: "a cluster",
    doc: "A count gives ids 1, 2, … to brokers and 101, 102, … to controllers.",
    fields: &[
        req(
            "brokers",
            Shape::Either(
                &[Shape::Int(1, 1000), IDS, Shape::Map(&NODE)],
                "a count, a list of ids, or an object by id",
            ),
            "A count, a list of ids, or an object by id with rack and config.",
        ),
        opt(
            "controllers",
            Shape::Either(
                &[Shape::Words(&["combined"]), Shape::Int(1, 99), IDS, Shape::Map(&NODE)],
                "a count, a list of ids, an object by id, or \"combined\"",
            ),
            "The same; \"combined\" gives every broker both roles. 1 unless given.",
        ),
        opt("config", CONFIG, "Kafka's settings for every node."),
        opt("network", NETWORK, "How the links start."),
        opt("host", HOST, "What work costs a node and its disk."),
        opt("mutants", NAMES, "Known bugs to switch on, in all nodes and clients: mutants.md lists them."),
    ],
});

const NODE: Shape = Shape::Object(&Object {
    name: "a node",
    doc: "One broker or controller.",
    fields: &[
        opt("rack", Shape::Text, "broker.rack"),
        opt("voter", Shape::Bool, "false: a controller that does not vote when the cluster begins."),
        opt("config", CONFIG, "Kafka's settings for this node."),
    ],
});

const NETWORK: Shape = Shape::Object(&Object {
    name: "a network",
    doc: "Every link, each way.",
    fields: &[
        opt("latency", Shape::DurationRange, "200us..600us unless given."),
        opt("bandwidth", Shape::Bandwidth, "Unlimited unless given."),
        opt("loss", Shape::Share, "Share of packets that are retransmitted; 0 unless given."),
        opt("tail", TAIL, "A share of messages with another latency."),
        opt("connect", Shape::DurationRange, "How much longer new connections take to stand."),
    ],
});

const HOST: Shape = Shape::Object(&Object {
    name: "a host",
    doc: "What work costs.",
    fields: &[
        opt("request", Shape::Duration, "A request; 10us unless given."),
        opt("per_kib", Shape::Duration, "Each KiB of a request; 1us unless given."),
        opt("fsync", Shape::DurationRange, "A flush; 200us..2ms unless given."),
        opt("start", Shape::DurationRange, "From start to listening; 300ms..600ms unless given."),
    ],
});

const TOPIC: Shape = Shape::Object(&Object {
    name: "a topic",
    doc: "With partitions and replication_factor, or with assignment.",
    fields: &[
        req("name", Shape::Text, "The topic's name."),
        opt("partitions", Shape::Int(1, 100_000), "How many; 1 unless given."),
        opt("replication_factor", Shape::Int(1, 1000), "Replicas of each partition; 1 unless given."),
        opt("assignment", Shape::List(&IDS), "Replicas of each partition, the preferred leader first."),
        opt("config", CONFIG, "Kafka's topic settings."),
    ],
});

const CLIENT: Shape = Shape::Object(&Object {
    name: "a client",
    doc: "Exactly one of the five kinds.",
    fields: &[
        opt("producer", PRODUCER, "Sends values NAME-0, NAME-1, …"),
        opt("consumer", CONSUMER, "Reads, in a group or with assigned partitions."),
        opt("transactional", TRANSACTIONAL, "Consumes, transforms, produces, in transactions."),
        opt("admin", ADMIN, "Runs a command again and again."),
        opt("hostile", HOSTILE, "Sends what no honest client sends."),
    ],
});

/// The kinds of clients.
pub const CLIENT_KINDS: [&str; 5] = ["producer", "consumer", "transactional", "admin", "hostile"];

const COMMON: [Field; 4] = [
    opt("config", CONFIG, "Kafka's client settings."),
    opt("start", Shape::Words(&["now", "later"]), "\"later\": a step starts it."),
    opt("instances", Shape::Int(1, 1000), "That many processes, NAME.1, NAME.2, …"),
    opt("rack", Shape::Text, "client.rack"),
];

const PRODUCER: Shape = Shape::Object(&Object {
    name: "a producer",
    doc: "Values are NAME-0, NAME-1, … padded to size; send times are regular.",
    fields: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        req("topic", Shape::Text, "Where it sends."),
        opt("rate", Shape::Rate, "10/s unless given."),
        opt("count", Shape::Int(0, i64::MAX), "So many, then it flushes and idles."),
        opt("keys", Shape::Int(0, 1_000_000_000), "Distinct keys k0, k1, … in turn; 0: none."),
        opt("size", Shape::Size, "Of a value; 100 bytes unless given."),
        opt("partition", Shape::Int(0, 100_000), "Always this one."),
    ],
});

const CONSUMER: Shape = Shape::Object(&Object {
    name: "a consumer",
    doc: "topics with group, or partitions.",
    fields: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        opt("topics", NAMES, "With group."),
        opt("group", Shape::Text, "The group's id."),
        opt("partitions", NAMES, "Assigned partitions such as purchases-0."),
        opt(
            "from",
            Shape::Either(
                &[Shape::Words(&["beginning", "end"]), Shape::Map(&Shape::Int(0, i64::MAX))],
                "\"beginning\", \"end\", or offsets by partition",
            ),
            "Where an assigned consumer begins.",
        ),
        opt("processing", Shape::Duration, "Time per record."),
        opt("commit", Shape::Words(&["auto", "before", "after", "none"]), "When offsets are committed."),
    ],
});

const TRANSACTIONAL: Shape = Shape::Object(&Object {
    name: "a transactional client",
    doc: "config goes to its producer and its consumer, each key to the side that knows it.",
    fields: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        req("from", Shape::Text, "The topic that it reads."),
        req("to", Shape::Text, "The topic that it writes."),
        req("group", Shape::Text, "Its group."),
        opt("transaction_size", Shape::Int(1, 1_000_000), "Records in a transaction."),
        opt("abort_every", Shape::Int(0, 1_000_000), "Every so-manieth transaction is aborted."),
        opt("processing", Shape::Duration, "Time per record."),
    ],
});

const ADMIN: Shape = Shape::Object(&Object {
    name: "an admin client",
    doc: "Runs a command again and again.",
    fields: &[
        COMMON[0],
        COMMON[1],
        COMMON[2],
        COMMON[3],
        req("every", Shape::DurationRange, "The pause between two runs."),
        req("command", Shape::Text, "A kafka-* command line."),
    ],
});

const HOSTILE: Shape = Shape::Object(&Object {
    name: "a hostile client",
    doc: "Sends damaged, huge, stale and senseless frames from the seed.",
    fields: &[
        COMMON[1],
        COMMON[2],
        opt("rate", Shape::Rate, "Frames; 20/s unless given."),
        opt("count", Shape::Int(0, i64::MAX), "So many, then it is quiet."),
        opt(
            "targets",
            Shape::Either(
                &[Shape::Text, NAMES],
                "a node's name, \"brokers\", \"controllers\", or a list of them",
            ),
            "The nodes to which it speaks; the brokers unless given.",
        ),
        opt("sends", Shape::List(&Shape::Words(&ATTACK_WORDS)), "What it sends; everything unless given."),
    ],
});

/// What a hostile client sends.
pub const ATTACK_WORDS: [&str; 9] =
    ["garbage", "huge", "unfinished", "truncated", "old_version", "counts", "damaged", "stale", "large"];

const REF: Object = Object {
    name: "a node reference",
    doc: "Resolved when the step begins.",
    fields: &[
        opt("leader_of", Shape::Text, "The leader of a partition such as purchases-0."),
        opt("follower_of", Shape::Text, "The first replica in assignment order that does not lead."),
        opt("coordinator_of", Shape::Text, "The coordinator of a group or a transactional id."),
        opt("controller", Shape::Words(&["active"]), "The active controller."),
    ],
};
const WHO: Shape = Shape::Either(
    &[Shape::Text, Shape::Object(&REF)],
    "a node or client name, or a reference such as { \"leader_of\": \"purchases-0\" }",
);
const WHOM: Shape = Shape::Either(
    &[Shape::Text, Shape::Object(&REF), Shape::List(&WHO)],
    "a node or client name, a list of them, or a reference such as { \"leader_of\": \"purchases-0\" }",
);
const SIDE: Shape = WHOM;

/// The verbs, in the order of the manual.
pub const VERBS: [&str; 21] = [
    "wait",
    "command",
    "kill",
    "stop",
    "power_off",
    "pause",
    "resume",
    "start",
    "wipe",
    "snapshot",
    "restore",
    "cut",
    "reset",
    "heal",
    "link",
    "names",
    "disk",
    "clock",
    "chaos",
    "expect",
    "repeat",
];

/// A step alone: what chaos draws is written as one.
pub const STEP_SHAPE: &Shape = &STEP;
static STEP: Shape = Shape::Object(&STEP_OBJECT);
static STEP_OBJECT: Object = Object {
    name: "a step",
    doc: "Exactly one verb, and what may go with it.",
    fields: &[
        opt(
            "wait",
            Shape::Either(
                &[Shape::Bool, Shape::DurationRange],
                "a duration such as \"10s\" or \"1s..5s\" (beside stop: true or false)",
            ),
            "Let virtual time pass; beside stop, false returns at once.",
        ),
        opt("command", Shape::Text, "A kafka-* command line, run on the lab host."),
        opt("kill", WHOM, "kill -9: the page cache survives."),
        opt("stop", WHOM, "SIGTERM: controlled shutdown; a client closes."),
        opt("power_off", WHOM, "The page cache is lost."),
        opt("pause", WHOM, "SIGSTOP"),
        opt("resume", WHOM, "SIGCONT"),
        opt("start", WHOM, "A new process with the same configuration."),
        opt("wipe", WHO, "A new, empty disk, formatted for the same cluster and id."),
        opt("snapshot", SNAPSHOT, "Keeps what a node's disk holds now, for restore."),
        opt("restore", RESTORE, "A healthy disk with what one held before, for a node that is down."),
        opt("cut", CUT, "Nothing is delivered and nothing reset."),
        opt("reset", RESET, "Connections that stand between two sets break; new ones can be made."),
        opt(
            "heal",
            Shape::Either(
                &[Shape::Words(&["all", "everything"]), CUT],
                "{ \"between\": [[…], […]] }, \"all\" or \"everything\"",
            ),
            "Ends cuts; \"everything\" all faults.",
        ),
        opt("link", LINK, "Changes a link from now on."),
        opt("names", NAMES_FAULT, "Names of hosts that cannot be resolved."),
        opt("disk", DISK, "A disk fault; lasts until \"none\"."),
        opt("clock", CLOCK, "The wall clock only."),
        opt("chaos", CHAOS, "Random faults from the seed."),
        opt("expect", EXPECT, "What must hold."),
        opt("repeat", Shape::Object(&REPEAT), "Steps several times, or for each of a list."),
        opt("note", Shape::Text, "Shown to the class."),
        opt("section", Shape::Text, "A heading."),
        opt("label", Shape::Text, "A name for this step in reports."),
        opt("as", Shape::Text, "Keeps the node that this step resolved."),
        opt("only", NAMES, "Only in these variants."),
        opt("not_in", NAMES, "Not in these variants."),
        opt("within", Shape::Duration, "expect: holds at the first instant within this time."),
        opt("for", Shape::Duration, "expect: holds from then on for this time."),
        opt("prints", NAMES, "command: in this order in standard output; text or /regex/."),
        opt("prints_error", NAMES, "command: in this order in standard error; text or /regex/."),
        opt("lacks", NAMES, "command: must not appear in either."),
        opt("exit", Shape::Int(0, 255), "command: the exit status; 0 unless given."),
        opt(
            "stdin",
            Shape::Either(&[Shape::Text, NAMES], "a text or a list of lines"),
            "command: its standard input.",
        ),
        opt("files", Shape::Map(&Shape::Json), "command: files beside it."),
        opt("timeout", Shape::Duration, "command: 120s unless given."),
        opt("background", Shape::Text, "command: runs on under this name."),
        opt("unsynced", Shape::Words(&["by chance", "lost", "kept"]), "power_off: what was not synced."),
        opt(
            "covered",
            Shape::Bool,
            "power_off, wipe, restore: excuses nothing if, at that moment, enough others hold what is lost.",
        ),
    ],
};

/// Which keys may stand beside a verb, besides those that every step takes.
pub fn companions(verb: &str) -> &'static [&'static str] {
    match verb {
        "stop" => &["wait"],
        "power_off" => &["unsynced", "covered"],
        "wipe" | "restore" => &["covered"],
        "expect" => &["within", "for"],
        "command" => &["prints", "prints_error", "lacks", "exit", "stdin", "files", "timeout", "background"],
        _ => &[],
    }
}

/// What every step takes.
pub const STEP_COMMON: [&str; 6] = ["note", "section", "label", "as", "only", "not_in"];

static REPEAT: Object = Object {
    name: "a repetition",
    doc: "times, or each with as.",
    fields: &[
        opt("times", Shape::Int(1, 100_000), "So many times."),
        opt("each", Shape::List(&WHO), "Once for each of these."),
        opt("as", Shape::Text, "Their name inside the steps."),
        req("steps", Shape::List(&STEP), "The steps."),
    ],
};

const CUT: Shape = Shape::Object(&Object {
    name: "a cut",
    doc: "Two sets of nodes, clients, \"lab\", \"rest\".",
    fields: &[
        req("between", Shape::Pair(&SIDE), "The two sets."),
        opt(
            "direction",
            Shape::Words(&["both", "forth", "back"]),
            "\"forth\" drops what the first set sends to the second.",
        ),
        opt("reset", Shape::Bool, "true breaks connections at once."),
        opt("jam", Shape::Bool, "true: connections are accepted, and nothing is delivered on them."),
    ],
});

const RESET: Shape = Shape::Object(&Object {
    name: "a reset",
    doc: "Two sets of nodes, clients, \"lab\", \"rest\".",
    fields: &[req("between", Shape::Pair(&SIDE), "The two sets.")],
});

const SNAPSHOT: Shape = Shape::Object(&Object {
    name: "a snapshot",
    doc: "What a node's disk holds now, as a copy of its files.",
    fields: &[req("node", WHO, "Whose disk."), req("name", Shape::Text, "By which it is restored.")],
});

const RESTORE: Shape = Shape::Object(&Object {
    name: "a restored disk",
    doc: "The content of a snapshot, or of another node's disk.",
    fields: &[
        req("node", WHO, "Whose disk is replaced; it is down."),
        opt("snapshot", Shape::Text, "The name of a snapshot."),
        opt("from", WHO, "A node: what its disk holds now."),
    ],
});

const NAMES_FAULT: Shape = Shape::Object(&Object {
    name: "a fault of name resolution",
    doc: "Connections that stand do not mind; new ones fail.",
    fields: &[
        req("fault", Shape::Words(&["unknown", "none"]), "\"unknown\": no such host; \"none\" ends it."),
        opt("at", SIDE, "Who asks; everybody unless given."),
        opt("of", SIDE, "Whose names; everybody's unless given."),
    ],
});

const TAIL: Shape = Shape::Object(&Object {
    name: "a tail of latencies",
    doc: "A share of messages with another latency.",
    fields: &[
        req("share", Shape::Share, "Share of messages."),
        req("latency", Shape::DurationRange, "Their latency."),
    ],
});

const LINK: Shape = Shape::Object(&Object {
    name: "a link",
    doc: "From now on; \"default\" ends it.",
    fields: &[
        req("from", SIDE, "One end."),
        req("to", SIDE, "The other end."),
        opt("latency", Shape::DurationRange, "Each way that direction says."),
        opt("loss", Shape::Share, "Share of packets that are retransmitted."),
        opt("bandwidth", Shape::Bandwidth, "Of each ordered pair of hosts."),
        opt("tail", TAIL, "A share of messages with another latency."),
        opt(
            "connect",
            Shape::DurationRange,
            "How much longer connections that are asked for this way take to stand.",
        ),
        opt("direction", Shape::Words(&["both", "forth", "back"]), "\"forth\": from → to only."),
        opt("default", Shape::Bool, "true: as the cluster began."),
    ],
});

const DISK: Shape = Shape::Object(&Object {
    name: "a disk fault",
    doc: "Lasts until \"none\".",
    fields: &[
        req("node", WHO, "Whose disk."),
        req(
            "fault",
            Shape::Words(&[
                "full",
                "slow",
                "read_error",
                "write_error",
                "sync_error",
                "lying_sync",
                "bit_flip",
                "offline",
                "none",
            ]),
            "What is wrong with it.",
        ),
        opt("stall", Shape::DurationRange, "slow: how much longer every operation takes; 1s unless given."),
        opt("bits", Shape::Int(1, 10_000), "bit_flip: how many; 1 unless given."),
        opt(
            "where",
            Shape::Words(&["both", "disk", "cache"]),
            "bit_flip: \"disk\": hidden by the page cache until a power loss; \"cache\": undone by one; both unless given.",
        ),
        opt("dir", Shape::Text, "Only this log directory."),
        opt("partition", Shape::Text, "Only this partition's files."),
        opt(
            "after",
            Shape::Either(&[Shape::Int(0, i64::MAX), Shape::Text], "a size or a duration"),
            "Begins later: after a time, or when so many more bytes were written there.",
        ),
    ],
});

const CLOCK: Shape = Shape::Object(&Object {
    name: "a clock change",
    doc: "The wall clock only.",
    fields: &[
        req("node", WHO, "Whose clock."),
        opt("step", Shape::Text, "Forward or back, such as \"-2h\"."),
        opt("drift_ppm", Shape::Int(-1_000_000, 1_000_000), "Microseconds gained in each second."),
        opt("default", Shape::Bool, "true: it is put right."),
    ],
});

const CHAOS: Shape = Shape::Object(&Object {
    name: "chaos",
    doc: "Random faults from the seed; what keep names is never broken.",
    fields: &[
        req("for", Shape::Duration, "How long."),
        opt("every", Shape::DurationRange, "The pause between two faults."),
        opt(
            "faults",
            Shape::Object(&Object { name: "fault weights", doc: "Weights by kind.", fields: &CHAOS_KINDS }),
            "Weights by kind; without it every kind that keep can cover has the weight 1.",
        ),
        opt(
            "keep",
            Shape::Object(&Object {
                name: "what chaos keeps",
                doc: "Never broken, not for an instant.",
                fields: &[
                    opt("quorum", Shape::Bool, "A majority of controllers."),
                    opt("min_isr", Shape::Bool, "min.insync.replicas of every partition."),
                    opt("brokers", Shape::Int(0, 1000), "So many running brokers."),
                ],
            }),
            "What is never broken.",
        ),
        opt(
            "swarm",
            Shape::Bool,
            "Each seed draws its own subset of the kinds, weights and rate; true unless given.",
        ),
    ],
});

const fn weight(name: &'static str) -> Field {
    opt(name, Shape::Int(0, 1_000_000), "A weight.")
}
const CHAOS_KINDS: [Field; 19] = [
    weight("kill"),
    weight("crash_loop"),
    weight("stop"),
    weight("power_off"),
    weight("wipe"),
    weight("stale_disk"),
    weight("pause"),
    weight("cut"),
    weight("link"),
    weight("disk"),
    weight("clock"),
    weight("client_kill"),
    weight("client_stop"),
    weight("hostile"),
    weight("admin"),
    weight("voters"),
    weight("bit_flip"),
    weight("lost_sync"),
    weight("unclean_election"),
];

const BOUNDS: Object = Object {
    name: "bounds",
    doc: "At least, at most, or anything but.",
    fields: &[
        opt("at_least", Shape::Number, "Not less than this."),
        opt("at_most", Shape::Number, "Not more than this."),
        opt("not", Shape::Json, "Anything but this."),
    ],
};
const NUMBER: Shape = Shape::Either(
    &[Shape::Number, Shape::Object(&BOUNDS)],
    "a number, { \"at_least\": …, \"at_most\": … } or { \"not\": … }",
);
const TIME_BOUNDS: Object = Object {
    name: "bounds of time",
    doc: "At least, at most, or anything but; durations, or milliseconds as numbers.",
    fields: &[
        opt("at_least", TIME, "Not less than this."),
        opt("at_most", TIME, "Not more than this."),
        opt("not", Shape::Json, "Anything but this."),
    ],
};
const TIME: Shape = Shape::Either(
    &[Shape::Number, Shape::Duration],
    "a duration such as \"5s\", or milliseconds as a number",
);
const TIMES: Shape = Shape::Either(
    &[Shape::Number, Shape::Duration, Shape::Object(&TIME_BOUNDS)],
    "a duration, or { \"at_least\": …, \"at_most\": … }",
);
const PER_SECOND: Shape = Shape::Either(&[Shape::Number, Shape::Rate], "a rate such as \"90/s\"");
const RATE: Shape = Shape::Object(&Object {
    name: "a rate over a window",
    doc: "The window begins no earlier than the last step that changed something.",
    fields: &[
        opt("at_least", PER_SECOND, "Not less."),
        opt("at_most", PER_SECOND, "Not more."),
        opt("not", Shape::Json, "Anything but this."),
        req("over", Shape::Duration, "The window."),
    ],
});
const NOT: Object = Object {
    name: "a negation",
    doc: "Anything but this.",
    fields: &[req("not", Shape::Json, "Anything but this.")],
};
const ID: Shape = Shape::Either(
    &[Shape::Int(-1, 1_000_000), Shape::Text, Shape::Object(&REF)],
    "a broker id, a name kept with \"as\", or a reference",
);
const LEADER: Shape = Shape::Either(
    &[Shape::Int(-1, 1_000_000), Shape::Text, Shape::List(&ID), Shape::Object(&REF), Shape::Object(&NOT)],
    "a broker id, a list of ids, \"none\", a name kept with \"as\", or { \"not\": … }",
);
const HAS_LACKS: Object = Object {
    name: "has and lacks",
    doc: "At least these, none of those.",
    fields: &[
        opt("has", Shape::List(&ID), "All of these."),
        opt("lacks", Shape::List(&ID), "None of these."),
        opt("not", Shape::Json, "Anything but this set."),
    ],
};
const SET: Shape = Shape::Either(
    &[Shape::List(&ID), Shape::Object(&HAS_LACKS)],
    "a list of broker ids, { \"has\": […], \"lacks\": […] } or { \"not\": […] }",
);
const ORDERED: Shape = Shape::Either(
    &[Shape::List(&ID), Shape::Object(&NOT)],
    "a list of broker ids in order, or { \"not\": […] }",
);
const WORD: Shape = Shape::Either(&[Shape::Text, Shape::Object(&NOT)], "a word, or { \"not\": … }");
const TRUTH: Shape = Shape::Either(&[Shape::Bool, Shape::Object(&NOT)], "true or false");

/// What an expectation can be about.
pub const SUBJECTS: [&str; 7] = ["partition", "topic", "client", "group", "quorum", "node", "violation"];

/// The fields that an expectation on a subject takes.
pub fn expectation_fields(subject: &str) -> &'static [&'static str] {
    match subject {
        "partition" | "topic" => &[
            "leader",
            "isr",
            "isr_size",
            "elr",
            "replicas",
            "leader_epoch",
            "log_end",
            "high_watermark",
            "same_log",
        ],
        "client" => &[
            "sent",
            "acked",
            "failed",
            "indefinite",
            "received",
            "lost",
            "duplicated",
            "processed",
            "committed",
            "aborted",
            "acked_rate",
            "received_rate",
            "latency",
            "last_error",
        ],
        "group" => &[
            "state",
            "members",
            "assigned",
            "lag",
            "committed",
            "rebalances",
            "processed",
            "reprocessed",
            "missed",
        ],
        "quorum" => &["leader", "epoch", "voters", "lag"],
        "node" => &["state", "event", "partition"],
        _ => &[],
    }
}

const EXPECT: Shape = Shape::Object(&Object {
    name: "an expectation",
    doc: "One subject and its fields; all hold at the same instant.",
    fields: &[
        opt("partition", Shape::Text, "A partition such as purchases-0."),
        opt("topic", Shape::Text, "All partitions of a topic."),
        opt("client", Shape::Text, "A client, all its instances and restarts."),
        opt("group", Shape::Text, "A group."),
        opt("quorum", Shape::Bool, "true: the metadata quorum."),
        opt("node", WHO, "A node."),
        opt("violation", WORD, "A checker's name: found by now."),
        opt("leader", LEADER, "The leader's id."),
        opt("isr", SET, "The in-sync replicas as a set."),
        opt("isr_size", NUMBER, "How many are in sync."),
        opt("elr", SET, "The eligible leader replicas as a set."),
        opt("replicas", ORDERED, "The replicas in order."),
        opt("leader_epoch", NUMBER, "The leader epoch."),
        opt("log_end", NUMBER, "The present leader's log end offset."),
        opt("high_watermark", NUMBER, "The present leader's high watermark."),
        opt("same_log", TRUTH, "Equal record bytes in all of the ISR."),
        opt("sent", NUMBER, "Messages made."),
        opt("acked", NUMBER, "Acknowledged."),
        opt("failed", NUMBER, "Failed for certain."),
        opt("indefinite", NUMBER, "Outcome unknown."),
        opt("received", NUMBER, "Records received."),
        opt("lost", NUMBER, "Acknowledged and gone."),
        opt("duplicated", NUMBER, "In the log more than once."),
        opt("processed", NUMBER, "Records processed."),
        opt("reprocessed", NUMBER, "Records processed again."),
        opt("missed", NUMBER, "Committed and never processed."),
        opt(
            "committed",
            Shape::Either(
                &[Shape::Number, Shape::Object(&BOUNDS), Shape::Map(&NUMBER)],
                "a number, or offsets by partition",
            ),
            "Transactions, or a group's offsets.",
        ),
        opt("aborted", NUMBER, "Aborted transactions."),
        opt("acked_rate", RATE, "Acknowledgements per second."),
        opt("received_rate", RATE, "Records received per second."),
        opt(
            "latency",
            Shape::Object(&Object {
                name: "latencies",
                doc: "Of acknowledgements; the whole run unless over.",
                fields: &[
                    opt("p50", TIMES, "Median."),
                    opt("p99", TIMES, "99th percentile."),
                    opt("max", TIMES, "Highest."),
                    opt("over", Shape::Duration, "A window."),
                ],
            }),
            "From send to acknowledgement.",
        ),
        opt("last_error", WORD, "Kafka's name of the last refused attempt."),
        opt("state", WORD, "A node's or a group's state."),
        opt("members", NUMBER, "Members of a group."),
        opt("assigned", Shape::Map(&NAMES), "Partitions by member."),
        opt("lag", NUMBER, "Of a group: Σ high watermark − committed; of the quorum: its slowest voter."),
        opt("rebalances", NUMBER, "Completed rebalances."),
        opt("epoch", NUMBER, "The quorum's epoch."),
        opt("voters", SET, "The quorum's voters."),
        opt("event", WORD, "A domain event since the last step that was not an expect."),
    ],
});

const VIOLATION: Shape = Shape::Either(
    &[
        Shape::Text,
        Shape::Object(&Object {
            name: "a violation",
            doc: "A checker's name, on one topic.",
            fields: &[req("name", Shape::Text, "The checker."), opt("topic", Shape::Text, "The topic.")],
        }),
    ],
    "a checker's name, or { \"name\": …, \"topic\": … }",
);

const FINALLY: Shape = Shape::Object(&Object {
    name: "the end",
    doc: "What is done after the last step, and what must hold then.",
    fields: &[
        opt(
            "violations",
            Shape::Either(
                &[
                    Shape::List(&VIOLATION),
                    Shape::Object(&Object {
                        name: "violations",
                        doc: "At least these, none of those.",
                        fields: &[
                            opt("has", Shape::List(&VIOLATION), "At least these."),
                            opt("lacks", Shape::List(&VIOLATION), "None of these."),
                        ],
                    }),
                ],
                "a list of checkers' names, or { \"has\": […], \"lacks\": […] }",
            ),
            "What the checkers find, promised or not: exactly these.",
        ),
        opt(
            "expect",
            Shape::Either(&[EXPECT, Shape::List(&EXPECT)], "an expectation or a list of them"),
            "Holds after everything.",
        ),
        opt("within", Shape::Duration, "How long consumers may take to catch up; 60s."),
        opt("restore", Shape::Bool, "true: start, heal and repair everything first."),
    ],
});

const VARIANT: Shape = Shape::Object(&Object {
    name: "a variant",
    doc: "Flips one thing and keeps the sheet.",
    fields: &[
        opt("about", Shape::Text, "What is different, and why."),
        opt("set", Shape::Map(&Shape::Json), "JSON pointers and the values to put there."),
        opt("finally", FINALLY, "Replaces the end."),
    ],
});

/// The JSON Schema (draft-07) of scenario files.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let root = SCENARIO.schema(&mut definitions);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Highwater scenario",
        "$ref": root["$ref"],
        "definitions": definitions,
    })
}
