//! `larder env`: the variables for programs, in the words of a shell.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::pages;

/// The shells that variables are printed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Bash, and any other with the grammar of POSIX
    Bash,
    /// Fish
    Fish,
    /// PowerShell
    Pwsh,
}

/// Lines that set the variables, the last one a comment that tells how to use them. No value has a quote in it.
pub(super) fn lines(shell: Shell, at: SocketAddr, options: &pages::Options, direct: &[String]) -> String {
    let mut text = String::new();
    for (name, value) in pages::variables(at, options, direct) {
        // Writing to a String does not fail; here and below.
        let _ = match shell {
            Shell::Bash => writeln!(text, "export {name}='{value}'"),
            Shell::Fish => writeln!(text, "set -gx {name} '{value}'"),
            Shell::Pwsh => writeln!(text, "$env:{name} = '{value}'"),
        };
    }
    text.push_str(match shell {
        Shell::Bash => "# eval \"$(larder env)\"\n",
        Shell::Fish => "# larder env --shell fish | source\n",
        Shell::Pwsh => "# larder env --shell pwsh | Out-String | Invoke-Expression\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Direct;

    const DIRECT: &str = "localhost,.local,127.0.0.1,::1,127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,\
        169.254.0.0/16,100.64.0.0/10,0.0.0.0/8,fc00::/7,fe80::/10,fec0::/10,intern.example";

    /// `DIRECT` stands for what [`DIRECT`] is.
    #[track_caller]
    fn check(shell: Shell, at: &str, expected: [&str; 7]) {
        let options = pages::Options { direct: vec![Direct::parse("intern.example").unwrap()] };
        let text = lines(shell, at.parse().unwrap(), &options, &[]);
        assert_eq!(text, expected.map(|line| line.replace("DIRECT", DIRECT) + "\n").concat());
    }

    #[test]
    fn each_shell_gets_the_variables_in_its_own_words() {
        check(
            Shell::Bash,
            "127.0.0.1:3128",
            [
                "export http_proxy='http://127.0.0.1:3128'",
                "export https_proxy='http://127.0.0.1:3128'",
                "export no_proxy='DIRECT'",
                "export HTTP_PROXY='http://127.0.0.1:3128'",
                "export HTTPS_PROXY='http://127.0.0.1:3128'",
                "export NO_PROXY='DIRECT'",
                "# eval \"$(larder env)\"",
            ],
        );
        check(
            Shell::Fish,
            "[::1]:3128",
            [
                "set -gx http_proxy 'http://[::1]:3128'",
                "set -gx https_proxy 'http://[::1]:3128'",
                "set -gx no_proxy 'DIRECT'",
                "set -gx HTTP_PROXY 'http://[::1]:3128'",
                "set -gx HTTPS_PROXY 'http://[::1]:3128'",
                "set -gx NO_PROXY 'DIRECT'",
                "# larder env --shell fish | source",
            ],
        );
        check(
            Shell::Pwsh,
            "127.0.0.1:8080",
            [
                "$env:http_proxy = 'http://127.0.0.1:8080'",
                "$env:https_proxy = 'http://127.0.0.1:8080'",
                "$env:no_proxy = 'DIRECT'",
                "$env:HTTP_PROXY = 'http://127.0.0.1:8080'",
                "$env:HTTPS_PROXY = 'http://127.0.0.1:8080'",
                "$env:NO_PROXY = 'DIRECT'",
                "# larder env --shell pwsh | Out-String | Invoke-Expression",
            ],
        );
    }
}
