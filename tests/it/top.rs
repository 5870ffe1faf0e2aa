//! `larder top`: on a terminal, and where its reader leaves.

use crate::support::proxy::{Lines, Running, Terminal, command};
use crate::support::{Origin, Proxy, eventually, skip};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

/// Home, and all erased.
const CLEAR: &str = "\x1b[H\x1b[2J";

#[test]
fn on_a_terminal_it_is_drawn_anew_until_ctrl_c_which_is_no_failure() {
    if !Terminal::exists() {
        return skip("larder top on a terminal", "script(1) is not installed");
    }
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let proxy = Proxy::open();
    // The shell outlives the key, and asks the terminal for its modes before and after.
    let line = format!(
        "trap : INT; echo before $(stty -g); {} --admin-listen {} top --interval 10ms; echo ended $?; \
         echo after $(stty -g)",
        command().get_program().display(),
        proxy.admin
    );
    let mut terminal = Terminal::run(&line);
    let told = terminal.told.clone();
    let first = format!("{CLEAR}larder {}, ready", env!("CARGO_PKG_VERSION"));
    told.wait_count("two frames", 2, |line| line.trim_end() == first);
    assert!(told.all().iter().any(|line| line.trim_end() == "no exchange yet"), "{:#?}", told.all());
    proxy.get(&origin.url("/x")).assert_status(200);
    let row = told.wait("the exchange", |line| line.contains(&origin.url("/x")));
    assert!(row.contains(" 200 ") && row.contains(" GET "), "{row}");
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), Some(0), "{:#?}", told.all());
    let all = told.all();
    let word = |start: &str| all.iter().find_map(|line| line.trim_end().strip_prefix(start));
    assert_eq!(word("ended "), Some("0"), "it starts a line, and is no failure: {all:#?}");
    assert_eq!(word("after "), word("before "), "the terminal's modes: {all:#?}");
    // Nothing was hidden or switched that would have to be put back.
    let steered: Vec<_> = all.iter().flat_map(|line| line.split('\x1b').skip(1)).collect();
    assert!(steered.iter().all(|words| words.starts_with("[H") || words.starts_with("[2J")), "{steered:#?}");
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let proxy = Proxy::open();
    let mut top = command();
    top.arg("--admin-listen").arg(proxy.admin.to_string()).args(["top", "--interval", "1ms"]);
    let mut top = Running::start(top.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let errors = Lines::read(top.0.stderr.take().unwrap());
    let mut line = String::new();
    BufReader::new(top.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("larder "), "{line}");
    let status = eventually("its end", || top.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{:?}", errors.all());
    assert!(errors.all().is_empty(), "{:?}", errors.all());
}
