//! `command` steps: a kafka-* tool as a client process on the lab host, compared with what the sheet says it prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use client::Process;
use client::command::{CommandProcess, CommandSpec};
use rand_core::SeedableRng;
use reports::{CommandOutput, StepReport};

use super::build::{self, LAB};
use super::play::{Player, Stop};
use crate::scenario::{Command, Pattern, Who};
use crate::world::{ClientMaker, ProcId, ProcSpec, ProcState, Stage};

/// What a command that is ended from outside exits with: 128 and SIGTERM.
const TERMINATED: i32 = 143;

/// Runs a command and compares what it printed. One in the background runs on under its name.
pub async fn play(
    player: &mut Player,
    stage: &mut Stage,
    command: &Command,
    number: u32,
    report: &mut StepReport,
) -> Result<(), Stop> {
    let resets = command.words.iter().any(|w| w == "--reset-offsets" || w == "--delete-offsets");
    if resets {
        player.observer.groups.reset_begins();
    }
    let name = command.background.clone().unwrap_or_else(|| format!("command-{number}"));
    let proc = launch(player, stage, command, &name).await?;
    if command.background.is_some() {
        return Ok(());
    }
    let ended = player.until(stage, command.timeout.0, |_, world| {
        matches!(world.state(proc), ProcState::Down | ProcState::Halted)
    })?;
    if !ended {
        stage.stop(proc).await.map_err(|e| Stop::Expectation(e.to_string()))?;
        player.observer.observe(stage.world_mut());
    }
    if resets {
        player.observer.groups.reset_ends();
    }
    if command.words[0] == "kafka-features" {
        player.note_features(stage.world());
    }
    let console = player.observer.consoles.remove(&proc).unwrap_or_default();
    let exit = stage.world().exit_code(proc).unwrap_or(TERMINATED);
    let output = CommandOutput { stdout: console.stdout, stderr: console.stderr, exit: Some(exit) };
    let at = stage.world().now();
    for line in output.stdout.lines().chain(output.stderr.lines()) {
        player.observer.tell(at, "", line.to_owned(), reports::Tone::Output);
    }
    let found = compare(command, &output, ended);
    report.output = Some(output);
    found.map_err(Stop::Expectation)
}

async fn launch(
    player: &mut Player,
    stage: &mut Stage,
    command: &Command,
    name: &str,
) -> Result<ProcId, Stop> {
    let mut files: BTreeMap<String, Bytes> = command
        .files
        .iter()
        .map(|(path, text)| (path.clone(), Bytes::from(text.clone().into_bytes())))
        .collect();
    if command.words[0] == "kafka-dump-log" {
        files.extend(files_of_nodes(player, stage, &command.words));
    }
    if command.words[0] == "kafka-metadata-quorum" {
        files.extend(disk_of_controller(player, stage, &command.words));
    }
    let words: Result<Vec<String>, String> =
        command.words.iter().map(|word| filled(player, stage, word)).collect();
    let words = words.map_err(Stop::Expectation)?;
    let spec = CommandSpec { words, files, config: BTreeMap::new() };
    let maker: ClientMaker = Arc::new(move |boot| {
        Ok(Process::Command(Box::new(CommandProcess::new(spec.clone(), client::Rng::from_seed(boot.seed)))))
    });
    let proc = stage.world_mut().add_proc(ProcSpec::client(name, LAB, maker));
    player.observer.command(proc, name);
    let start = |e: crate::world::VerbError| Stop::Expectation(e.to_string());
    stage.start(proc).await.map_err(start)?;
    if let Some(text) = &command.stdin {
        stage.world_mut().stdin(proc, Bytes::from(text.clone().into_bytes())).map_err(start)?;
    }
    stage.world_mut().close_stdin(proc).map_err(start)?;
    Ok(proc)
}

/// What a tool would read that runs on the host of the controller which `--command-config` names, as in
/// `controller-104:server.properties`: its configuration, and who its directory says that it is.
fn disk_of_controller(player: &Player, stage: &Stage, words: &[String]) -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    for word in words {
        let Some((name, _)) = word.split_once(":server.properties") else { continue };
        let Some(node) = player.scenario.cluster.nodes.iter().find(|n| n.name == name) else { continue };
        let config = build::node_config(&player.scenario, node);
        let text: String = config.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        found.push((word.clone(), Bytes::from(text)));
        let path = format!("{}/meta.properties", metadata_dir(&config));
        let file = stage.world().host(name).and_then(|h| stage.world().file(h, path.trim_start_matches('/')));
        found.extend(file.map(|bytes| (path, Bytes::from(bytes))));
    }
    found
}

fn metadata_dir(config: &BTreeMap<String, String>) -> &str {
    let first = config.get("log.dirs").and_then(|dirs| dirs.split(',').next()).unwrap_or(build::LOG_DIR);
    config.get("metadata.log.dir").map_or(first, String::as_str)
}

/// A word with what only the run knows: `{controller-104.id}` is a node's id, `{controller-104.directory}` the id of
/// its metadata log directory; `active-controller` and names that a step has kept are nodes as well.
fn filled(player: &Player, stage: &Stage, word: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, (asked, after))) =
        rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
    {
        text.push_str(before);
        match asked.rsplit_once('.') {
            Some((who, what @ ("id" | "directory"))) => {
                text.push_str(&known_of(player, stage, who, what)?);
            }
            _ => {
                text.push('{');
                text.push_str(asked);
                text.push('}');
            }
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn known_of(player: &Player, stage: &Stage, who: &str, what: &str) -> Result<String, String> {
    let whom = match who {
        "active-controller" => Who::ActiveController,
        name => Who::Name(name.to_owned()),
    };
    let names = player.names_of(stage.world(), &whom)?;
    let node = player.scenario.cluster.nodes.iter().find(|n| names.first() == Some(&n.name));
    let node = node.ok_or_else(|| format!("{who} is no node"))?;
    if what == "id" {
        return Ok(node.id.to_string());
    }
    let config = build::node_config(&player.scenario, node);
    let path = format!("{}/meta.properties", metadata_dir(&config).trim_start_matches('/'));
    let file = stage.world().host(&node.name).and_then(|host| stage.world().file(host, &path));
    let text = file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("directory.id="));
    id.map(str::to_owned).ok_or_else(|| format!("{} has no directory id", node.name))
}

/// The files of nodes that a `kafka-dump-log` command names: `broker-1:/var/lib/kafka/data/purchases-0/….log`.
fn files_of_nodes(player: &Player, stage: &Stage, words: &[String]) -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    for path in words.iter().flat_map(|w| w.split(',')) {
        let Some((node, rest)) = path.split_once(':') else { continue };
        if !player.scenario.cluster.nodes.iter().any(|n| n.name == node) {
            continue;
        }
        let host = stage.world().host(node);
        let content = host.and_then(|h| stage.world().file(h, rest.trim_start_matches('/')));
        found.extend(content.map(|bytes| (path.to_owned(), Bytes::from(bytes))));
    }
    found
}

/// Whether a command did as the sheet says; if not, what it did instead.
fn compare(command: &Command, output: &CommandOutput, ended: bool) -> Result<(), String> {
    if !ended {
        return Err(format!("{} did not end within {}", command.words[0], command.timeout));
    }
    in_order(&command.prints, &output.stdout, "standard output")?;
    in_order(&command.prints_error, &output.stderr, "standard error")?;
    for pattern in &command.lacks {
        if pattern.find(&output.stdout, 0).is_some() || pattern.find(&output.stderr, 0).is_some() {
            return Err(format!("it printed {pattern}, which must not appear"));
        }
    }
    let exit = output.exit.unwrap_or(0);
    if exit != command.exit {
        return Err(format!("it exited with {exit}, expected {}", command.exit));
    }
    Ok(())
}

fn in_order(patterns: &[Pattern], text: &str, what: &str) -> Result<(), String> {
    let mut from = 0;
    for pattern in patterns {
        from = pattern.find(text, from).ok_or_else(|| {
            let elsewhere = if pattern.find(text, 0).is_some() { " in this order" } else { "" };
            format!("{pattern} is not in its {what}{elsewhere}")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> Pattern {
        Pattern::Text(t.to_owned())
    }

    #[test]
    fn patterns_match_in_order() {
        assert_eq!(in_order(&[text("a"), text("b")], "xaxbx", "standard output"), Ok(()));
        assert!(
            in_order(&[text("b"), text("a")], "xaxbx", "standard output")
                .unwrap_err()
                .contains("in this order")
        );
        assert!(
            in_order(&[text("c")], "xaxbx", "standard output").unwrap_err().starts_with("\"c\" is not in")
        );
        assert!(in_order(&[text("a"), text("a")], "xaxbx", "standard output").is_err());
    }
}
