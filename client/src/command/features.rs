//! `kafka-features` (`FeatureCommand.java`, `MetadataVersion.java`): levels of features, finalized and supported.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::arguments::{Arg, Arguments, Parser, Unread, arg, switch};
use super::session::{Console, Exception, Ran, Session, Stop, got, result_of};
use crate::admin::UpgradeType;

const METADATA_VERSION: &str = "metadata.version";

/// The level of the oldest metadata version that 4.x knows; those of [`RELEASES`] follow it without a gap.
const OLDEST: i16 = 7;

/// The metadata versions of Kafka 4.3, from 3.3-IV3 on.
const RELEASES: [&str; 24] = [
    "3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2", "3.7-IV0",
    "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0", "4.0-IV1", "4.0-IV2",
    "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0",
];

/// A level of a feature.
struct Level {
    level: i16,
    /// The metadata version from which on new clusters have it.
    bootstrap: &'static str,
    /// The metadata version that it needs.
    needs: Option<&'static str>,
}

const fn level(level: i16, bootstrap: &'static str, needs: Option<&'static str>) -> Level {
    Level { level, bootstrap, needs }
}

/// The other features, in the order in which the tool names them.
const FEATURES: [(&str, &[Level]); 6] = [
    ("kraft.version", &[level(1, "3.9-IV0", None)]),
    ("transaction.version", &[level(1, "4.0-IV2", None), level(2, "4.0-IV2", None)]),
    ("group.version", &[level(1, "4.0-IV0", None)]),
    ("eligible.leader.replicas.version", &[level(1, "4.1-IV0", Some("4.0-IV1"))]),
    ("share.version", &[level(1, "4.2-IV0", None)]),
    ("streams.version", &[level(1, "4.2-IV1", Some("4.2-IV1"))]),
];

const TOOL: Parser = Parser {
    name: "",
    args: &[
        arg("--bootstrap-server", None),
        arg("--bootstrap-controller", None),
        arg("--command-config", None),
    ],
    one_of: &["--bootstrap-server", "--bootstrap-controller"],
    usage: "kafka-features [-h] [--command-config COMMAND_CONFIG]
                      (--bootstrap-server BOOTSTRAP_SERVER |
                      --bootstrap-controller BOOTSTRAP_CONTROLLER)
                      {describe,upgrade,downgrade,disable,version-mapping,feature-dependencies}
                      ...",
};

const METADATA: Arg = arg("--metadata", None);
const RELEASE: Arg = arg("--release-version", None);
const FEATURE: Arg = arg("--feature", None);
const UNSAFE: Arg = switch("--unsafe");
const DRY_RUN: Arg = switch("--dry-run");

const fn command(name: &'static str, args: &'static [Arg], usage: &'static str) -> Parser {
    Parser { name, args, one_of: &[], usage }
}

const COMMANDS: &[Parser] = &[
    command("describe", &[], "kafka-features describe [-h]"),
    command(
        "upgrade",
        &[METADATA, RELEASE, FEATURE, DRY_RUN],
        "kafka-features upgrade [-h] [--metadata METADATA]
                      [--release-version RELEASE_VERSION]
                      [--feature FEATURE] [--dry-run]",
    ),
    command(
        "downgrade",
        &[METADATA, RELEASE, FEATURE, UNSAFE, DRY_RUN],
        "kafka-features downgrade [-h] [--metadata METADATA]
                      [--release-version RELEASE_VERSION]
                      [--feature FEATURE] [--unsafe] [--dry-run]",
    ),
    command(
        "disable",
        &[FEATURE, UNSAFE, DRY_RUN],
        "kafka-features disable [-h] [--feature FEATURE] [--unsafe]
                      [--dry-run]",
    ),
    command(
        "version-mapping",
        &[RELEASE],
        "kafka-features version-mapping [-h]
                      [--release-version RELEASE_VERSION]",
    ),
    command("feature-dependencies", &[FEATURE], "kafka-features feature-dependencies [-h] --feature FEATURE"),
];

pub(super) fn run(s: &mut Session<'_>) -> Ran {
    execute(s).map_err(|stop| match stop {
        Stop::Thrown(exception) => {
            s.complain(exception.message_text());
            Stop::Exit(1)
        }
        other => other,
    })
}

/// The tool has words of its own for a command line that it cannot read.
fn refused(s: &mut Session<'_>, unread: Unread) -> Stop {
    match unread {
        Unread::Error { why, .. } => {
            let why = match why.starts_with("one of the arguments") {
                true => "You must specify either --bootstrap-controller or --bootstrap-server.",
                false => &why,
            };
            s.print_both(String::new(), format!("Command line error: {why}. Type --help for help."));
            Stop::Exit(1)
        }
        help => s.unread(help),
    }
}

fn execute(s: &mut Session<'_>) -> Ran {
    let arguments = match Arguments::parse("kafka-features", &TOOL, COMMANDS, s.arguments()) {
        Ok(arguments) => arguments,
        Err(unread) => return Err(refused(s, unread)),
    };
    let settings = s.settings(arguments.value("--command-config"))?;
    let Some(bootstrap) = arguments.value("--bootstrap-server") else {
        return Err(terse("--bootstrap-controller is not supported: use --bootstrap-server.").into());
    };
    s.connect(bootstrap, settings)?;
    let lowered = match arguments.has("--unsafe") {
        true => UpgradeType::UnsafeDowngrade,
        false => UpgradeType::SafeDowngrade,
    };
    match arguments.command {
        "describe" => describe(s),
        "upgrade" => change(s, &arguments, "upgrade", UpgradeType::Upgrade),
        "downgrade" => change(s, &arguments, "downgrade", lowered),
        "disable" => {
            let mut updates = BTreeMap::new();
            for feature in arguments.values("--feature") {
                add(&mut updates, feature, 0, lowered)?;
            }
            update(s, "disable", updates, arguments.has("--dry-run"))
        }
        "version-mapping" => version_mapping(s, arguments.value("--release-version")),
        _ => dependencies(s, &arguments),
    }
}

fn terse(text: impl Into<String>) -> Exception {
    Exception::new("org.apache.kafka.tools.TerseException", text)
}

// --- metadata versions

/// `4.3-IV0`, of its level.
fn release_of(level: i16) -> Option<&'static str> {
    RELEASES.get(usize::try_from(level - OLDEST).ok()?).copied()
}

/// The level of `4.3-IV0`, of `4.3`, which is the last of 4.3, and of `4.3.1`, which is the same.
fn level_of(release: &str) -> Option<i16> {
    let at = RELEASES.iter().position(|known| *known == release).or_else(|| {
        let mut parts = release.split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        let prefix = format!("{major}.{minor}-");
        RELEASES.iter().rposition(|known| known.starts_with(&prefix))
    })?;
    Some(OLDEST + at as i16)
}

/// The level of a feature that a new cluster of this metadata version has.
fn default_level(levels: &[Level], metadata: i16) -> i16 {
    let had = |level: &&Level| level_of(level.bootstrap).is_some_and(|from| from <= metadata);
    levels.iter().filter(had).map(|level| level.level).max().unwrap_or(0)
}

fn level_text(feature: &str, level: i16) -> String {
    match (feature, release_of(level)) {
        (METADATA_VERSION, Some(release)) => release.into(),
        (METADATA_VERSION, None) => format!("UNKNOWN [{level}]"),
        _ => level.to_string(),
    }
}

// --- the commands

fn describe(s: &mut Session<'_>) -> Ran {
    let asked = s.ask(|admin, now| admin.describe_features(now))?;
    let features = got(result_of!(asked, Features))?;
    for (name, range) in &features.supported {
        let finalized = features.finalized.get(name).map_or(0, |range| range.max);
        s.line(format!(
            "Feature: {name:40}  SupportedMinVersion: {:15}  SupportedMaxVersion: {:15}  FinalizedVersionLevel: {:15}  \
             Epoch: {}",
            level_text(name, range.min),
            level_text(name, range.max),
            level_text(name, finalized),
            features.epoch.map_or("-".into(), |epoch| epoch.to_string())
        ));
    }
    Ok(())
}

type Updates = BTreeMap<String, (i16, UpgradeType)>;

fn add(updates: &mut Updates, feature: &str, level: i16, kind: UpgradeType) -> Result<(), Exception> {
    match updates.insert(feature.into(), (level, kind)) {
        None => Ok(()),
        Some(_) => Err(terse(format!("Feature {feature} was specified more than once."))),
    }
}

fn change(s: &mut Session<'_>, arguments: &Arguments, op: &str, kind: UpgradeType) -> Ran {
    let (metadata, release) = (arguments.value("--metadata"), arguments.value("--release-version"));
    let mut updates = Updates::new();
    let unknown = |version: &str| {
        let known = RELEASES.join(", ");
        terse(format!("Unknown metadata.version {version}. Supported metadata.version are {known}"))
    };
    if let Some(release) = release {
        if metadata.is_some() || arguments.has("--feature") {
            return Err(terse("Can not specify `release-version` with other feature flags.").into());
        }
        let level = level_of(release).ok_or_else(|| unknown(release))?;
        add(&mut updates, METADATA_VERSION, level, kind)?;
        for (feature, levels) in FEATURES {
            let level = default_level(levels, level);
            // Nothing is raised to 0.
            if kind != UpgradeType::Upgrade || level > 0 {
                add(&mut updates, feature, level, kind)?;
            }
        }
    }
    if let Some(metadata) = metadata {
        s.line(" `metadata` flag is deprecated and may be removed in a future release.");
        let level = level_of(metadata).ok_or_else(|| unknown(metadata))?;
        add(&mut updates, METADATA_VERSION, level, kind)?;
    }
    for feature in arguments.values("--feature") {
        let (name, level) = name_and_level(feature)?;
        add(&mut updates, name, level, kind)?;
    }
    update(s, op, updates, arguments.has("--dry-run"))
}

fn name_and_level(text: &str) -> Result<(&str, i16), Exception> {
    let fails = |why: String| terse(format!("Can't parse feature=level string {text}: {why}"));
    let (name, level) = text.split_once('=').ok_or_else(|| fails("equals sign not found.".into()))?;
    let level = level.trim();
    let number = level.parse().map_err(|_| fails(format!("unable to parse {level} as a short.")))?;
    Ok((name.trim(), number))
}

fn update(s: &mut Session<'_>, op: &str, updates: Updates, dry_run: bool) -> Ran {
    if updates.is_empty() {
        return Err(terse(format!("You must specify at least one feature to {op}")).into());
    }
    let asked = s.ask(|admin, now| admin.update_features(now, updates.clone(), dry_run))?;
    let mut failures = 0;
    for (feature, result) in result_of!(asked, Done) {
        let level = updates.get(&feature).map_or(0, |(level, _)| *level);
        match result {
            Err(error) => {
                let helper = if dry_run { "Can not" } else { "Could not" };
                let what = match op {
                    "disable" => format!("disable {feature}"),
                    op => format!("{op} {feature} to {level}"),
                };
                s.line(format!("{helper} {what}. {}", error.message));
                failures += 1;
            }
            Ok(()) => {
                let verb = if dry_run { "can be" } else { "was" };
                let what = match op {
                    "disable" => "disabled.".into(),
                    op => format!("{op}d to {level}."),
                };
                s.line(format!("{feature} {verb} {what}"));
            }
        }
    }
    match failures {
        0 => Ok(()),
        _ => Err(terse(format!("{failures} out of {} operation(s) failed.", updates.len())).into()),
    }
}

fn version_mapping(s: &mut Session<'_>, release: Option<&str>) -> Ran {
    let latest = RELEASES[RELEASES.len() - 1];
    let release = release.unwrap_or(latest);
    let level = level_of(release).ok_or_else(|| {
        let range = format!("{} to {latest}", RELEASES[0]);
        terse(format!("Unknown release version '{release}'. Supported versions are: {range}"))
    })?;
    s.line(format!("{METADATA_VERSION}={level} ({release})"));
    for (feature, levels) in FEATURES {
        s.line(format!("{feature}={}", default_level(levels, level)));
    }
    Ok(())
}

fn dependencies(s: &mut Session<'_>, arguments: &Arguments) -> Ran {
    let wanted: Vec<&str> = arguments.values("--feature").collect();
    if wanted.is_empty() {
        let why = "argument --feature is required".to_string();
        return Err(refused(s, Unread::Error { why, text: String::new() }));
    }
    for text in wanted {
        let (name, number) = name_and_level(text)?;
        if name == METADATA_VERSION {
            let release =
                release_of(number).ok_or_else(|| terse(format!("Unknown metadata.version {number}")))?;
            s.line(format!("{name}={number} ({release}) has no dependencies."));
            continue;
        }
        let levels = FEATURES.iter().find(|(known, _)| *known == name).map(|(_, levels)| *levels);
        let levels = levels.ok_or_else(|| terse(format!("Unknown feature: {name}")))?;
        let known = levels.iter().find(|level| level.level == number);
        if known.is_none() && number != 0 {
            let text = format!("No feature:{name} with feature level {number}");
            return Err(terse(text).into());
        }
        match known.and_then(|level| level.needs) {
            None => s.line(format!("{name}={number} has no dependencies.")),
            Some(needs) => {
                let level = level_of(needs).expect("a level needs a version that there is");
                s.line(format!("{name}={number} requires:\n    {METADATA_VERSION}={level} ({needs})"));
            }
        }
    }
    Ok(())
}
