//! `larder run` and `larder env`: a command that finds the proxy in its environment.

use crate::support::dns::NameServer;
use crate::support::proxy::{Lines, Running, Signal, Terminal, command, command_of, render, undisturbed};
use crate::support::{Origin, Proxy, eventually, skip};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A configuration by which `site.test` is on this machine.
struct Site {
    origin: Origin,
    names: NameServer,
    directory: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        let origin = Origin::start();
        origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"the body");
        let names = NameServer::start();
        names.address_of("site.test", [127, 0, 0, 1]);
        let directory = tempfile::tempdir().unwrap();
        let config = names.config() + "pac.direct = ['intern.example']\n";
        std::fs::write(directory.path().join("larder.toml"), render(true, &config)).unwrap();
        Self { origin, names, directory }
    }

    fn url(&self) -> String {
        format!("http://site.test:{}/x", self.origin.address.port())
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("larder.toml")
    }

    /// `larder run -- sh -c SCRIPT`.
    fn script(&self, script: &str) -> Command {
        let mut run = undisturbed(command().get_program());
        run.arg("--config").arg(self.config()).args(["run", "--", "sh", "-c", script]);
        run
    }

    fn run(&self, script: &str) -> Output {
        self.script(script).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_command_runs_through_a_proxy_of_its_own_and_is_told_what_that_saved() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("larder run with curl", "not installed");
    }
    let site = Site::start();
    let output = site.run(&format!("for i in 1 2 3; do curl -sS {}; done", site.url()));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "the bodythe bodythe body", "nothing but the command's output");
    assert_eq!(site.origin.hits("/x"), 1);
    let told = text(&output.stderr);
    assert_eq!(told, "larder: saved 16 B: 2 of 3 requests from the cache\n");
}

#[test]
fn the_variables_are_there_in_both_cases_and_the_proxy_ends_with_the_command() {
    let site = Site::start();
    let output =
        site.run("echo $http_proxy $HTTP_PROXY $https_proxy $HTTPS_PROXY; echo $no_proxy; echo $NO_PROXY");
    let told = text(&output.stdout);
    let lines: Vec<&str> = told.lines().collect();
    let proxies: Vec<&str> = lines[0].split(' ').collect();
    assert!(proxies.len() == 4 && proxies.iter().all(|proxy| *proxy == proxies[0]), "{told}");
    assert!(lines[1].starts_with("localhost,") && lines[1].ends_with(",intern.example"), "{told}");
    assert_eq!(lines[1], lines[2]);
    let address = proxies[0].strip_prefix("http://").unwrap();
    assert!(TcpStream::connect(address).is_err(), "it still listens");
}

#[test]
fn what_the_environment_says_of_proxies_stays_true_behind_the_commands_own() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("larder run behind another proxy", "curl is not installed");
    }
    let site = Site::start();
    let outer = Proxy::with(&site.names.config());
    let address = format!("http://{}", outer.address);
    let script = format!("curl -sS {0}; curl -sS {0}; echo; echo $no_proxy", site.url());
    let run = |more: &str| {
        std::fs::write(site.config(), render(true, &(site.names.config() + more))).unwrap();
        let mut run = site.script(&script);
        run.env("http_proxy", &address).env("NO_PROXY", "own.example, 10.0.0.0/8");
        text(&run.output().unwrap().stdout)
    };
    let told = run("");
    assert!(told.starts_with("the bodythe body\n"), "{told}");
    assert!(told.contains(",10.0.0.0/8,") && told.ends_with(",fec0::/10,own.example\n"), "each once: {told}");
    outer.log.wait_count("the outer proxy's log", 1, |line| line.contains(&site.url()));
    assert_eq!(site.origin.last("/x").field("via").unwrap().split(',').count(), 2, "through both");
    run("upstream.parents = []\n");
    assert_eq!(site.origin.last("/x").field("via").unwrap().split(',').count(), 1, "as its file says");
    let printed = command().arg("env").env("no_proxy", "own.example").output().unwrap();
    assert_eq!(text(&printed.stdout).matches(",own.example'").count(), 2, "{printed:?}");
}

#[test]
fn the_exit_code_is_the_commands() {
    let site = Site::start();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        assert_eq!(site.run(script).status.code(), Some(code), "{script}");
    }
    let missing = command().args(["run", "--", "/nonexistent/program"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(127));
    assert!(text(&missing.stderr).contains("can't run /nonexistent/program: No such file"), "{missing:?}");
    let file = command().args(["run", "--"]).arg(site.config()).output().unwrap();
    assert_eq!(file.status.code(), Some(126), "{file:?}");
}

#[test]
fn signals_go_on_to_the_command_which_decides() {
    let site = Site::start();
    let script = "trap 'echo got TERM' TERM; trap 'echo got INT; exit 9' INT; echo ready
        while :; do read line || :; done";
    let mut run = site.script(script);
    // Its own input never ends, so that `read` waits.
    let run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Running::start(run);
    let input = run.0.stdin.take();
    let told = Lines::read(run.0.stdout.take().unwrap());
    let send = |run: &Running, signal| {
        rustix::process::kill_process(rustix::process::Pid::from_child(&run.0), signal).unwrap();
    };
    told.wait("the command", |line| line == "ready");
    send(&run, Signal::TERM);
    told.wait("the first signal", |line| line == "got TERM");
    assert!(run.0.try_wait().unwrap().is_none(), "the command goes on, and so does its proxy");
    send(&run, Signal::INT);
    told.wait("the second signal", |line| line == "got INT");
    let status = eventually("the end", || run.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(9));
    drop(input);
}

/// nohup(1) and `trap ''` of a shell: what is ignored stays ignored in what is started.
#[test]
#[cfg(target_os = "linux")]
fn what_was_ignored_before_stays_ignored_in_the_command() {
    let site = Site::start();
    let ignored = |trap: &str| {
        let mut run = undisturbed("sh");
        run.args(["-c", &format!("{trap} exec \"$0\" \"$@\"")]).arg(command().get_program());
        run.arg("--config").arg(site.config()).args(["run", "--", "grep", "SigIgn", "/proc/self/status"]);
        let told = text(&run.output().unwrap().stdout);
        u64::from_str_radix(told.trim_start_matches("SigIgn:").trim(), 16).unwrap()
    };
    let bits = |signals: &[Signal]| signals.iter().fold(0, |set, signal| set | 1 << (signal.as_raw() - 1));
    let passed = bits(&[Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2]);
    assert_eq!(ignored("") & passed, 0);
    assert_eq!(ignored("trap '' HUP INT;") & passed, bits(&[Signal::HUP, Signal::INT]));
}

/// A terminal of its own, by script(1): the key reaches the command by itself, wherever its input comes from.
#[test]
fn a_key_of_the_terminal_reaches_the_command_once() {
    if !Terminal::exists() {
        return skip("larder run on a terminal", "script(1) is not installed");
    }
    let site = Site::start();
    let file = site.directory.path().join("command");
    // It is never without its ear: two signals at once would be heard as one.
    std::fs::write(
        &file,
        "n=0; trap 'n=$((n + 1)); echo got INT' INT; trap 'echo $n in all; exit 9' USR1; echo ready $PPID
        while :; do :; done",
    )
    .unwrap();
    // A shell that waits would be ended by the key.
    let run = format!(
        "exec {} --config {} run -- sh {} </dev/null",
        command().get_program().display(),
        site.config().display(),
        file.display()
    );
    let mut terminal = Terminal::run(&run);
    let told = terminal.told.clone();
    let ready = told.wait("the command", |line| line.starts_with("ready"));
    let larder = ready.trim_start_matches("ready").trim().parse().unwrap();
    terminal.keys("\x03");
    told.wait("the key", |line| line.contains("got INT"));
    let larder = rustix::process::Pid::from_raw(larder).unwrap();
    rustix::process::kill_process(larder, Signal::USR1).unwrap();
    let all = told.wait("the count", |line| line.contains("in all"));
    assert_eq!(all.trim(), "1 in all", "{:#?}", told.all());
    assert_eq!(terminal.ended(), Some(9));
}

#[test]
fn env_prints_what_a_shell_reads_back() {
    let ask = "eval \"$(\"$0\" env --listen 0.0.0.0:4128)\" && echo $http_proxy $HTTPS_PROXY && [ \"$no_proxy\" = \"$NO_PROXY\" ]";
    let output = Command::new("sh").args(["-c", ask]).arg(command().get_program()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "http://127.0.0.1:4128 http://127.0.0.1:4128\n");
    let free = command().args(["env", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(free.status.code(), Some(1));
    assert!(text(&free.stderr).contains("give the address that it printed with --listen"), "{free:?}");
}

/// The last line of each says how.
#[test]
fn env_prints_what_every_shell_reads_back_as_it_says() {
    let binary = PathBuf::from(command().get_program());
    let found = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(binary.parent().unwrap().to_owned()).chain(std::env::split_paths(&found));
    let path = std::env::join_paths(path).unwrap();
    let home = tempfile::tempdir().unwrap();
    for (shell, run) in [("bash", "-c"), ("fish", "-c"), ("pwsh", "-Command")] {
        if Command::new(shell).args([run, "exit 0"]).env("HOME", home.path()).output().is_err() {
            skip(&format!("larder env in {shell}"), "not installed");
            continue;
        }
        let larder = |arguments: &[&str]| text(&command().args(arguments).output().unwrap().stdout);
        let lines = larder(&["env", "--shell", shell]);
        let how = lines.lines().last().unwrap().strip_prefix("# ").unwrap();
        let script = format!(
            "{how}; sh -c 'echo $http_proxy $https_proxy $HTTP_PROXY $HTTPS_PROXY; echo $no_proxy; echo $NO_PROXY'"
        );
        let output = command_of(shell)
            .args([run, &script])
            .env("PATH", &path)
            .env("HOME", home.path())
            .output()
            .unwrap();
        let told = text(&output.stdout);
        let (proxies, direct) = told.split_once('\n').unwrap();
        assert_eq!(proxies, ["http://127.0.0.1:3128"; 4].join(" "), "{shell}: {output:?}");
        let all = format!(
            "localhost,.local,{}",
            lines.split(",.local,").nth(1).unwrap().split('\'').next().unwrap()
        );
        assert_eq!(direct, format!("{all}\n{all}\n"), "{shell}: {output:?}");
    }
}
