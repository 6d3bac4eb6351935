//! How the tools that only make admin calls are written: as plain code that stops where it must wait.
//!
//! A tool is a function over a [`Session`]. When it asks for a result that is not there yet, it returns with
//! [`Stop::Wait`] (a `?` does), and once the result has come it is called again from its beginning. Then every call
//! that was made before gives the answer that it gave before, and what was printed before is not printed again. So the
//! function must depend on nothing but the session, and reads like the Java tool that blocks.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use rand_core::Rng as _;
use wire::Codecs;
use wire::drive::{Endpoint, Instant, Now};

use super::CommandSpec;
use super::java;
use super::options::{Help, Options};
use crate::Rng;
use crate::admin::{Admin, AdminResult, CallId};
use crate::backoff::fork;
use crate::config::{AdminConfig, ClientKind, ConfigError, Settings, setting};
use crate::error::ClientError;
use crate::io::{Input, Output, Outputs};

/// A Java exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub class: &'static str,
    pub message: Option<String>,
    pub cause: Option<Box<Exception>>,
    pub suppressed: Vec<Exception>,
}

impl Exception {
    pub fn new(class: &'static str, message: impl Into<String>) -> Exception {
        Exception { class, message: Some(message.into()), cause: None, suppressed: Vec::new() }
    }

    /// An exception without a message of its own: it takes that of its cause.
    pub fn wrapping(class: &'static str, cause: Exception) -> Exception {
        let message = Some(cause.text());
        Exception { class, message, cause: Some(Box::new(cause)), suppressed: Vec::new() }
    }

    pub fn illegal_argument(message: impl Into<String>) -> Exception {
        Exception::new("java.lang.IllegalArgumentException", message)
    }

    /// What `Future.get` throws.
    pub fn execution(cause: impl Into<Exception>) -> Exception {
        Exception::wrapping("java.util.concurrent.ExecutionException", cause.into())
    }

    pub fn runtime(cause: Exception) -> Exception {
        Exception::wrapping("java.lang.RuntimeException", cause)
    }

    /// The message as Java prints it.
    pub fn message_text(&self) -> &str {
        self.message.as_deref().unwrap_or("null")
    }

    /// `toString`.
    pub fn text(&self) -> String {
        match &self.message {
            Some(message) => format!("{}: {message}", self.class),
            None => self.class.to_string(),
        }
    }

    /// The stack trace without its frames; ends with a newline.
    pub fn stack_trace(&self) -> String {
        let mut text = format!("{}\n", self.text());
        for suppressed in &self.suppressed {
            text.push_str(&format!("\tSuppressed: {}", suppressed.stack_trace()));
        }
        if let Some(cause) = &self.cause {
            text.push_str(&format!("Caused by: {}", cause.stack_trace()));
        }
        text
    }
}

impl From<ClientError> for Exception {
    fn from(error: ClientError) -> Exception {
        Exception {
            class: error.class,
            message: Some(error.message).filter(|text| !text.is_empty()),
            cause: error.cause.map(|cause| Box::new(Exception::from(*cause))),
            suppressed: Vec::new(),
        }
    }
}

impl From<ConfigError> for Exception {
    fn from(error: ConfigError) -> Exception {
        Exception::new("org.apache.kafka.common.config.ConfigException", error.to_string())
    }
}

/// Why a tool's function returns before its end.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// For an answer.
    Wait,
    /// It is over.
    Exit(i32),
    /// An exception.
    Thrown(Exception),
}

impl From<Exception> for Stop {
    fn from(exception: Exception) -> Stop {
        Stop::Thrown(exception)
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Stop {
        Stop::Thrown(error.into())
    }
}

pub(super) type Ran<T = ()> = Result<T, Stop>;

/// A tool that only makes admin calls.
pub(super) type Tool = fn(&mut Session<'_>) -> Ran;

/// A call that was begun: its number in the order of the tool's calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked(usize);

#[derive(Clone, Debug)]
enum Answer {
    Waiting(CallId),
    Came(AdminResult),
}

/// What lives on between two runs of the function.
#[derive(Clone)]
pub(super) struct Calls {
    tool: Tool,
    admin: Option<Box<Admin>>,
    answers: Vec<Answer>,
    /// The texts that were printed.
    printed: usize,
    exit: Option<i32>,
    /// The wall clock when the tool was run first.
    started_ms: Option<i64>,
    /// What was drawn, if the tool leaves something to chance.
    drawn: Option<u64>,
    rng: Rng,
}

impl Calls {
    pub fn new(tool: Tool, rng: Rng) -> Calls {
        let answers = Vec::new();
        Calls { tool, admin: None, answers, printed: 0, exit: None, started_ms: None, drawn: None, rng }
    }

    pub fn handle(
        &mut self,
        spec: &CommandSpec,
        now: Now,
        input: &Input,
        codecs: &dyn Codecs,
        out: &mut Outputs,
    ) {
        if self.exit.is_some() {
            return;
        }
        let mut run = matches!(input, Input::Start);
        if let Some(admin) = &mut self.admin {
            admin.handle(now, input, out);
        }
        loop {
            run |= self.take_answers();
            if core::mem::take(&mut run) {
                self.run(spec, now, codecs, out);
            }
            if self.exit.is_some() {
                break;
            }
            if let Some(admin) = &mut self.admin {
                admin.drive(now, out);
            }
            // Driving the client may have ended calls whose time is over.
            if !self.take_answers() {
                break;
            }
            run = true;
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.admin.as_ref().filter(|_| self.exit.is_none()).and_then(|admin| admin.next_deadline())
    }

    /// Whether answers have come.
    fn take_answers(&mut self) -> bool {
        let mut came = false;
        while let Some((id, result)) = self.admin.as_mut().and_then(|admin| admin.take_result()) {
            let waiting = |answer: &&mut Answer| matches!(answer, Answer::Waiting(call) if *call == id);
            let answer = self.answers.iter_mut().find(waiting).expect("every call is the tool's");
            *answer = Answer::Came(result);
            came = true;
        }
        came
    }

    fn run(&mut self, spec: &CommandSpec, now: Now, codecs: &dyn Codecs, out: &mut Outputs) {
        let tool = self.tool;
        self.started_ms.get_or_insert(now.wall_ms);
        let mut session = Session { spec, now, codecs, calls: self, out, asked: 0, printed: 0 };
        let code = match tool(&mut session) {
            Err(Stop::Wait) => return,
            Err(Stop::Exit(code)) => code,
            Ok(()) => 0,
            Err(Stop::Thrown(exception)) => {
                session.print_exception(&exception);
                1
            }
        };
        self.end(code, out);
    }

    /// Closes the client, and says so.
    pub fn end(&mut self, code: i32, out: &mut Outputs) {
        if self.exit.is_some() {
            return;
        }
        if let Some(admin) = &mut self.admin {
            admin.close(out);
        }
        self.exit = Some(code);
        out.items.push(Output::Exit { code });
    }
}

/// Where a tool prints.
pub(super) trait Console {
    /// Puts a text out.
    fn put(&mut self, output: Output);

    /// The wall clock.
    fn wall_ms(&self) -> i64;

    /// Text on standard output.
    fn print(&mut self, text: impl Into<String>) {
        self.put(Output::Stdout(text.into()));
    }

    /// A line on standard output.
    fn line(&mut self, text: impl Into<String>) {
        let mut text = text.into();
        text.push('\n');
        self.print(text);
    }

    /// Texts on standard output and on standard error, as far as there is any.
    fn print_both(&mut self, stdout: String, stderr: String) {
        for output in [Output::Stdout(stdout), Output::Stderr(stderr)] {
            if !matches!(&output, Output::Stdout(text) | Output::Stderr(text) if text.is_empty()) {
                self.put(output);
            }
        }
    }

    /// A line on standard error.
    fn complain(&mut self, text: impl Into<String>) {
        let mut text = text.into();
        text.push('\n');
        self.put(Output::Stderr(text));
    }

    /// What most tools' `main` does with an exception: its message and its stack trace, each as a line.
    fn print_exception(&mut self, exception: &Exception) {
        self.complain(exception.message_text());
        self.complain(exception.stack_trace());
    }

    /// log4j's line of an error, on standard error; the exception's stack trace follows it if there is one.
    fn log_error(&mut self, text: &str, logger: &str, thrown: Option<&Exception>) {
        let time = java::log_time(self.wall_ms());
        let trace = thrown.map(Exception::stack_trace).unwrap_or_default();
        self.put(Output::Stderr(format!("[{time}] ERROR {text} ({logger})\n{trace}")));
    }

    /// `CommandLineUtils.printUsageAndExit`: the reason, the options, exit 1.
    fn usage(&mut self, help: Help, reason: &str) -> Stop {
        self.complain(reason);
        self.put(Output::Stderr(help.0.into()));
        Stop::Exit(1)
    }

    /// `--help`, no word at all, and `--version`.
    fn help_or_version(&mut self, options: &Options, help: Help, about: &str) -> Ran {
        if options.is_empty() || options.has("help") {
            return Err(self.usage(help, about));
        }
        if options.has("version") {
            self.line(super::VERSION);
            return Err(Stop::Exit(0));
        }
        Ok(())
    }

    /// A check of options: its complaint ends the tool with the usage.
    fn check(&mut self, help: Help, checked: Result<(), String>) -> Ran {
        checked.map_err(|reason| self.usage(help, &reason))
    }
}

/// A console that prints at once.
pub(super) struct Terminal<'a> {
    pub now: Now,
    pub out: &'a mut Outputs,
}

impl Console for Terminal<'_> {
    fn put(&mut self, output: Output) {
        self.out.items.push(output);
    }

    fn wall_ms(&self) -> i64 {
        self.now.wall_ms
    }
}

/// What was printed before is not printed again.
impl Console for Session<'_> {
    fn put(&mut self, output: Output) {
        self.printed += 1;
        if self.printed > self.calls.printed {
            self.calls.printed = self.printed;
            self.out.items.push(output);
        }
    }

    fn wall_ms(&self) -> i64 {
        self.now.wall_ms
    }
}

/// What a tool's function sees and uses.
pub(super) struct Session<'a> {
    pub spec: &'a CommandSpec,
    pub now: Now,
    pub codecs: &'a dyn Codecs,
    calls: &'a mut Calls,
    out: &'a mut Outputs,
    asked: usize,
    printed: usize,
}

impl Session<'_> {
    /// The words behind the tool's name.
    pub fn arguments(&self) -> &[String] {
        self.spec.words.get(1..).unwrap_or_default()
    }

    /// The wall clock at the tool's beginning, whenever it is asked.
    pub fn started_ms(&self) -> i64 {
        self.calls.started_ms.unwrap_or(self.now.wall_ms)
    }

    /// A number by chance, the same whenever it is asked.
    pub fn chance(&mut self) -> u64 {
        let rng = &mut self.calls.rng;
        *self.calls.drawn.get_or_insert_with(|| rng.next_u64())
    }

    // --- files and settings

    /// The text of a file beside the command.
    pub fn file(&self, path: &str) -> Result<String, Exception> {
        self.spec.text_file(path).map_err(|cause| {
            let class = "java.io.IOException";
            let message = Some(format!("Unable to read file {path}"));
            Exception { class, message, cause: Some(Box::new(cause)), suppressed: Vec::new() }
        })
    }

    /// The settings of a properties file, if one is named.
    pub fn settings(&self, path: Option<&str>) -> Result<Settings, Exception> {
        self.spec.settings(path)
    }

    /// Makes the admin client, if it is not there yet.
    pub fn connect(&mut self, bootstrap: &str, settings: Settings) -> Result<(), Exception> {
        self.connect_to(false, bootstrap, settings)
    }

    /// The same by controllers, if these are the bootstrap servers.
    pub fn connect_to(
        &mut self,
        controllers: bool,
        bootstrap: &str,
        mut settings: Settings,
    ) -> Result<(), Exception> {
        if self.calls.admin.is_some() {
            return Ok(());
        }
        known_settings(ClientKind::Admin, &mut settings, &self.spec.config);
        let endpoints = bootstrap_servers(bootstrap)
            .map_err(|cause| failed_construct("Failed to create new KafkaAdminClient", cause))?;
        let config = AdminConfig::parse(&settings)?;
        let rng = fork(&mut self.calls.rng);
        let made = if controllers { Admin::of_controllers } else { Admin::new };
        self.calls.admin = Some(Box::new(made(config, "adminclient-1", endpoints, rng)));
        Ok(())
    }

    // --- calls

    /// Begins a call; several may be under way.
    pub fn begin(&mut self, call: impl FnOnce(&mut Admin, Now) -> CallId) -> Asked {
        if self.asked == self.calls.answers.len() {
            let admin = self.calls.admin.as_mut().expect("a tool connects before it calls");
            self.calls.answers.push(Answer::Waiting(call(admin, self.now)));
        }
        self.asked += 1;
        Asked(self.asked - 1)
    }

    /// Its result.
    pub fn wait(&mut self, asked: Asked) -> Ran<AdminResult> {
        self.calls.take_answers();
        match &self.calls.answers[asked.0] {
            Answer::Waiting(_) => Err(Stop::Wait),
            Answer::Came(result) => Ok(result.clone()),
        }
    }

    /// Begins a call and waits for its result.
    pub fn ask(&mut self, call: impl FnOnce(&mut Admin, Now) -> CallId) -> Ran<AdminResult> {
        let asked = self.begin(call);
        self.wait(asked)
    }
}

/// Java's clients pass over settings that they do not know, and so do the tools; those of the driver fill in.
pub(super) fn known_settings(kind: ClientKind, settings: &mut Settings, filling: &BTreeMap<String, String>) {
    for (name, value) in filling {
        settings.entry(name.clone()).or_insert_with(|| value.clone());
    }
    settings.retain(|name, _| setting(kind, name).is_some());
    settings.remove("bootstrap.servers");
}

pub(super) fn failed_construct(text: &str, cause: Exception) -> Exception {
    let class = "org.apache.kafka.common.KafkaException";
    Exception { class, message: Some(text.into()), cause: Some(Box::new(cause)), suppressed: Vec::new() }
}

/// `host:port,host:port`, as `ClientUtils.parseAndValidateAddresses` takes it.
pub(super) fn bootstrap_servers(text: &str) -> Result<Vec<Endpoint>, Exception> {
    let class = "org.apache.kafka.common.config.ConfigException";
    let mut endpoints = Vec::new();
    for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        let endpoint = endpoint(url)
            .ok_or_else(|| Exception::new(class, format!("Invalid url in bootstrap.servers: {url}")))?;
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        return Err(Exception::new(class, "No resolvable bootstrap urls given in bootstrap.servers"));
    }
    Ok(endpoints)
}

/// `host:port`, perhaps behind a protocol, perhaps with a host in brackets.
pub(super) fn endpoint(url: &str) -> Option<Endpoint> {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse::<u16>().ok()?;
    (!host.is_empty()).then(|| Endpoint::new(host, port))
}

/// One of many results as its future's `get` gives it, or else the exception that it throws.
pub(super) fn got<T>(result: Result<T, ClientError>) -> Result<T, Exception> {
    result.map_err(Exception::execution)
}

/// A result of another kind than the call's is a bug of the admin client.
macro_rules! result_of {
    ($result:expr, $kind:ident) => {
        match $result {
            $crate::admin::AdminResult::$kind(result) => result,
            other => unreachable!("a call answered with {other:?}"),
        }
    };
}
pub(super) use result_of;
