//! Sections row by row, cut at every byte; and against what hyper takes for the end of one.
use super::*;

fn is_clean(parts: &[&[u8]]) -> bool {
    let mut scan = Scan::default();
    for part in parts {
        scan.read(part);
    }
    scan.is_clean()
}

#[track_caller]
fn check(bytes: &str, expected: bool) {
    let bytes = bytes.as_bytes();
    // Where it is long, all but the ends is filling.
    let near = |cut: &usize| *cut < 100 || bytes.len() - cut < 100;
    for cut in (0..=bytes.len()).filter(near) {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(
            is_clean(&[first, second]),
            expected,
            "{:?} cut at {cut}",
            bytes.escape_ascii().to_string()
        );
    }
}

#[test]
fn a_section_with_a_cr_or_an_lf_alone_is_not_clean() {
    for (bytes, expected) in [
        ("5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n", true),
        ("5\r\nhello\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", true),
        ("5\r\nhello\r\n000 \t;a=b\r\nX-A: 1\r\n\r\n", true),
        ("5\r\nhe\nlo\r\n0\r\nX-A: 1\r\n\r\n", true),
        ("6\r\nhe\n0\no\r\n0\r\nX-A: 1\r\n\r\n", true),
        ("5\r\nhello\r\n0\r\nX-A: 1\r\n\r\nGET / HTTP/1.1\nHost: h\n\n", true),
        ("5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n0\r\nX-A: 1\r\n\r\n", true),
        ("5\r\nhello\r\n0\r\nX-A: 1\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\n\nX-B: 2\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\r\n\nX-B: 2\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\rX-B: 2\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\r\r\nX-B: 2\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\n\nX-A: 1\r\n\r\n", false),
        ("5\r\nhello\r\n0;a\r\nX-A: 1\n\r\n0\r\nX-A: 1\r\n\r\n", false),
        ("5\r\nhello\r\n0\r\nX-A: 1\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", false),
        // None has come.
        ("", false),
        ("5\r\nhello\r\n", false),
        ("X-A: 1\r\n\r\n", false),
    ] {
        check(bytes, expected);
    }
}

/// However far apart: there is no window that a section or what comes behind it could leave.
#[test]
fn the_length_of_a_section_and_what_comes_behind_it_changes_nothing() {
    for size in [10_000, 100_000] {
        let long = "a".repeat(size);
        check(&format!("5\r\nhello\r\n0\r\nX-A: {long}\r\n\r\n"), true);
        check(&format!("5\r\nhello\r\n0\r\nX-A: 1\n\r\nP: {long}\r\n0\r\nX-B: 1\r\n\r\n"), false);
        let next = format!("GET / HTTP/1.1\r\nP: {long}\r\n0\r\nX-C: 1\r\n\r\n");
        check(&format!("5\r\nhello\r\n0\r\nX-A: 1\n\r\nX-B: 2\r\n\r\n{next}"), false);
    }
}

/// Whether the section at the begin of which `bytes` stand is clean, where it ends as hyper lets one end; `bytes` begin
/// with the last chunk's size.
fn truth(bytes: &[u8]) -> Option<bool> {
    let size = bytes.iter().position(|byte| *byte != b'0').filter(|zeros| *zeros > 0)?;
    let blank = size + bytes[size..].iter().position(|byte| *byte != b' ')?;
    let line = match bytes[blank] {
        b';' => blank + bytes[blank..].iter().position(|byte| matches!(byte, b'\r' | b'\n'))?,
        _ => blank,
    };
    let mut rest = bytes[line..].strip_prefix(b"\r\n")?;
    let mut section = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix(b"\r") {
            // Without a line there is no section for hyper.
            return (rest.first() == Some(&b'\n') && !section.is_empty()).then(|| {
                let alone = |at: usize| match section[at] {
                    b'\r' => section.get(at + 1) != Some(&b'\n'),
                    b'\n' => at == 0 || section[at - 1] != b'\r',
                    _ => false,
                };
                !(0..section.len()).any(alone)
            });
        }
        let cr = rest.iter().position(|byte| *byte == b'\r')?;
        if rest.get(cr + 1) != Some(&b'\n') {
            return None;
        }
        section.extend_from_slice(&rest[..cr + 2]);
        rest = &rest[cr + 2..];
    }
}

/// All sections of up to six bytes and the empty line, behind what may be taken for the begin of another.
#[test]
fn what_hyper_ends_with_a_cr_or_an_lf_alone_never_passes() {
    const BYTES: &[u8] = b"\r\n0x; ";
    let before =
        ["\n", "x\n0\r\nx\r\n", "\n0;\r\n", "\n0\r\n\r\n", "\n0\r\nx\r\n\r\n", "\n0\n", "\n0 \n", "\n0;x\n"];
    let (mut dirty, mut clean) = (0, 0);
    for length in 2..=6 {
        for number in 0..BYTES.len().pow(length) {
            let drawn = (0..length).map(|place| BYTES[number / BYTES.len().pow(place) % BYTES.len()]);
            let section: Vec<u8> = b"0".iter().copied().chain(drawn).chain(*b"\r\n\r\n").collect();
            let Some(truth) = truth(&section) else { continue };
            for before in before {
                assert_eq!(
                    is_clean(&[before.as_bytes(), &section]),
                    truth,
                    "{before:?} {}",
                    section.escape_ascii()
                );
            }
            if truth { clean += 1 } else { dirty += 1 }
        }
    }
    assert!(dirty > 500 && clean > 500, "{dirty} dirty, {clean} clean");
}
