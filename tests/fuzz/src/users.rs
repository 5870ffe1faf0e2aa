//! Users: files of them, and what a client says of who it is.

use crate::dice::{Dice, halves, with_text};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use larder::access::authentication::digest::{Algorithm, DigestUsers, line, wrong_user};
use larder::access::authentication::htpasswd::BasicUsers;
use larder::access::authentication::{Authenticator, Judged, Memory, Options, Principal};
use larder::clock::Moment;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

static BOTH: LazyLock<Option<Authenticator>> = LazyLock::new(|| {
    let basic = BasicUsers::parse("anna:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00").ok()?;
    let digest = DigestUsers::parse(&line("anna", "larder", b"secret", Algorithm::Sha256), "larder").ok()?;
    let options =
        Options { basic: Some(Arc::new(basic)), digest: Some(Arc::new(digest)), ..Options::default() };
    Authenticator::new(&options, &Arc::new(Memory::new()))
});

pub fn users(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    match dice.below(3) {
        0 => with_text(dice.rest(), files),
        1 => {
            let (user, password) = halves(dice.rest());
            with_text(user, |user| written(user, password));
        }
        _ => said(dice.rest()),
    }
}

/// What is wrong with a file is told by the lines that it has.
fn files(text: &str) {
    let lines = text.lines().count();
    for wrongs in
        [BasicUsers::parse(text).err(), DigestUsers::parse(text, "larder").err()].into_iter().flatten()
    {
        assert!(
            !wrongs.is_empty() && wrongs.iter().all(|wrong| (1..=lines).contains(&wrong.line)),
            "{wrongs:?}"
        );
    }
}

/// A line that is written is read again.
fn written(user: &str, password: &[u8]) {
    if wrong_user(user).is_none() {
        for algorithm in Algorithm::ALL {
            let text = line(user, "larder", password, algorithm);
            assert!(DigestUsers::parse(&text, "larder").is_ok(), "{text}");
        }
    }
}

/// Nobody is known by bytes that are no answer to a challenge, and nothing of what they say is told.
fn said(bytes: &[u8]) {
    let Some(both) = &*BOTH else { panic!("these users can be read") };
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(header::PROXY_AUTHORIZATION, value)]);
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let uri = Uri::from_static("http://a.example/x");
    match both.judge(&Method::GET, &uri, &headers, client, Moment::at(1_795_392_000)) {
        Judged::Done(Principal::Unknown(unknown)) => {
            for challenge in &unknown.challenges {
                assert!(challenge.to_str().is_ok_and(|text| text.contains("realm=\"larder\"")));
            }
        }
        // Its password is compared elsewhere.
        Judged::Verify(_) => assert!(bytes.trim_ascii_start().to_ascii_lowercase().starts_with(b"basic")),
        Judged::Done(principal) => panic!("{principal:?}"),
    }
}
