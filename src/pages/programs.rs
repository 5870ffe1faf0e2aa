//! How each program is told of the proxy: the content of the set-up page.

use std::net::SocketAddr;

/// A program or a system that can be told of a proxy.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Where it goes, and what to know about it.
    pub(super) says: &'static str,
    /// What is copied; `@` stands for the proxy's address and port.
    lines: &'static str,
}

impl Program {
    /// What is copied, for the proxy at this address. The brackets of an IPv6 address are a pattern to some shells: a
    /// word with them is put in quotes (double ones, as Windows has no others), where it has none of its own.
    pub(super) fn lines(&self, at: &str) -> String {
        let word = |word: &str| match word.replace('@', at) {
            filled if word.contains('@') && at.contains('[') && !word.contains('"') => {
                format!("\"{filled}\"")
            }
            filled => filled,
        };
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        self.lines.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A line for a shell that asks for something through the proxy at this address.
pub fn trial(at: SocketAddr) -> String {
    let curl = PROGRAMS.iter().find(|program| program.name == "curl");
    curl.map(|curl| curl.lines(&at.to_string())).unwrap_or_default()
}

/// Browsers and systems, the command line, then what fetches packages.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "Chromium, Chrome, Edge",
        says: "They follow the system's settings, below; or on their command line:",
        lines: "chromium --proxy-pac-url=http://@/proxy.pac",
    },
    Program {
        name: "Firefox",
        says: "Settings, Network Settings, Automatic proxy configuration URL; or in user.js of the profile:",
        lines: "user_pref(\"network.proxy.type\", 2);\n\
                user_pref(\"network.proxy.autoconfig_url\", \"http://@/proxy.pac\");",
    },
    Program {
        name: "macOS",
        says: "System Settings, Network, Details, Proxies, Automatic proxy configuration; or:",
        lines: "networksetup -setautoproxyurl Wi-Fi http://@/proxy.pac",
    },
    Program {
        name: "Windows",
        says: "Settings, Network & internet, Proxy, Use setup script; or in PowerShell:",
        lines: "Set-ItemProperty 'HKCU:\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings' \
                AutoConfigURL http://@/proxy.pac",
    },
    Program {
        name: "GNOME",
        says: "Settings, Network, Proxy, Automatic; or:",
        lines: "gsettings set org.gnome.system.proxy autoconfig-url http://@/proxy.pac\n\
                gsettings set org.gnome.system.proxy mode auto",
    },
    Program {
        name: "A shell",
        says: "For most programs that are started from it; `larder env` prints more of it, for several shells:",
        lines: "export http_proxy=http://@ https_proxy=http://@",
    },
    Program {
        name: "curl",
        says: "Asked twice, a response that may be stored is a hit; Cache-Status tells:",
        lines: "curl -x http://@ -i http://example.com/",
    },
    Program {
        name: "apt",
        says: "In /etc/apt/apt.conf.d/80larder; what comes from http sources is cached:",
        lines: "Acquire::http::Proxy \"http://@\";",
    },
    Program {
        name: "pip",
        says: "Its index is https, which is tunnelled and not cached:",
        lines: "pip config set global.proxy http://@",
    },
    Program {
        name: "npm",
        says: "A registry that is set as https is tunnelled and not cached:",
        lines: "npm config set proxy http://@\nnpm config set https-proxy http://@",
    },
    Program {
        name: "cargo",
        says: "In ~/.cargo/config.toml; its index is https, which is tunnelled and not cached:",
        lines: "[http]\nproxy = \"http://@\"",
    },
    Program {
        name: "docker",
        says: "A container reaches an address of its own machine's loopback only with --network host:",
        lines: "docker run --network host -e http_proxy=http://@ -e https_proxy=http://@ IMAGE\n\
                docker build --network host --build-arg http_proxy=http://@ --build-arg https_proxy=http://@ .",
    },
];
