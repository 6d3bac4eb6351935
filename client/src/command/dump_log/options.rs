//! The options of `kafka-dump-log`.

use alloc::string::String;
use alloc::vec::Vec;

use super::Decoder;

/// What to dump, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpOptions {
    /// `--files`: paths, in their order.
    pub files: Vec<String>,
    /// `--print-data-log`, which every decoder implies.
    pub print_data_log: bool,
    /// `--deep-iteration`, which printing implies.
    pub deep_iteration: bool,
    /// `--verify-index-only`.
    pub verify_index_only: bool,
    /// `--index-sanity-check`.
    pub index_sanity_check: bool,
    /// `--skip-record-metadata`.
    pub skip_record_metadata: bool,
    /// `--max-bytes`: how much of a log is read.
    pub max_bytes: usize,
    /// `--max-message-size`: how much of a log is read where an index points.
    pub max_message_size: usize,
    /// How keys and values are made into text.
    pub decoder: Decoder,
}

impl Default for DumpOptions {
    fn default() -> DumpOptions {
        DumpOptions {
            files: Vec::new(),
            print_data_log: false,
            deep_iteration: false,
            verify_index_only: false,
            index_sanity_check: false,
            skip_record_metadata: false,
            max_bytes: i32::MAX as usize,
            max_message_size: 5 << 20,
            decoder: Decoder::default(),
        }
    }
}

/// Why the command line is not one of this tool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No file is named.
    #[error("Missing required argument \"[files]\"")]
    NoFiles,
    /// There is no such option.
    #[error("{0} is not a recognized option")]
    Unknown(String),
    /// An option lacks its value.
    #[error("Option {0} requires an argument")]
    NoValue(String),
    /// An option's value is not what it should be.
    #[error("Cannot parse argument '{value}' of option {option}")]
    BadValue {
        /// The option.
        option: String,
        /// What was given.
        value: String,
    },
    /// A decoder's class is one that only Java could load.
    #[error("{0} is not one of the decoders that this tool has")]
    UnknownDecoder(String),
}

impl DumpOptions {
    /// Parses the arguments behind the tool's name: `--option value` and `--option=value`.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<DumpOptions, OptionsError> {
        let mut options = DumpOptions::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let mut value = || {
                value
                    .or_else(|| arguments.next())
                    .map(String::from)
                    .ok_or_else(|| OptionsError::NoValue(name.into()))
            };
            match name {
                "--files" => {
                    options.files = value()?.split(',').filter(|f| !f.is_empty()).map(String::from).collect();
                }
                "--print-data-log" => options.print_data_log = true,
                "--deep-iteration" => options.deep_iteration = true,
                "--verify-index-only" => options.verify_index_only = true,
                "--index-sanity-check" => options.index_sanity_check = true,
                "--skip-record-metadata" => options.skip_record_metadata = true,
                "--max-bytes" => options.max_bytes = number(name, value()?)?,
                "--max-message-size" => options.max_message_size = number(name, value()?)?,
                "--cluster-metadata-decoder" => options.decoder = Decoder::ClusterMetadata,
                "--offsets-decoder" => options.decoder = Decoder::Offsets,
                "--transaction-log-decoder" => options.decoder = Decoder::TransactionLog,
                "--key-decoder-class" => options.decoder.set_key(&value()?)?,
                "--value-decoder-class" => options.decoder.set_value(&value()?)?,
                _ => return Err(OptionsError::Unknown(name.into())),
            }
            options.print_data_log |= name.contains("decoder");
        }
        options.deep_iteration |= options.print_data_log;
        if options.files.is_empty() { Err(OptionsError::NoFiles) } else { Ok(options) }
    }
}

fn number(option: &str, value: String) -> Result<usize, OptionsError> {
    match value.parse::<i32>().ok().and_then(|number| usize::try_from(number).ok()) {
        Some(number) => Ok(number),
        None => Err(OptionsError::BadValue { option: option.into(), value }),
    }
}
