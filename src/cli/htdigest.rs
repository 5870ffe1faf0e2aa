//! `larder htdigest`: writes the lines of a user into a file for `access.digest_file`.
//!
//! The file is replaced as a whole, so that a reload never reads half of it; nobody but its owner, and a group that
//! could before, may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::access::authentication::digest::{self, Algorithm};

/// Asks for the password and writes the lines.
pub(super) fn run(file: &Path, user: &str, realm: &str) -> anyhow::Result<()> {
    if let Some(wrong) = digest::wrong_user(user) {
        bail!("found {wrong}, expected a name of 1 to 255 bytes without colons and control characters");
    }
    let password = if io::stdin().is_terminal() {
        let password = ask(&format!("Password of {user}: "))?;
        ensure!(ask("Again: ")? == password, "the passwords differ");
        password
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("the password can't be read")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    ensure!(!password.is_empty(), "found no password");
    ensure!(!password.chars().any(char::is_control), "found a control character in the password");
    let path = fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
    };
    replace(&path, &with(&old, user, realm, password.as_bytes()))
        .with_context(|| format!("{} can't be written", path.display()))
}

/// The text with the user's lines in place of older ones.
fn with(old: &str, user: &str, realm: &str, password: &[u8]) -> String {
    let own = format!("{user}:{realm}:");
    let mut lines: Vec<String> = Vec::new();
    let mut place = None;
    for line in old.lines() {
        if line.starts_with(&own) {
            place.get_or_insert(lines.len());
        } else {
            lines.push(line.to_owned());
        }
    }
    let place = place.unwrap_or(lines.len());
    lines
        .splice(place..place, Algorithm::ALL.map(|algorithm| digest::line(user, realm, password, algorithm)));
    lines.join("\n") + "\n"
}

/// Puts a whole file in place of another.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = write(path, &beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not even be there; what went wrong is told.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write(path: &Path, beside: &PathBuf, text: &str) -> io::Result<()> {
    /// What a group may keep.
    const GROUP_READS: u32 = 0o040;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    if let Ok(old) = fs::metadata(path) {
        own(&file, old.uid(), old.gid())?;
        file.set_permissions(fs::Permissions::from_mode(0o600 | old.mode() & GROUP_READS))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The service that reads it may run as another user.
fn own(file: &File, user: u32, group: u32) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) == (user, group) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(user), Some(group))
}

/// A line from the terminal, which shows nothing of it.
fn ask(prompt: &str) -> anyhow::Result<String> {
    let mut told = io::stderr();
    // Before it asks: who types at once is not shown either.
    let silent = Silent::new()?;
    write!(told, "{prompt}").and_then(|()| told.flush()).context("nobody can be asked for the password")?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    drop(silent);
    // The terminal has not shown the end of the line either.
    let _ = writeln!(told);
    read.context("the password can't be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that shows nothing, as long as this lives.
struct Silent(Termios);

impl Silent {
    fn new() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("the terminal does not answer")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent).context("the terminal shows what is typed")?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Where the terminal is gone, nothing is to be put back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::authentication::DigestUsers;

    #[test]
    fn a_users_lines_are_replaced_where_they_stand_and_others_stay() {
        let first = with("", "a", "r", b"one");
        assert_eq!(first.lines().count(), 2);
        let three = with(&with(&with("# x\n", "a", "r", b"one"), "b", "r", b"two"), "a", "other", b"three");
        let again = with(&three, "a", "r", b"new");
        let users: Vec<_> =
            again.lines().map(|line| line.rsplit_once(':').map_or(line, |(user, _)| user)).collect();
        assert_eq!(users, ["# x", "a:r", "a:r", "b:r", "b:r", "a:other", "a:other"]);
        assert_eq!(with(&again, "a", "r", b"one"), three);
        assert!(DigestUsers::parse(&again, "r").is_ok() && DigestUsers::parse(&again, "other").is_ok());
    }
}
