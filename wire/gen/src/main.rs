//! Generates the messages and records of `wire` from its schema tables.
//!
//! `cargo run -p highwater-wire-gen` writes them into `wire/src`, where they are committed; a test compares.

mod files;
mod names;
mod schema;
mod structs;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use files::{Family, FamilyEnum, Files};

const FAMILIES: &[Family] = &[
    Family {
        dir: "metadata",
        kind: "Metadata",
        doc: "The records of the metadata log.",
        enums: &[FamilyEnum {
            name: "MetadataRecord",
            suffix: "Record",
            doc: "Any record of the metadata log.",
        }],
    },
    Family {
        dir: "group",
        kind: "Group",
        doc: "The records of the group coordinator, in `__consumer_offsets`.",
        enums: &[
            FamilyEnum {
                name: "GroupKey",
                suffix: "Key",
                doc: "Any key of the group coordinator's records.",
            },
            FamilyEnum {
                name: "GroupValue",
                suffix: "Value",
                doc: "Any value of the group coordinator's records.",
            },
        ],
    },
    Family {
        dir: "transaction",
        kind: "Transaction",
        doc: "The records of the transaction coordinator, in `__transaction_state`.",
        enums: &[],
    },
    Family {
        dir: "control",
        kind: "Control",
        doc: "Control records, and the entry of a transaction index.",
        enums: &[],
    },
    Family {
        dir: "protocol",
        kind: "Protocol",
        doc: "What travels inside other messages as bytes.",
        enums: &[],
    },
    Family {
        dir: "storage",
        kind: "Storage",
        doc: "Files and internal topics of the storage layer.",
        enums: &[],
    },
];

fn wire() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("wire/gen lies in wire").to_owned()
}

fn generate() -> Files {
    let table = |name: &str| {
        let path = wire().join("schema").join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let requests = schema::parse(&table("requests.txt"));
    let apis = schema::parse_apis(&table("apis.txt"));
    let mut files = Files::new();
    files::messages(&mut files, &requests, &apis);
    files::api_table(&mut files, &apis, &requests);
    let mut tables = vec![("requests", requests)];
    for family in FAMILIES {
        let records = schema::parse(&table(&format!("{}.txt", family.dir)));
        files::records(&mut files, family, &records);
        tables.push((family.kind, records));
    }
    files::records_index(&mut files, FAMILIES);
    files.insert("schema/table.rs".into(), tables::file(&tables));
    files
}

/// Writes the files below `root` and formats them.
fn write(files: &Files, root: &Path) {
    for dir in ["messages", "records"] {
        match fs::remove_dir_all(root.join(dir)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => panic!("{dir}: {e}"),
        }
    }
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, text).expect("a file");
    }
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(wire().parent().expect("wire lies in the workspace").join("rustfmt.toml"))
        .args(files.keys().map(|name| root.join(name)))
        .status()
        .expect("rustfmt runs");
    assert!(status.success(), "rustfmt refuses what was generated");
}

fn main() {
    let files = generate();
    write(&files, &wire().join("src"));
    println!("{} files", files.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is committed is what the tables say.
    #[test]
    fn generated_files_are_current() {
        let root = wire().parent().expect("wire lies in the workspace").join("target/wire-gen");
        let files = generate();
        write(&files, &root);
        let stale: Vec<&String> = files
            .keys()
            .filter(|name| {
                let new = fs::read_to_string(root.join(name)).expect("just written");
                fs::read_to_string(wire().join("src").join(name)).ok() != Some(new)
            })
            .collect();
        fs::remove_dir_all(&root).expect("just written");
        assert!(stale.is_empty(), "run `cargo run -p highwater-wire-gen`; stale: {stale:?}");
    }
}
