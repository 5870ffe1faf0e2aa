//! The real binary, started on free ports, ended when dropped.

use super::group::Group;
use super::{Client, DEADLINE, Response};
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use tempfile::TempDir;

pub(crate) use rustix::process::Signal;

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// All addresses of proxy listeners.
    pub(crate) listeners: Vec<SocketAddr>,
    child: Child,
    pub(crate) log: Lines,
    pub(crate) diagnostics: Lines,
    directory: TempDir,
    open: bool,
}

/// How a proxy is to be started.
#[derive(Default)]
pub(crate) struct Start {
    /// Without the open profile: the built-in defaults and `config` alone.
    closed: bool,
    config: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    listen: Option<Vec<String>>,
    admin_listen: Option<String>,
    deaf: bool,
    unheard: bool,
    /// Instead of the binary that was built with the tests.
    binary: Option<PathBuf>,
    /// What the shell does before it starts.
    before: Vec<String>,
}

/// Lines that a stream brought so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Read>, Condvar)>);

#[derive(Default)]
struct Read {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub(crate) fn read(stream: impl std::io::Read + Send + 'static) -> Self {
        let lines = Self::default();
        let ours = lines.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                ours.0.0.lock().unwrap().lines.push(text);
                ours.0.1.notify_all();
            }
            ours.0.0.lock().unwrap().ended = true;
            ours.0.1.notify_all();
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// All lines, once the stream has ended.
    pub(crate) fn whole(&self) -> Vec<String> {
        let held = self.0.0.lock().unwrap();
        let (held, waited) = self.0.1.wait_timeout_while(held, DEADLINE, |held| !held.ended).unwrap();
        assert!(!waited.timed_out(), "the stream goes on");
        held.lines.clone()
    }

    /// Waits for a line that fits.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.wait_count(what, 1, fits).remove(0)
    }

    /// Waits for `count` lines that fit.
    #[track_caller]
    pub(crate) fn wait_count(&self, what: &str, count: usize, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.try_wait(count, &fits);
        assert!(found.len() >= count, "{what}: {} of {count} lines in {:#?}", found.len(), self.all());
        found
    }

    fn try_wait(&self, count: usize, fits: &impl Fn(&str) -> bool) -> Vec<String> {
        let find = |lines: &[String]| lines.iter().filter(|l| fits(l)).cloned().collect::<Vec<_>>();
        let held = self.0.0.lock().unwrap();
        let wanting = |held: &mut Read| !held.ended && find(&held.lines).len() < count;
        let (held, _) = self.0.1.wait_timeout_while(held, DEADLINE, wanting).unwrap();
        find(&held.lines)
    }
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The commands that `larder --help` lists.
pub(crate) fn commands() -> Vec<String> {
    let help = String::from_utf8(command().arg("--help").output().unwrap().stdout).unwrap();
    let listed = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<_> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.iter().any(|name| name == "serve"), "{help}");
    names
}

/// A command that runs the binary, without the machine's own settings for it.
pub(crate) fn command() -> Command {
    command_of(env!("CARGO_BIN_EXE_larder"))
}

/// The same for another program, which may run the binary.
pub(crate) fn command_of(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("LARDER_") || name.to_ascii_lowercase().ends_with("_proxy") || name == "RUST_LOG"
        {
            command.env_remove(name);
        }
    }
    command
}

/// A program that ignores no signal, even where the tests run in the background of a shell, which lets what it starts
/// ignore those of the keyboard.
pub(crate) fn undisturbed(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if cfg!(target_os = "linux") {
        let mut env = command_of("env");
        env.arg("--default-signal").arg(program);
        env
    } else {
        command_of(program)
    }
}

/// Ends a process that a test started by itself.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// In a group of its own, so that what it has started ends with it.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        rustix::process::kill_process_group(rustix::process::Pid::from_child(&self.0), Signal::KILL).ok();
        self.0.wait().ok();
    }
}

/// A terminal of its own, by Linux's script(1), and what runs on it.
pub(crate) struct Terminal {
    script: Running,
    keys: ChildStdin,
    /// What is shown.
    pub(crate) told: Lines,
}

impl Terminal {
    /// Whether there can be one.
    pub(crate) fn exists() -> bool {
        cfg!(target_os = "linux") && Command::new("script").arg("--version").output().is_ok()
    }

    /// Runs a line of sh(1).
    pub(crate) fn run(line: &str) -> Self {
        let mut script = undisturbed("script");
        // Else it would be the user's shell.
        script
            .env("SHELL", "/bin/sh")
            .args(["-qec", line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut script = Running::start(&mut script);
        let keys = script.0.stdin.take().unwrap();
        let told = Lines::read(script.0.stdout.take().unwrap());
        Self { script, keys, told }
    }

    /// Presses these keys.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code of what ran, when it has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        super::eventually("the end", || self.script.0.try_wait().unwrap()).code()
    }
}

impl Start {
    /// TOML that is laid over the open profile.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Instead of one listener on 127.0.0.1:0; none: what file and environment say.
    pub(crate) fn listen(mut self, addresses: &[&str]) -> Self {
        self.listen = Some(addresses.iter().map(|a| (*a).to_owned()).collect());
        self
    }

    /// Instead of 127.0.0.1:0.
    pub(crate) fn admin_listen(mut self, address: &str) -> Self {
        self.admin_listen = Some(address.to_owned());
        self
    }

    /// Nobody reads its standard output.
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Its standard output goes nowhere, and is not kept.
    pub(crate) fn unheard(mut self) -> Self {
        self.unheard = true;
        self
    }

    /// Another build of it, if there is one.
    pub(crate) fn binary(mut self, file: Option<PathBuf>) -> Self {
        self.binary = file;
        self
    }

    /// The limit of open files that it starts with, as the shell's `ulimit` takes it.
    pub(crate) fn ulimit(self, limit: &str) -> Self {
        self.after(format!("ulimit {limit}"))
    }

    /// It runs in this control group.
    pub(crate) fn within(self, group: &Group) -> Self {
        self.after(group.entry())
    }

    /// The shell that starts it does this before.
    pub(crate) fn after(mut self, line: String) -> Self {
        self.before.push(line);
        self
    }

    #[track_caller]
    pub(crate) fn start(self) -> Proxy {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("larder.toml");
        std::fs::write(&file, render(!self.closed, &self.config)).unwrap();
        let listen = self.listen.unwrap_or_else(|| vec!["127.0.0.1:0".to_owned()]);
        let mut start = self.binary.map_or_else(command, command_of);
        if !self.before.is_empty() {
            let binary = start.get_program().to_owned();
            start = command_of("sh");
            start.arg("-c").arg(format!("{} && exec \"$0\" \"$@\"", self.before.join(" && "))).arg(binary);
        }
        let mut child = start
            .arg("--config")
            .arg(&file)
            .args(listen.iter().flat_map(|a| ["--listen", a]))
            .args(["--admin-listen", self.admin_listen.as_deref().unwrap_or("127.0.0.1:0")])
            .args(&self.arguments)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(if self.unheard { Stdio::null() } else { Stdio::piped() })
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = match child.stdout.take_if(|_| !self.deaf) {
            Some(stdout) => Lines::read(stdout),
            None => Lines::default(),
        };
        let diagnostics = Lines::read(child.stderr.take().unwrap());
        // The admin listener's line comes last.
        let admin = diagnostics.wait("start", |l| l.starts_with("larder: admin listening on "));
        let told = diagnostics.all();
        let listeners: Vec<_> =
            told.iter().filter_map(|l| l.strip_prefix("larder: proxy listening on ")?.parse().ok()).collect();
        let address = *listeners.first().unwrap_or_else(|| panic!("no listener in {told:#?}"));
        let admin = admin["larder: admin listening on ".len()..].parse().unwrap();
        Proxy { address, admin, listeners, child, log, diagnostics, directory, open: !self.closed }
    }
}

impl Proxy {
    /// With the open profile, in which origins on this machine can be reached.
    #[track_caller]
    pub(crate) fn open() -> Self {
        Start::default().start()
    }

    /// The open profile with that TOML laid over it.
    #[track_caller]
    pub(crate) fn with(config: &str) -> Self {
        Start::default().config(config).start()
    }

    pub(crate) fn builder() -> Start {
        Start::default()
    }

    /// The built-in defaults.
    pub(crate) fn closed() -> Start {
        Start { closed: true, ..Start::default() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> Response {
        self.client().get(url)
    }

    #[track_caller]
    pub(crate) fn get_with(&self, url: &str, fields: &[&str]) -> Response {
        self.client().get_with(url, fields)
    }

    #[track_caller]
    pub(crate) fn request(
        &self,
        method: &str,
        url: &str,
        fields: &[&str],
        body: impl AsRef<[u8]>,
    ) -> Response {
        self.client().request(method, url, fields, body)
    }

    /// Raw bytes on a connection of their own, and the answer.
    #[track_caller]
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.client();
        client.send(bytes);
        client.response("GET")
    }

    /// Asks the admin listener.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str, fields: &[&str], body: &str) -> Response {
        let mut client = Client::connect(self.admin);
        let more: String = fields.iter().map(|f| format!("{f}\r\n")).collect();
        let length = body.len();
        let host = if more.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.admin)
        };
        client
            .send(format!("{method} {path} HTTP/1.1\r\n{host}{more}Content-Length: {length}\r\n\r\n{body}"));
        client.response(method)
    }

    #[track_caller]
    pub(crate) fn admin_json(&self, method: &str, path: &str) -> serde_json::Value {
        let response = self.admin(method, path, &[], "");
        response.assert_status(200);
        serde_json::from_slice(&response.body).unwrap_or_else(|e| panic!("{e}: {response}"))
    }

    /// The sum of a metric's series whose labels include all of `labels` (as `name="value"`).
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("GET", "/metrics", &[], "").text();
        let series = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let fits = rest.starts_with([' ', '{']) && labels.iter().all(|l| rest.contains(l));
            if fits { rest.rsplit(' ').next()?.parse::<f64>().ok() } else { None }
        };
        text.lines().filter_map(series).sum()
    }

    /// Waits until so much was refused, closed or given up by this limit.
    #[track_caller]
    pub(crate) fn wait_rejections(&self, limit: &str, count: usize) {
        let label = format!("limit=\"{limit}\"");
        super::eventually(&format!("{count} rejections by {limit}"), || {
            let found = self.metric("larder_limit_rejections_total", &[&label]);
            ((found - count as f64).abs() < 0.1).then_some(())
        });
    }

    /// Writes the configuration file anew, as the start did.
    pub(crate) fn write_config(&self, config: &str) {
        std::fs::write(self.config_file(), render(self.open, config)).unwrap();
    }

    /// Writes the configuration file as it is given.
    pub(crate) fn write_config_raw(&self, text: &str) {
        std::fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("larder.toml")
    }

    /// Runs a subcommand against this proxy: `--admin-listen` tells where it is.
    pub(crate) fn run(&self, arguments: &[&str]) -> std::process::Output {
        command().arg("--admin-listen").arg(self.admin.to_string()).args(arguments).output().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        super::eventually("the proxy's end", || child.try_wait().unwrap())
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/PID/status` in bytes, e.g. `VmRSS`, `VmHWM`.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
        found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The process's state as `/proc/PID/stat` has it, e.g. `T` while it is stopped.
    pub(crate) fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap()
    }

    /// The CPU time that the process took so far, in hundredths of a second.
    pub(crate) fn cpu(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name before may hold spaces; behind it stand the state, and user and system time as fields 12 and 13.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// How many threads the process has.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// How many file descriptors the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the proxy said:\n{}", self.diagnostics.all().join("\n"));
        }
    }
}

/// The configuration of a test: the open profile, where wanted, with `over` laid on top.
/// A configuration as a proxy is given it; `open`: over the open profile.
pub(crate) fn render(open: bool, over: &str) -> String {
    if !open {
        return over.to_owned();
    }
    let profile = std::fs::read_to_string(root().join("config/open.toml")).unwrap();
    let mut merged: toml::Table = profile.parse().unwrap();
    merge(&mut merged, over.parse().unwrap_or_else(|e| panic!("the test's own TOML: {e}")));
    let mut text = String::new();
    for (key, value) in &merged {
        text += &format!("{key} = {}\n", inline(value));
    }
    text
}

fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// A TOML value on one line.
fn inline(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => serde_json::to_string(text).unwrap(),
        toml::Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        toml::Value::Table(table) => {
            let members: Vec<_> = table.iter().map(|(k, v)| format!("\"{k}\" = {}", inline(v))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => format!("{number:?}"),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(_) => panic!("no key is a date"),
    }
}
