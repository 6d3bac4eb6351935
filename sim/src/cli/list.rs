//! `highwater scenarios`: what comes with Highwater.

use std::fmt::Write;
use std::path::Path;

use crate::scenario;

/// Prints every scenario with its title and its variants, 80 columns wide.
pub fn list() -> u8 {
    let mut text = String::new();
    let mut last = String::new();
    for (folder, name, source) in super::builtin::all() {
        if folder != last {
            let heading = match folder.as_str() {
                "labs" => "Labs: lessons for a class",
                "faults" => "Faults: what the simulator once found in the core, kept from coming back",
                "anomalies" => "Anomalies: what goes wrong, each with its repaired twin",
                "bench" => "Bench: what is measured",
                other => other,
            };
            let _ = writeln!(text, "{}{heading}", if last.is_empty() { "" } else { "\n" });
            last = folder;
        }
        match scenario::parse(Path::new(&name), source.to_owned())
            .and_then(|sheet| Ok((sheet.variant(None)?, sheet.variants)))
        {
            Ok((scenario, variants)) => {
                let variants = if variants.is_empty() {
                    String::new()
                } else {
                    format!(" (also: {})", variants.join(", "))
                };
                let title = format!("{}{variants}", scenario.title);
                for (i, line) in textwrap::wrap(&title, 50).iter().enumerate() {
                    let _ = writeln!(text, "  {:<26}  {line}", if i == 0 { name.as_str() } else { "" });
                }
            }
            Err(e) => {
                let _ = writeln!(text, "  {name:<26}  cannot be read: {e}");
            }
        }
    }
    text.push_str("\nRun one: highwater run kill-broker-1\n");
    super::print(&text)
}
