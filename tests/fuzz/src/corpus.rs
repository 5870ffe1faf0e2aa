//! The kept corpus: a file for each target, an input a line, its bytes escaped as in a literal of Rust.

use std::path::Path;
use std::{fs, io};

/// Writes each input of the kept file into a file of its own, as the fuzzer takes them.
pub fn unpack(kept: &Path, into: &Path) -> io::Result<()> {
    // None kept yet is no fault.
    let text = fs::read_to_string(kept).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(String::new()),
        _ => Err(error),
    })?;
    for (index, line) in text.lines().enumerate() {
        fs::write(into.join(index.to_string()), read(line.as_bytes()))?;
    }
    Ok(())
}

/// The other way round.
pub fn pack(from: &Path, kept: &Path) -> io::Result<()> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(from)? {
        lines.push(format!("{}\n", fs::read(entry?.path())?.escape_ascii()));
    }
    lines.sort();
    lines.dedup();
    fs::write(kept, lines.concat())
}

/// What `escape_ascii` has written.
fn read(mut line: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let mut bytes = Vec::with_capacity(line.len());
    loop {
        let (byte, rest) = match line {
            [] => return bytes,
            [b'\\', b'x', high, low, rest @ ..] => (digit(*high) << 4 | digit(*low), rest),
            [b'\\', b'n', rest @ ..] => (b'\n', rest),
            [b'\\', b'r', rest @ ..] => (b'\r', rest),
            [b'\\', b't', rest @ ..] => (b'\t', rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
        };
        bytes.push(byte);
        line = rest;
    }
}
