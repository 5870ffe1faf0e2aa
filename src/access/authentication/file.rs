//! What both files of users have in common: lines, and what is said of those that are wrong. Never what a line holds
//! behind its user: that may be a password.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A file of users is small. One that is larger is something else.
const LARGEST: u64 = 16 << 20;
/// The longest name of a user, in bytes: it stands in every line of the log.
pub(super) const LONGEST_USER: usize = 255;

/// What is wrong with a file of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct LoadError {
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// What is there, without any secret.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, LoadError> {
    let whole = |found: String, expected: &str| LoadError { line: 0, found, expected: expected.to_owned() };
    let mut text = String::new();
    let result = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    match result {
        Ok(length) if length as u64 > LARGEST => {
            Err(whole("larger than 16 MiB".to_owned(), "a file of users, one a line"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                whole("not there".to_owned(), "a file of users, or \"\" for none")
            }
            io::ErrorKind::PermissionDenied => whole(
                "a file that may not be read".to_owned(),
                &format!("one that user {}, who runs larder, may read", rustix::process::geteuid()),
            ),
            io::ErrorKind::IsADirectory => whole("a directory".to_owned(), "a file of users, one a line"),
            io::ErrorKind::InvalidData => whole("not UTF-8".to_owned(), "a file of users, saved as UTF-8"),
            _ => whole(format!("not readable ({error})"), "a file of users, one a line"),
        }),
    }
}

/// The lines that say something, with their numbers.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim_end).enumerate();
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(at, line)| (at + 1, line))
}

/// Why this can't be the name of a user, where it can't.
pub(super) fn wrong_user(user: &str) -> Option<String> {
    if user.is_empty() {
        return Some("no user".to_owned());
    }
    if user.len() > LONGEST_USER {
        return Some(format!("a user of {} bytes", user.len()));
    }
    user.chars().any(char::is_control).then(|| "a user with a control character".to_owned())
}

/// What a name has to be.
pub(super) const USER: &str = "a user of 1 to 255 bytes without control characters";
