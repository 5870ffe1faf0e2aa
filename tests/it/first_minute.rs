//! What a new user meets first: help, and each mistake with what to do about it.

use crate::support::proxy::{Terminal, command, command_of, commands};
use crate::support::{Proxy, skip};
use std::process::Output;

#[track_caller]
fn check(output: &Output, code: i32, parts: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for part in parts {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    assert!(told.lines().count() <= 8, "{told}");
}

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

/// Columns and rows of a screen: the width in which terminals open, and as many rows as a window of some height has.
const SCREEN: (usize, usize) = (80, 40);

#[test]
fn the_help_of_every_command_fits_a_screen_and_has_examples() {
    for name in commands().iter().map(String::as_str).chain([""]) {
        let arguments: Vec<&str> = [name, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let output = command().args(arguments).env("COLUMNS", SCREEN.0.to_string()).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains("\nExample"), "{name}: {help}");
        assert!(help.lines().count() <= SCREEN.1, "{name}: {} lines: {help}", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= SCREEN.0), "{name}: {help}");
        assert!(help.lines().all(|line| !line.ends_with(' ')), "{name}: {help}");
    }
}

#[test]
fn completions_and_the_manual_page_know_every_command() {
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    assert!(page.contains(".TH larder 1"), "{page}");
    for flag in ["CONFIG", "LISTEN", "ADMIN_LISTEN", "MEMORY", "CONNECT_PORTS", "ALLOW_PRIVATE"] {
        assert!(page.contains(&format!("LARDER_{flag}")), "{page}");
    }
    // Every option of every command, and no page that there is none of.
    for name in &commands() {
        let help = String::from_utf8(run(&[name, "--help"]).stdout).unwrap();
        let own = help.split("Settings").next().unwrap().split_whitespace();
        for option in own.filter_map(|word| word.strip_prefix("--")).filter(|word| !word.is_empty()) {
            let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).replace('-', "\\-");
            assert!(page.contains(&format!("\\-\\-{option}")), "--{option} of {name}: {page}");
        }
        assert!(
            page.contains(&format!(".SS larder {name}")) && !page.contains(&format!("larder\\-{name}")),
            "{page}"
        );
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = String::from_utf8(run(&["completions", shell]).stdout).unwrap();
        for name in &commands() {
            assert!(text.contains(name), "{name} in {shell}'s");
            assert!(page.contains(name), "{name} in the page");
        }
    }
}

/// In a bash that knows of completion only what it has itself.
#[test]
fn bash_completes_by_the_tab_key() {
    if !Terminal::exists() || command_of("bash").arg("--version").output().is_err() {
        return skip("bash's completions", "script(1) or bash is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("larder.bash"), run(&["completions", "bash"]).stdout).unwrap();
    // What is completed is told instead of run.
    let start = format!(
        "source {}; larder() {{ echo \"<$*>\"; }}; PROMPT_COMMAND='echo ready'",
        file("larder.bash").display()
    );
    std::fs::write(file("start"), start).unwrap();
    let line = format!(
        "exec env INPUTRC=/dev/null HISTFILE= TERM=dumb bash --noprofile --rcfile {} -i",
        file("start").display()
    );
    let mut terminal = Terminal::run(&line);
    let told = terminal.told.clone();
    for (count, (keys, completed)) in [
        ("larder pur\t\n", "<purge>"),
        ("larder purge --gl\t'http://h/*'\n", "<purge --glob http://h/*>"),
        ("larder --conf\tx.toml stat\t\n", "<--config x.toml stats>"),
        ("larder completions fi\t\n", "<completions fish>"),
    ]
    .into_iter()
    .enumerate()
    {
        told.wait_count("the prompt", count + 1, |line| line.trim_end().ends_with("ready"));
        terminal.keys(keys);
        told.wait(completed, |line| line.trim_end() == completed);
    }
    terminal.keys("exit 0\n");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn the_manual_page_is_formatted_without_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("larder.1");
    std::fs::write(&page, run(&["man"]).stdout).unwrap();
    for words in [&["groff", "-man", "-ww", "-Tutf8"][..], &["man", "--warnings", "-l"]] {
        let mut format = command_of(words[0]);
        if command_of(words[0]).arg("--version").output().is_err() {
            skip(&format!("the manual page by {}", words[0]), "not installed");
            continue;
        }
        let output = format.args(&words[1..]).arg(&page).env("LC_ALL", "C.UTF-8").output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{words:?}: {told}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("Print the manual page"), "{words:?}: {text}");
    }
}

#[test]
fn a_wrong_flag_or_command_is_told_with_what_there_is() {
    check(&run(&["--lisen", "127.0.0.1:1"]), 2, &["unexpected argument '--lisen'", "'--listen'", "--help"]);
    check(&run(&["sever"]), 2, &["unrecognized subcommand 'sever'", "'serve'", "--help"]);
    check(&run(&["--listen", "3128"]), 2, &["--listen <ADDR>", "expected an IP address and a port"]);
    check(&run(&["run"]), 2, &["required", "COMMAND", "--help"]);
}

#[test]
fn a_port_in_use_is_told_with_the_flag_that_chooses_another() {
    let proxy = Proxy::open();
    let (address, admin) = (proxy.address.to_string(), proxy.admin.to_string());
    let listen = run(&["--listen", &address, "--admin-listen", "off"]);
    check(
        &listen,
        1,
        &[&format!("can't listen on {address}: "), "end it, or choose a port with --listen ADDR"],
    );
    let listen = run(&["--listen", "127.0.0.1:0", "--admin-listen", &admin]);
    check(&listen, 1, &[&format!("can't listen on {admin}: "), "choose a port with --admin-listen ADDR"]);
}

#[test]
fn an_address_of_another_machine_is_told() {
    // RFC 5737: nobody's.
    let listen = run(&["--listen", "192.0.2.1:3128", "--admin-listen", "off"]);
    check(&listen, 1, &["can't listen on 192.0.2.1:3128", "this machine has no such address"]);
}

#[test]
fn a_broken_file_is_told_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("larder.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "[cache]\nmemory = \"lots\"\nmemroy = 1\n").unwrap();
    check(
        &run(&["--config", path]),
        2,
        &["larder.toml:2:10: cache.memory", "such as \"512MiB\"", "cache.memory"],
    );
    std::fs::write(&file, "[cache\n").unwrap();
    check(&run(&["--config", path]), 2, &["larder.toml:1:", "expected"]);
}

/// What was found, what was expected, what to do: in a line for each, and the count.
#[test]
fn a_file_that_cannot_be_read_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("latin1.toml"), b"# \xe4\n").unwrap();
    let (missing, below, latin1) = (file("missing.toml"), file("latin1.toml/x"), file("latin1.toml"));
    let give = "a TOML file: give its path with --config or LARDER_CONFIG, or neither for the defaults";
    for (path, found, expected) in [
        (missing, "no such file", give),
        (below, "no such file", give),
        (
            file(""),
            "a directory",
            "a TOML file: give the path of a file in it with --config or LARDER_CONFIG",
        ),
        (latin1, "bytes that are not UTF-8", "TOML, saved as UTF-8"),
    ] {
        let told = format!("{path}: found {found}, expected {expected}\n1 error in the configuration\n");
        for arguments in [&["--config", &path][..], &["check", &path], &["stats", "--config", &path]] {
            let output = run(arguments);
            assert_eq!(String::from_utf8_lossy(&output.stderr), told, "{arguments:?}");
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        }
    }
}

/// Only where the test may become another user is there something that it may not do.
#[test]
fn without_permission_it_tells_what_would_be_permitted() {
    let directory = tempfile::tempdir().unwrap();
    let binary = directory.path().join("larder");
    std::fs::copy(command().get_program(), &binary).unwrap();
    let other = ["--reuid", "65534", "--clear-groups", "--inh-caps", "-all", "--bounding-set", "-all"];
    let nobody = |arguments: &[&str]| command_of("setpriv").args(other).arg(&binary).args(arguments).output();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    if !nobody(&["--version"]).is_ok_and(|output| output.status.success()) {
        return skip("larder without permission", "setpriv(1) can't become another user");
    }
    let listen = nobody(&["--listen", "127.0.0.1:80", "--admin-listen", "off"]).unwrap();
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim() == "1024" {
        check(
            &listen,
            1,
            &["can't listen on 127.0.0.1:80: Permission denied", "below 1024", "--listen ADDR"],
        );
    }
    let file = directory.path().join("larder.toml");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    let path = file.to_str().unwrap();
    let denied = nobody(&["--config", path]).unwrap();
    check(&denied, 2, &[path, "found a file that may not be read", "user 65534, who runs larder, may read"]);
    check(&denied, 2, &["change its owner or mode"]);
    assert_eq!(String::from_utf8_lossy(&denied.stderr).lines().count(), 2, "{denied:?}");
}

#[test]
fn a_command_that_asks_a_proxy_where_none_runs_says_so() {
    let nobody = crate::support::nobody();
    let stats = run(&["stats", "--admin-listen", &nobody.to_string()]);
    check(&stats, 1, &["no proxy's admin listener", "is larder running?", "--admin-listen"]);
}
