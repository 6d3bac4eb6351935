//! What `highwater run` and `highwater sweep` write for CI systems.

use std::path::{Path, PathBuf};

use clap::Args;
use reports::ci::Suite;

/// Options for CI systems.
#[derive(Args, Debug, Default)]
pub struct CiArgs {
    /// Write JUnit's XML into this file
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write SARIF 2.1.0 into this file
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Print GitHub's annotations (to standard error if JSON goes to standard output)
    #[arg(long)]
    pub github: bool,
}

impl CiArgs {
    /// Whether anything is to be written.
    pub fn any(&self) -> bool {
        self.junit.is_some() || self.sarif.is_some() || self.github
    }

    /// Writes what was asked for.
    pub fn write(&self, suite: &Suite, json_on_stdout: bool) -> Result<(), String> {
        if let Some(path) = &self.junit {
            write(path, &reports::junit::document(suite))?;
        }
        if let Some(path) = &self.sarif {
            let document = reports::sarif::document(suite, env!("CARGO_PKG_VERSION"));
            write(path, &(serde_json::to_string_pretty(&document).expect("plain JSON") + "\n"))?;
        }
        if self.github {
            let lines = reports::github::annotations(suite);
            if json_on_stdout {
                eprint!("{lines}");
            } else {
                super::print(&lines);
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| {
        format!(
            "error: {} cannot be written: {e}\n  = help: name a file in a directory that is there",
            path.display()
        )
    })
}
