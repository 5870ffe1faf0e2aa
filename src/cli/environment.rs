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

    #[track_caller]
    fn check(shell: Shell, expected: [&str; 3]) {
        let options = pages::Options { direct: vec![Direct::parse("intern.example").unwrap()] };
        let text = lines(shell, ([127, 0, 0, 1], 3128).into(), &options, &[]);
        for line in expected {
            assert!(text.lines().any(|known| known.starts_with(line)), "{line}: {text}");
        }
        assert_eq!(text.lines().count(), 7, "both cases of three variables, and a comment");
        assert_eq!(text.matches(",intern.example'").count(), 2, "{text}");
    }

    #[test]
    fn each_shell_gets_the_variables_in_its_own_words() {
        check(
            Shell::Bash,
            [
                "export http_proxy='http://127.0.0.1:3128'",
                "export HTTPS_PROXY='http://127.0.0.1:3128'",
                "export NO_PROXY='localhost,.local,127.0.0.1,::1,127.0.0.0/8,",
            ],
        );
        check(
            Shell::Fish,
            [
                "set -gx https_proxy 'http://127.0.0.1:3128'",
                "set -gx HTTP_PROXY 'http://127.0.0.1:3128'",
                "set -gx no_proxy 'localhost,",
            ],
        );
        check(
            Shell::Pwsh,
            [
                "$env:http_proxy = 'http://127.0.0.1:3128'",
                "$env:HTTP_PROXY = 'http://127.0.0.1:3128'",
                "$env:NO_PROXY = 'localhost,",
            ],
        );
    }
}
