//! What an unsafe request removes. RFC 9111 section 4.4.

use crate::support::{Gate, Origin, Proxy};

fn stored(origin: &Origin, proxy: &Proxy, path: &str) {
    proxy.get(&origin.url(path));
    proxy.get(&origin.url(path)).assert_hit();
}

#[track_caller]
fn removed(origin: &Origin, proxy: &Proxy, path: &str) -> bool {
    !proxy.get_with(&origin.url(path), &["Cache-Control: only-if-cached"]).is_hit()
}

#[test]
fn success_and_redirection_of_an_unsafe_method_remove_the_target() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    for method in ["POST", "PUT", "DELETE", "PATCH", "FROB"] {
        for (status, removes) in [
            ("200 OK", true),
            ("204 No", true),
            ("302 Found", true),
            ("404 Not", false),
            ("412 Pre", false),
            ("500 Oops", false),
        ] {
            let path = format!("/{method}/{}", &status[..3]);
            origin.on(&path, move |x| {
                if x.request.method == "GET" {
                    x.reply("200 OK", &["Cache-Control: max-age=60"], "x");
                } else {
                    x.reply(status, &[], "");
                }
            });
            stored(&origin, &proxy, &path);
            proxy.request(method, &origin.url(&path), &[], "content");
            assert_eq!(removed(&origin, &proxy, &path), removes, "{method} answered {status}");
        }
    }
}

#[test]
fn safe_methods_remove_nothing() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    stored(&origin, &proxy, "/x");
    for method in ["OPTIONS", "HEAD"] {
        proxy.request(method, &origin.url("/x"), &["Cache-Control: no-cache"], "");
        assert!(!removed(&origin, &proxy, "/x"), "{method}");
    }
}

#[test]
fn all_variants_go() {
    let origin = Origin::start();
    let proxy = Proxy::open();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60", "Vary: X-A"], b"x");
    for value in ["X-A: 1", "X-A: 2"] {
        proxy.get_with(&origin.url("/x"), &[value]);
    }
    proxy.request("PUT", &origin.url("/x"), &[], "new");
    for value in ["X-A: 1", "X-A: 2"] {
        let response = proxy.get_with(&origin.url("/x"), &[value, "Cache-Control: only-if-cached"]);
        response.assert_status(504);
    }
}

#[test]
fn location_and_content_location_of_the_same_origin_go_too() {
    let origin = Origin::start();
    let other = Origin::start();
    let proxy = Proxy::open();
    for name in ["Location", "Content-Location"] {
        for (case, reference) in [
            ("relative", "b".to_owned()),
            ("absolute", origin.url(&format!("/{name}/absolute/b"))),
            ("rooted", format!("/{name}/rooted/b")),
        ] {
            let (action, target) = (format!("/{name}/{case}/a"), format!("/{name}/{case}/b"));
            origin.serve(&target, "200 OK", &["Cache-Control: max-age=60"], b"x");
            let field = format!("{name}: {reference}");
            origin.on(&action, move |x| x.reply("201 Created", &[&field], ""));
            stored(&origin, &proxy, &target);
            proxy.request("POST", &origin.url(&action), &[], "content");
            assert!(removed(&origin, &proxy, &target), "{name}: {case}");
        }
        let foreign = format!("/{name}/foreign");
        other.serve(&foreign, "200 OK", &["Cache-Control: max-age=60"], b"x");
        stored(&other, &proxy, &foreign);
        let field = format!("{name}: {}", other.url(&foreign));
        origin.on(&foreign, move |x| x.reply("201 Created", &[&field], ""));
        proxy.request("POST", &origin.url(&foreign), &[], "content");
        assert!(!removed(&other, &proxy, &foreign), "another origin's stay: {name}");
    }
}

#[test]
fn a_post_that_was_overtaken_by_another_change_is_not_stored() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| match x.request.method.as_str() {
        "POST" => {
            held.pass();
            let location = format!("Content-Location: {}", x.request.target);
            x.reply("200 OK", &["Cache-Control: max-age=60", &location], "posted");
        }
        "PUT" => x.reply("204 No Content", &[], ""),
        _ => x.reply("200 OK", &[], "put"),
    });
    let proxy = Proxy::open();
    let url = origin.url("/x");
    let mut post = proxy.client();
    post.begin("POST", &url, &[], "content");
    origin.wait("/x", 1);
    proxy.request("PUT", &url, &[], "other").assert_status(204);
    gate.open();
    post.response("POST").assert_status(200).assert_body("posted");
    proxy.get(&url).assert_forwarded("uri-miss").assert_body("put");
    // One that nothing overtakes is.
    proxy.request("POST", &url, &[], "content").assert_status(200);
    proxy.get(&url).assert_hit().assert_body("posted");
}
