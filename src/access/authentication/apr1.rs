//! Apache's variant of MD5-crypt (`$apr1$`), which `htpasswd` writes when it is not told otherwise.

use md5::{Digest as _, Md5};

/// What the algorithm puts into its first hash, and what a hash begins with.
pub(super) const MAGIC: &str = "$apr1$";
/// Characters of a hash behind its salt.
pub(super) const LENGTH: usize = 22;
/// As the algorithm has it.
const ROUNDS: usize = 1000;

/// The hash of a password, without magic and salt.
pub(super) fn hash(password: &[u8], salt: &[u8]) -> String {
    let mut mixed = Md5::new();
    mixed.update(password);
    mixed.update(MAGIC);
    mixed.update(salt);
    let between = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    for at in (0..password.len()).step_by(16) {
        mixed.update(&between[..(password.len() - at).min(16)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        if bits & 1 == 1 {
            mixed.update([0]);
        } else {
            mixed.update(&password[..1]);
        }
        bits >>= 1;
    }
    let mut last = mixed.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        if round % 2 == 1 {
            next.update(password);
        } else {
            next.update(last);
        }
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round % 2 == 1 {
            next.update(last);
        } else {
            next.update(password);
        }
        last = next.finalize();
    }
    let mut text = String::with_capacity(LENGTH);
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        write(&mut text, u32::from(last[a]) << 16 | u32::from(last[b]) << 8 | u32::from(last[c]), 4);
    }
    write(&mut text, u32::from(last[11]), 2);
    text
}

fn write(text: &mut String, mut bits: u32, characters: usize) {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..characters {
        text.push(char::from(ALPHABET[(bits & 63) as usize]));
        bits >>= 6;
    }
}
