//! The servers that count: each from its Debian package, on an address of its own, with limits that are not what is
//! measured. Each answer says in `X-Seen` which request it is for, and in `X-Content`, where the server can tell, how
//! many bytes of content that had.

use super::strict::Request;
use crate::support::Client;
use crate::support::proxy::{Lines, Running, command_of, root};
use crate::support::wire::Framing;
use crate::support::{eventually, skip};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Where Debian has what only root's path leads to.
const PROGRAMS: [&str; 3] = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];

/// A kind of server.
pub(super) struct Kind {
    pub(super) name: &'static str,
    program: &'static str,
    /// What it is started with.
    arguments: &'static [&'static str],
    /// Its configuration or program, below `servers`.
    file: &'static str,
    /// The next request has to wait for the answer to the one before: what came earlier is forgotten, or its refusal
    /// comes before that answer.
    pub(super) one_by_one: bool,
}

/// In `arguments`, `@FILE@`, `@HOST@`, `@PORT@` and `@ADDRESS@` are filled in.
#[rustfmt::skip]
pub(super) const KINDS: &[Kind] = &[
    Kind { name: "nginx", program: "nginx", file: "nginx.conf", one_by_one: false,
        arguments: &["-p", "@DIRECTORY@", "-e", "stderr", "-c", "@FILE@"] },
    Kind { name: "Apache httpd", program: "apache2", file: "apache.conf", one_by_one: false,
        arguments: &["-D", "FOREGROUND", "-f", "@FILE@"] },
    Kind { name: "HAProxy", program: "haproxy", file: "haproxy.cfg", one_by_one: false,
        arguments: &["-db", "-f", "@FILE@"] },
    Kind { name: "Node", program: "node", file: "node.mjs", one_by_one: true,
        arguments: &["@FILE@", "@HOST@", "@PORT@"] },
    Kind { name: "Python's http.server", program: "python3", file: "http_server.py", one_by_one: false,
        arguments: &["@FILE@", "@HOST@", "@PORT@"] },
    Kind { name: "waitress", program: "waitress-serve", file: "app.py", one_by_one: false,
        arguments: &["--listen=@ADDRESS@", "--threads=2", "app:wsgi"] },
    Kind { name: "gunicorn", program: "gunicorn", file: "app.py", one_by_one: true,
        arguments: &["--bind=@ADDRESS@", "--worker-class=gthread", "--threads=4", "--keep-alive=60",
            "--limit-request-line=0", "--limit-request-fields=1000", "--limit-request-field_size=0", "app:wsgi"] },
    Kind { name: "uvicorn", program: "uvicorn", file: "app.py", one_by_one: false,
        arguments: &["--host=@HOST@", "--port=@PORT@", "--http=h11", "--ws=none", "--lifespan=off", "--log-level=critical",
            "app:asgi"] },
];

/// A running one, ended when dropped.
pub(super) struct Server {
    pub(super) kind: &'static Kind,
    pub(super) address: SocketAddr,
    _running: Running,
    _directory: TempDir,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) seen: Option<String>,
    pub(super) content: Option<usize>,
}

impl Server {
    /// All that are installed. `number` tells apart those that run at one time.
    pub(super) fn all() -> Vec<Self> {
        // Nobody else is at these addresses, and so any port will do.
        let network: [u8; 2] = rand::random();
        let starts: Vec<_> = KINDS
            .iter()
            .zip(1..)
            .map(|(kind, number)| {
                let host = [127, 128 | network[0], network[1], number];
                std::thread::spawn(move || Self::start(kind, SocketAddr::from((host, 18_080))))
            })
            .collect();
        starts.into_iter().filter_map(|start| start.join().unwrap()).collect()
    }

    fn start(kind: &'static Kind, address: SocketAddr) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let found =
            PROGRAMS.iter().map(|place| Path::new(place).join(kind.program)).find(|file| file.exists());
        let program = found.unwrap_or_else(|| kind.program.into());
        let written = directory.path().join(kind.file);
        let fill = |text: &str| {
            text.replace("@FILE@", &written.display().to_string())
                .replace("@DIRECTORY@", &directory.path().display().to_string())
                .replace("@MODULES@", "/usr/lib/apache2/modules")
                .replace("@ADDRESS@", &address.to_string())
                .replace("@HOST@", &address.ip().to_string())
                .replace("@PORT@", &address.port().to_string())
        };
        let source = root().join("tests/it/differential/servers").join(kind.file);
        std::fs::write(&written, fill(&std::fs::read_to_string(source).unwrap())).unwrap();
        let mut command: Command = command_of(&program);
        command
            .args(kind.arguments.iter().map(|argument| fill(argument)))
            .env("PYTHONPATH", directory.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if Command::new(&program).arg("--version").output().is_err() {
            skip(&format!("counting by {}", kind.name), "not installed");
            return None;
        }
        let mut running = Running::start(&mut command);
        let said = Lines::read(running.0.stderr.take().unwrap());
        eventually(kind.name, || {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {:#?}", kind.name, said.all());
            TcpStream::connect(address).ok()
        });
        Some(Self { kind, address, _running: running, _directory: directory })
    }

    /// Sends requests to it as they are, and tells its answers. `ends`: nothing comes after them.
    pub(super) fn ask(&self, requests: &[(&Request, &[u8])], ends: bool) -> Vec<Answer> {
        let mut client = Client::connect(self.address);
        let mut answers = Vec::new();
        if !self.kind.one_by_one {
            let all: Vec<u8> = requests.iter().flat_map(|(_, bytes)| *bytes).copied().collect();
            client.wire.write(&all).ok();
            if ends {
                client.wire.half_close();
            }
        }
        for number in 0.. {
            let request = requests.get(number);
            if let Some((_, bytes)) = request.filter(|_| self.kind.one_by_one) {
                client.wire.write(bytes).ok();
                if ends && number + 1 == requests.len() {
                    client.wire.half_close();
                }
            }
            match answer(&mut client, request.is_some_and(|(request, _)| request.method == "HEAD")) {
                Some(answer) => answers.push(answer),
                None => break,
            }
        }
        answers
    }
}

/// The next final answer; `None` when there is none.
fn answer(client: &mut Client, to_head: bool) -> Option<Answer> {
    loop {
        let head = client.wire.head().ok()??;
        let status = head.line.split(' ').nth(1)?.parse().ok()?;
        if status < 200 {
            continue;
        }
        let seen = head.field("x-seen");
        let bodiless = to_head || status == 204 || status == 304;
        let length = head.field("content-length").and_then(|length| length.parse().ok());
        let framing = match length {
            _ if bodiless => Framing::None,
            _ if head.field("transfer-encoding").is_some() => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        };
        client.wire.content(framing);
        let content = head.field("x-content").and_then(|content| content.parse().ok());
        return Some(Answer { status, seen, content });
    }
}
