//! Ways round the proxy and through others: `NO_PROXY`, parents, and what is told to clients of them.

use crate::dice::{Dice, halves, with_text};
use larder::field::target::authority;
use larder::pages::{self, Here};
use larder::upstream::{Direct, Parent, fuzzing, no_proxy_from_env, parents_from_env};
use std::net::SocketAddr;

pub fn routes(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let port = dice.number() as u16;
    let (first, second) = halves(dice.rest());
    with_text(first, |text| {
        if let Ok(parent) = Parent::parse(text) {
            let shown = format!("{parent:?}");
            if let Some((user, password)) = parent.credentials.as_ref().filter(|(user, _)| user.len() > 12) {
                assert!(
                    !shown.contains(user.as_str())
                        && (password.len() < 12 || !shown.contains(password.as_str()))
                );
            }
            let open = shown.replace("***@", "");
            assert_eq!(Parent::parse(&open), Ok(Parent { credentials: None, ..parent }), "{open}");
        }
        let lookup = |name: &str| (name != "no_proxy").then(|| text.to_owned());
        if let Ok((parents, _)) = parents_from_env(lookup) {
            assert!(parents.len() <= 2);
        }
        told(text);
        let members = no_proxy_from_env(|name| (name == "no_proxy").then(|| text.to_owned()));
        let direct: Vec<Direct> = members.iter().filter_map(|member| Direct::parse(member)).collect();
        for member in &direct {
            let written = member.to_string();
            assert_eq!(Direct::parse(&written).as_ref(), Some(member), "{written}");
            if let Ok((host, _)) = authority(second) {
                let covered = fuzzing::covers(member, &host, port);
                assert!(*member != Direct::All || covered);
                if let Direct::Name { name, only_below, port: None } = member
                    && !name.ends_with('.')
                {
                    assert_eq!(
                        covered,
                        host.to_string().trim_end_matches('.') == &**name && !only_below
                            || host.to_string().trim_end_matches('.').ends_with(&format!(".{name}"))
                                && !host.to_string().starts_with('[')
                    );
                }
            }
        }
        page(direct, second);
    });
}

/// Lines for a shell: nothing in them ends the quotes round a value, or the line.
fn told(text: &str) {
    let left_out = pages::left_out(|name| (name == "no_proxy").then(|| text.to_owned()));
    let at = SocketAddr::from(([127, 0, 0, 1], 3128));
    for (_, value) in pages::variables(at, &pages::Options::default(), &left_out) {
        assert!(!value.contains(['\'', '"', '\n', '\r', '$', '`', ' ', ';', '\\']), "{value}");
    }
}

/// The script keeps its lines whatever is in its lists, and these are lists.
fn page(direct: Vec<Direct>, host: &[u8]) {
    let host = http::HeaderValue::from_bytes(host).ok();
    let here = Here { host: host.as_ref(), local: SocketAddr::from(([127, 0, 0, 1], 3128)) };
    let lines = |options: &pages::Options| {
        let page = pages::pac(&here, options);
        String::from_utf8(page.body().to_vec())
            .map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let (Ok(plain), Ok(found)) = (lines(&pages::Options::default()), lines(&pages::Options { direct }))
    else {
        panic!("the page is text");
    };
    assert_eq!(plain.len(), found.len());
    for (plain, found) in plain.iter().zip(&found).filter(|(plain, found)| plain != found) {
        let list = found.find('[').zip(found.rfind(']')).map(|(from, to)| &found[from..=to]);
        let list = list.and_then(|list| serde_json::from_str::<serde_json::Value>(list).ok());
        assert!(list.is_some_and(|list| list.is_array()), "{plain}\n{found}");
    }
}
