//! Tables: RFC 7616's examples, hashes of every kind, files and fields that are wrong.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const REALM: &str = "http-auth@example.org";

/// Of "secret", by crypt(3) and openssl-passwd(1).
const SECRET: &[&str] = &[
    "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
    "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW",
    "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
    "$5$rounds=1000$salt$CCvcOM6b7TEJDPb37Aec/9UpOg4QhPNAxPpL9ZzjTB7",
    "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
    "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
    "$6$rounds=1400$anotherlongsalts$Twf2eP6WMY29NT9yg1Nff0x6Ul/TWD9vkV2VVPyEX7uifmXI0FHGx3rX27ttfZtfB9phxv3003yyBPq3nGFb8.",
    "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
];
const APR1: &str = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/";

#[track_caller]
fn verifies(hash: &str, password: &str) -> bool {
    BasicUsers::parse(&format!("u:{hash}\n")).unwrap().verify("u", password.as_bytes(), 0)
}

#[test]
fn every_kind_of_hash_is_verified() {
    for hash in SECRET {
        assert!(verifies(hash, "secret"), "{hash}");
        for wrong in ["", "Secret", "secret ", "secre"] {
            assert!(!verifies(hash, wrong), "{hash} {wrong:?}");
        }
    }
    for (hash, password) in [
        ("$2y$04$abcdefghijklmnopqrstuuyx2n0Zzopyr9QuYTMCfOJJOj526QVoC", "p\u{e4}ssw\u{f6}rd"),
        ("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", "myPassword"),
        ("$apr1$x$f.vIc/a2bef8xQnnJcYmf.", "a password longer than sixteen bytes"),
    ] {
        assert!(verifies(hash, password) && !verifies(hash, "secret"), "{hash}");
    }
}

#[test]
fn nobody_is_let_in_by_the_password_of_another() {
    let users = BasicUsers::parse(&format!("a:{APR1}\nb:{}\n", SECRET[0])).unwrap();
    for instead in 0..4 {
        assert!(!users.verify("nobody", b"secret", instead));
    }
    assert!(!BasicUsers::parse("").unwrap().verify("nobody", b"secret", 7));
}

/// What is found in a file of passwords, and in which line.
#[track_caller]
fn refused(text: &str, line: usize, found: &str) {
    let errors = BasicUsers::parse(text).unwrap_err();
    let told = errors[0].to_string();
    assert!(errors.len() == 1 && errors[0].line == line && told.contains(found), "{text:?}: {errors:?}");
    assert!(!told.contains("hunter") && !told.contains("abcdefg"), "{told}");
}

#[test]
fn a_file_of_passwords_is_refused_line_by_line_and_tells_none() {
    let good = format!("# users\r\n\r\na:{APR1}\r\n\u{fc} b:{}\n", SECRET[0]);
    assert_eq!(BasicUsers::parse(&good).unwrap(), BasicUsers::parse(&good.replace('\r', "")).unwrap());
    for (text, found) in [
        ("hunter2", "a line without a colon"),
        (":hunter2", "no user"),
        ("a\tb:hunter2", "control character"),
        ("a:", "nothing for user \"a\""),
        ("a:hunter2", "a plain password"),
        ("a:hunterhunter", "a plain password"),
        ("a:hunterhunter2", "a DES crypt hash"),
        ("a:hunter-hunter", "a plain password"),
        ("a:abcdefghijklm", "a DES crypt hash"),
        ("a:{SHA}abcdefghijklmnopqrstuvwxyz0=", "SHA-1"),
        ("a:{SSHA}abcdefghijklm", "SHA-1"),
        ("a:$1$abcdefgh$abcdefghijklmnopqrstuv", "MD5-crypt"),
        ("a:$2x$04$abcdefghijklmnopqrstuu", "broken kind"),
        ("a:$y$j9T$abcdefg", "yescrypt"),
        ("a:$argon2id$v=19$abcdefg", "Argon2"),
        ("a:$9$abcdefg", "unknown kind"),
        ("a:$2b$4$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "cut"),
        ("a:$2b$17$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "cost 17"),
        ("a:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIr", "cut"),
        ("a:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WI\u{e4}", "other characters"),
        ("a:$5$rounds=999$abcdefg$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", "999 rounds"),
        ("a:$5$rounds=x$abcdefg$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", "cut"),
        ("a:$5$rounds=5000000$abcdefg$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", "5000000 rounds"),
        ("a:$5$abcdefg", "cut"),
        ("a:$6$abcdefg$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", "cut"),
        ("a:$5$abcdefghijklmnopq$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", "cut"),
        ("a:$apr1$abcdefghi$h9FWgUz3n9YxylKLlR5SQ/", "cut"),
        ("a:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ", "cut"),
    ] {
        refused(&format!("ok:{APR1}\n{text}\n"), 2, found);
    }
    refused(&format!("a:{APR1}\nb:{APR1}\na:{APR1}\n"), 3, "\"a\" a second time");
    let errors = BasicUsers::parse("a:x\nb:y\n").unwrap_err();
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_file_of_digests_is_refused_line_by_line_and_tells_none() {
    let (sha, md5) = ("abcdefa0".repeat(8), "abcdefa0".repeat(4));
    let good = format!("# x\na:r:{sha}\na:r:{}\nb:other:{sha}\nc:r:{md5}\r\n", md5.to_uppercase());
    let users = DigestUsers::parse(&good, "r").unwrap();
    let find = |user, algorithm| users.find(user, algorithm).map(|(_, first)| first);
    assert_eq!(find("a", Algorithm::Sha256), Some(sha.clone()));
    assert_eq!(find("a", Algorithm::Md5), Some(md5.clone()));
    assert_eq!(find("c", Algorithm::Md5), Some(md5.clone()));
    assert_eq!((find("c", Algorithm::Sha256), find("b", Algorithm::Sha256)), (None, None));
    for (line, found) in [
        ("a".to_owned(), "fewer than two colons"),
        ("a:r".to_owned(), "fewer than two colons"),
        (format!(":r:{md5}"), "no user"),
        (format!("a:r:{md5}0"), "33 digits"),
        (format!("a:r:{}g", &md5[1..]), "32 characters"),
        (format!("a:r:x:{md5}"), "34 characters"),
        ("a:r:".to_owned(), "0 digits"),
        (format!("ok:r:{md5}"), "MD5 of user \"ok\" a second time"),
    ] {
        let errors = DigestUsers::parse(&format!("ok:r:{md5}\n{line}\n"), "r").unwrap_err();
        let told = errors[0].to_string();
        assert!(errors.len() == 1 && errors[0].line == 2 && told.contains(found), "{line}: {errors:?}");
        assert!(!told.contains("abcdef"), "{told}");
    }
    let other = DigestUsers::parse(&format!("a:x:{md5}\n"), "r").unwrap_err();
    assert!(other[0].to_string().contains("realm \"x\"") && other[0].to_string().contains("is \"r\""));
}

/// RFC 7616 section 3.9.1.
fn example(algorithm: &str, response: &str) -> String {
    format!(
        "Digest username=\"Mufasa\", realm=\"{REALM}\", uri=\"/dir/index.html\", algorithm={algorithm}, \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
         cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
         opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    )
}

fn headers(lines: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(http::header::PROXY_AUTHORIZATION, HeaderValue::from_bytes(line).unwrap());
    }
    headers
}

fn both() -> Authenticator {
    let lines: Vec<_> =
        Algorithm::ALL.iter().map(|a| digest::line("Mufasa", REALM, b"Circle of Life", *a)).collect();
    let options = Options {
        realm: REALM.to_owned(),
        basic: Some(Arc::new(BasicUsers::parse(&format!("a:{APR1}\n")).unwrap())),
        digest: Some(Arc::new(DigestUsers::parse(&lines.join("\n"), REALM).unwrap())),
        ..Options::default()
    };
    Authenticator::new(&options, &Arc::new(Memory::new())).unwrap()
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW: Moment = Moment::at(1_000);

fn judge(
    who: &Authenticator,
    method: &Method,
    uri: &str,
    lines: &[&[u8]],
    now: Moment,
) -> Result<Arc<str>, Why> {
    let principal = match who.judge(method, &uri.parse().unwrap(), &headers(lines), CLIENT, now) {
        Judged::Done(principal) => principal,
        Judged::Verify(check) => who.verify(check, now),
    };
    match principal {
        Principal::Known(name) => Ok(name),
        Principal::Unknown(unknown) => Err(unknown.why),
        Principal::NotAsked => panic!("asked"),
    }
}

#[test]
fn the_examples_of_rfc_7616_are_right() {
    for (algorithm, response) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let Ok(Some(Credentials::Digest(given))) =
            Credentials::of(&headers(&[example(algorithm, response).as_bytes()]))
        else {
            panic!("{algorithm}")
        };
        let known = Algorithm::ALL.into_iter().find(|known| known.name() == algorithm).unwrap();
        let first = known.hash(&[b"Mufasa", REALM.as_bytes(), b"Circle of Life"]);
        assert!(
            given.is_right(&first, &Method::GET) && !given.is_right(&first, &Method::HEAD),
            "{algorithm}"
        );
        assert!(!given.is_right(&known.hash(&[b"Mufasa", REALM.as_bytes(), b"x"]), &Method::GET));
        // The password is right, and the nonce not from here: nobody is asked for a password again.
        let line = example(algorithm, response);
        let judged =
            judge(&both(), &Method::GET, "http://www.example.org/dir/index.html", &[line.as_bytes()], NOW);
        assert_eq!(judged, Err(Why::Stale));
    }
}

/// What a client that knows the password answers to the challenge of an algorithm.
fn answer(who: &Authenticator, algorithm: Algorithm, uri: &str, nc: u32, now: Moment) -> String {
    let lines = who.challenges(false, now);
    let line =
        lines.iter().map(|line| line.to_str().unwrap()).find(|l| l.contains(algorithm.name())).unwrap();
    answer_with(line.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap(), algorithm, uri, nc)
}

fn answer_with(nonce: &str, algorithm: Algorithm, uri: &str, nc: u32) -> String {
    let first = algorithm.hash(&[b"Mufasa", REALM.as_bytes(), b"Circle of Life"]);
    let second = algorithm.hash(&[b"GET", uri.as_bytes()]);
    let nc = format!("{nc:08x}");
    let response = algorithm.hash(&[
        first.as_bytes(),
        nonce.as_bytes(),
        nc.as_bytes(),
        b"c",
        b"auth",
        second.as_bytes(),
    ]);
    format!(
        "digest username=Mufasa,realm=\"{REALM}\",nonce=\"{nonce}\",uri=\"{uri}\",cnonce=c,nc={nc},qop=\"auth\",\
         algorithm={},response=\"{response}\"",
        algorithm.name()
    )
}

#[test]
fn digest_is_for_one_target_once_within_the_life_of_its_nonce() {
    let url = "http://h/x?y";
    for algorithm in Algorithm::ALL {
        let who = both();
        for (uri, expected) in [
            (url, true),
            ("/x?y", true),
            ("HTTP://H/x?y", true),
            ("/x", false),
            ("http://h/x", false),
            ("https://h/x?y", false),
            ("http://other/x?y", false),
            ("h:80", false),
            ("*", false),
            ("", false),
        ] {
            let line = answer(&who, algorithm, uri, 1, NOW);
            let judged = judge(&who, &Method::GET, url, &[line.as_bytes()], NOW);
            let right = Err(Why::Malformed("its uri is not the request's target"));
            assert_eq!(judged, if expected { Ok("Mufasa".into()) } else { right }, "{uri}");
            let again = judge(&who, &Method::GET, url, &[line.as_bytes()], NOW);
            assert_eq!(again == Err(Why::Stale), expected, "{uri}");
        }
        let line = answer(&who, algorithm, "h:443", 1, NOW);
        assert_eq!(judge(&who, &Method::GET, "h:443", &[line.as_bytes()], NOW), Ok("Mufasa".into()));
        let line = answer(&who, algorithm, "/", 1, NOW);
        assert!(judge(&who, &Method::GET, "h:443", &[line.as_bytes()], NOW).is_err());
        let line = answer(&who, algorithm, url, 1, NOW);
        let late = NOW.plus(5 * 60 * 1000 + 1);
        assert_eq!(judge(&who, &Method::GET, url, &[line.as_bytes()], late), Err(Why::Stale));
        let line = line.replace("Mufasa", "Scar");
        assert_eq!(judge(&who, &Method::GET, url, &[line.as_bytes()], NOW), Err(Why::Wrong));
    }
}

#[test]
fn the_strongest_is_offered_first_and_what_nobody_can_answer_is_not() {
    let who = both();
    let told = |stale| -> Vec<String> {
        who.challenges(stale, NOW).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    };
    let lines = told(false);
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("Digest ") && lines[0].contains("algorithm=SHA-256, nonce=\""), "{lines:?}");
    assert!(lines[1].starts_with("Digest ") && lines[1].contains("algorithm=MD5, nonce=\""), "{lines:?}");
    assert_eq!(lines[2], format!("Basic realm=\"{REALM}\", charset=\"UTF-8\""));
    assert!(lines[..2].iter().all(|line| line.contains("qop=\"auth\"") && !line.contains("stale")));
    assert!(told(true)[..2].iter().all(|line| line.ends_with(", stale=true")));
    let only = |text: &str| {
        let digest = Some(Arc::new(DigestUsers::parse(text, REALM).unwrap()));
        let options = Options { realm: REALM.to_owned(), digest, ..Options::default() };
        let who = Authenticator::new(&options, &Arc::new(Memory::new())).unwrap();
        who.challenges(false, NOW)
            .iter()
            .map(|line| line.to_str().unwrap().contains("MD5"))
            .collect::<Vec<_>>()
    };
    assert_eq!(only(&digest::line("a", REALM, b"x", Algorithm::Md5)), [true]);
    assert_eq!(only(&digest::line("a", REALM, b"x", Algorithm::Sha256)), [false]);
    // RFC 9110 section 11.7.1: a 407 has at least one challenge.
    assert_eq!(only(""), [false]);
}

#[test]
fn nobody_has_to_say_who_it_is_without_a_file() {
    assert!(Authenticator::new(&Options::default(), &Arc::new(Memory::new())).is_none());
}

#[test]
fn what_is_malformed_is_refused() {
    let who = both();
    let right = answer(&who, Algorithm::Md5, "http://h/", 1, NOW);
    let mut lines: Vec<Vec<u8>> = [
        "",
        "Basic",
        "Basic ",
        "Basic !",
        "Basic YTpi=",
        "Basic YTp",
        "Basic YQ==",
        "Basic OmI=",
        "Basic YTpi YTpi",
        "Basic YTpi, Basic YTpi",
        "Bearer YTpi",
        "Negotiate YTpi",
        "BasicYTpi",
        "Digest",
        "Digest ",
        "Digest ,,,",
        "Digest =",
        "Digest username",
        "Digest \"",
        "Digest username=\"",
        "Digest username=\"a",
        "Digest \u{7f}=1".trim_end_matches("\u{7f}=1"),
    ]
    .iter()
    .map(|line| line.as_bytes().to_vec())
    .collect();
    // The user is not UTF-8; the password has a line feed; both are too long.
    lines.extend([&b"Basic /zpi"[..], b"Basic YTpiCg=="].map(<[u8]>::to_vec));
    lines.push([b"Basic ".to_vec(), vec![b'A'; 2000]].concat());
    let long = STANDARD.encode(format!("a:{}", "x".repeat(513)));
    lines.push(format!("Basic {long}").into_bytes());
    let parameters: Vec<&str> = right["digest ".len()..].split(',').collect();
    for (at, parameter) in parameters.iter().enumerate() {
        // Each left out (an algorithm that is left out is MD5), each twice.
        let mut without = parameters.clone();
        without.remove(at);
        if !parameter.starts_with("algorithm") {
            lines.push(format!("Digest {}", without.join(",")).into_bytes());
        }
        lines.push(format!("{right},{parameter}").into_bytes());
    }
    for (from, to) in [
        ("qop=\"auth\"", "qop=auth-int"),
        ("MD5", "MD5-sess"),
        ("MD5", "SHA-512-256"),
        ("MD5", "SHA-256"),
        ("nc=00000001", "nc=1"),
        ("nc=00000001", "nc=+0000001"),
        ("nc=00000001", "nc=0000000g"),
        ("nc=00000001", "nc=000000001"),
        (REALM, "elsewhere"),
        ("username=Mufasa", "username=\"\""),
        ("username=Mufasa", "username*=UTF-8''Mufasa"),
        ("cnonce=c", "cnonce=c,userhash=true"),
        ("uri=\"http://h/\"", "uri=\"http://h/other\""),
    ] {
        assert!(right.contains(from), "{from}");
        lines.push(right.replacen(from, to, 1).into_bytes());
    }
    for line in &lines {
        let judged = judge(&who, &Method::GET, "http://h/", &[line], NOW);
        assert!(matches!(judged, Err(Why::Malformed(_))), "{}: {judged:?}", line.escape_ascii());
    }
    assert_eq!(judge(&who, &Method::GET, "http://h/", &[], NOW), Err(Why::Silent));
    let twice = judge(&who, &Method::GET, "http://h/", &[right.as_bytes(), right.as_bytes()], NOW);
    assert!(matches!(twice, Err(Why::Malformed(_))));
    // No such thing is a guess: nobody is slowed by it.
    assert_eq!(judge(&who, &Method::GET, "http://h/", &[right.as_bytes()], NOW), Ok("Mufasa".into()));
}

#[test]
fn five_wrong_passwords_slow_an_address_but_no_one_who_is_known() {
    let who = both();
    let basic = |text: &str| format!("bAsIc {}", STANDARD.encode(text)).into_bytes();
    let ask = |line: &[u8], now| judge(&who, &Method::GET, "http://h/", &[line], now);
    let known = answer(&who, Algorithm::Sha256, "http://h/", 1, NOW);
    let nonce = known.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(ask(known.as_bytes(), NOW), Ok("Mufasa".into()));
    assert_eq!(ask(&basic("a:secret"), NOW), Ok("a".into()));
    for guess in 0..5 {
        assert_eq!(ask(&basic(&format!("a:{guess}")), NOW), Err(Why::Wrong));
    }
    assert_eq!(ask(&basic("a:6"), NOW), Err(Why::TooMany));
    assert_eq!(ask(&basic("nobody:6"), NOW), Err(Why::TooMany));
    // Nobody learns by guessing on that a password is right.
    let fresh = answer(&who, Algorithm::Md5, "http://h/", 1, NOW);
    assert_eq!(ask(fresh.as_bytes(), NOW), Err(Why::TooMany));
    assert_eq!(ask(&basic("a:secret"), NOW), Ok("a".into()));
    let next = answer_with(&nonce, Algorithm::Sha256, "http://h/", 2);
    assert_eq!(ask(next.as_bytes(), NOW), Ok("Mufasa".into()));
    assert_eq!(ask(&basic("a:6"), NOW.plus(1000)), Err(Why::Wrong));
    assert_eq!(ask(&basic("a:7"), NOW.plus(1000)), Err(Why::TooMany));
}

#[test]
fn nothing_secret_is_shown() {
    let who = both();
    let Judged::Verify(check) = who.judge(
        &Method::GET,
        &"http://h/".parse().unwrap(),
        &headers(&[format!("Basic {}", STANDARD.encode("a:hunter2")).as_bytes()]),
        CLIENT,
        NOW,
    ) else {
        panic!()
    };
    let told = format!("{who:?} {check:?} {:?}", Options { basic: who.basic.clone(), ..Options::default() });
    assert!(!told.contains("hunter2") && !told.contains("apr1") && !told.contains("Mufasa"), "{told}");
}
