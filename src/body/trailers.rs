//! Whether a trailer section came as RFC 9112 section 7.1.2 allows, told by the bytes of its connection.
//!
//! hyper takes a section for ended by an empty line after CRLF, but reads the lines in it as a head's: a bare LF ends one
//! there, and what stands behind an empty line of that kind is dropped. Where a section begins and ends is left to
//! hyper; here is only looked for what none may hold.
//!
//! All bytes of a connection pass [`Scan::read`], and whatever looks like a last chunk begins a section. So other bytes
//! (of a body, of the next message) can get a message refused, and never let one through: a section that is taken for
//! one by mistake holds the true one if it has not ended before that begins, and ends where that ends.
//!
//! ```text
//!  Else --LF--> Lf --"0"--> Zero --" "--> Space --";"--> Extension      "0" and all before LineEnd: else back to Else
//!                             `------------`---------------`--CR--> SizeCr --LF--> LineEnd
//!  LineEnd --CR--> EndCr --LF--> Lf             the section's end
//!     `--any--> Line --CR--> LineCr --LF--> LineEnd
//! ```

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// What a last chunk may begin with. Made once, since that takes longer than to search a head.
static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n0"));

/// Where in a message the last byte stands, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Else,
    /// At the begin of a line.
    Lf,
    /// The size of a last chunk.
    Zero,
    Space,
    Extension,
    SizeCr,
    /// In a section, at the begin of a line.
    LineEnd,
    Line,
    LineCr,
    EndCr,
}

/// What the bytes of a connection have shown so far.
#[derive(Debug, Default)]
pub struct Scan {
    at: At,
    /// A section has begun.
    found: bool,
    /// There was a CR or an LF alone in one.
    dirty: bool,
}

impl Scan {
    /// Takes the next bytes, wherever they are cut.
    pub fn read(&mut self, mut bytes: &[u8]) {
        loop {
            if matches!(self.at, At::Else | At::Lf) {
                bytes = self.skip(bytes);
            }
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.step(*byte);
            bytes = rest;
        }
    }

    /// Whether a section has come, and all that have come are clean.
    pub fn is_clean(&self) -> bool {
        self.found && !self.dirty
    }

    /// Passes over what is before the next zero at the begin of a line.
    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.at == At::Lf && bytes.first() == Some(&b'0') {
            return bytes;
        }
        match (BEGIN.find(bytes), bytes.last()) {
            (Some(at), _) => {
                self.at = At::Lf;
                &bytes[at + 1..]
            }
            (None, Some(last)) => {
                self.at = if *last == b'\n' { At::Lf } else { At::Else };
                &[]
            }
            (None, None) => &[],
        }
    }

    fn step(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::Lf | At::Zero, b'0') => At::Zero,
            (At::Zero | At::Space, b' ' | b'\t') => At::Space,
            (At::Zero | At::Space, b';') => At::Extension,
            (At::Zero | At::Space | At::Extension, b'\r') => At::SizeCr,
            (At::SizeCr, b'\n') => {
                self.found = true;
                At::LineEnd
            }
            (At::Else | At::Lf | At::Zero | At::Space | At::Extension, b'\n') => At::Lf,
            (At::Extension, _) => At::Extension,
            (At::Else | At::Lf | At::Zero | At::Space | At::SizeCr, _) => At::Else,
            (At::LineEnd, b'\r') => At::EndCr,
            // Another last chunk may stand behind it.
            (At::EndCr, b'\n') => At::Lf,
            (At::Line, b'\r') => At::LineCr,
            (At::LineCr, b'\n') => At::LineEnd,
            (At::LineCr | At::EndCr, _) => {
                self.dirty = true;
                if byte == b'\r' { At::LineCr } else { At::Line }
            }
            (At::Line | At::LineEnd, b'\n') => {
                self.dirty = true;
                At::Line
            }
            (At::Line | At::LineEnd, _) => At::Line,
        };
    }
}

#[cfg(test)]
mod tests;
