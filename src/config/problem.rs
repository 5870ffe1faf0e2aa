//! What is wrong with a configuration, and where.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file; line and column count from 1, the column in characters. 0 and 0: the file as a whole.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// From 1; 0 when the whole file is meant.
        line: usize,
        /// From 1; 0 when the whole file is meant.
        column: usize,
    },
    /// On the command line or in the environment; the flag's name.
    Flag(&'static str),
    /// In the environment; the name of the variable.
    Environment(&'static str),
    /// Nowhere: a default that another setting contradicts.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0, .. } => write!(f, "{}", path.display()),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::Default => f.write_str("built-in default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The full name of the key, such as `cache.memory` or `rules[2].freshness[0].min`; empty for the file itself.
    pub key: String,
    /// What is there.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

/// Everything that is wrong, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A problem whose key is not yet complete and whose place is still a span of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The rest of the key behind the one that is being read: empty, `[3]`, or `[0].min`.
    pub(super) path: String,
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// What is there.
    pub(super) found: String,
    /// What would be right.
    pub(super) expected: String,
}

impl Wrong {
    /// The same problem, seen from one level further out.
    #[must_use]
    pub(super) fn under(mut self, outer: &str) -> Self {
        self.path.insert_str(0, outer);
        self
    }
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let text = "a = 1\n# \u{e4}\u{f6}\nb = \"\u{fc}\" ]";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, text.find(']').unwrap()), (3, 9));
        assert_eq!(line_and_column(text, 10_000), (3, 10));
    }
}
