//! Interim responses are relayed at once, in order, and leave no trace. RFC 9110 section 15.2.

use crate::support::wire::Wire;
use crate::support::{Client, DEADLINE, Gate, Origin, Proxy};
use socket2::{Domain, Socket, Type};

#[test]
fn interim_responses_reach_the_client_before_the_final_one_is_ready() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/x", move |x| {
        x.write("HTTP/1.1 102 Processing\r\n\r\n");
        x.write("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>; rel=preload\r\nX-Only-Here: 1\r\n\r\n");
        x.write("HTTP/1.1 104 Whatever\r\nX: y\r\n\r\nHTTP/1.1 199 Unknown\r\n\r\n");
        held.pass();
        x.reply("200 OK", &["Cache-Control: max-age=60"], "final");
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.begin("GET", &origin.url("/x"), &[], "");
    assert_eq!(client.any_head().0, 102);
    let (status, hints) = client.any_head();
    assert_eq!(status, 103);
    assert_eq!(hints.all("link"), ["</a>; rel=preload", "</b>; rel=preload"]);
    assert_eq!(client.any_head().0, 104);
    assert_eq!(client.any_head().0, 199);
    gate.open();
    let response = client.response("GET");
    response.assert_status(200).assert_body("final");
    assert_eq!(response.field("link"), None, "nothing is merged");
    assert_eq!(response.field("x-only-here"), None);

    let hit = client.get(&origin.url("/x"));
    hit.assert_hit();
    hit.assert_body("final");
    assert!(hit.interim.is_empty(), "nothing is replayed");
    for name in ["link", "x-only-here", "x"] {
        assert_eq!(hit.field(name), None, "nothing is stored: {name}");
    }
}

#[test]
fn an_http_1_0_client_gets_none() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        x.reply("200 OK", &[], "final");
    });
    let proxy = Proxy::open();
    let mut client = proxy.client();
    client.send(format!("GET {} HTTP/1.0\r\n\r\n", origin.url("/x")));
    let response = client.response("GET");
    assert!(response.interim.is_empty());
    response.assert_status(200).assert_body("final");
}

#[test]
fn pipelined_requests_each_get_their_own() {
    let origin = Origin::start();
    for name in ["a", "b", "c"] {
        origin.on(&format!("/{name}"), move |x| {
            x.write(format!("HTTP/1.1 103 Early Hints\r\nX-Of: {name}\r\n\r\n"));
            x.reply("200 OK", &[], name);
        });
    }
    let proxy = Proxy::open();
    let mut client = proxy.client();
    let all: String = ["a", "b", "c"]
        .iter()
        .map(|n| format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", origin.url(&format!("/{n}"))))
        .collect();
    client.send(all);
    for name in ["a", "b", "c"] {
        let response = client.response("GET");
        response.assert_body(name);
        let of: Vec<_> = response.interim.iter().map(|h| h.field("x-of").unwrap()).collect();
        assert_eq!(of, [name]);
    }
}

#[test]
fn they_come_before_the_answer_to_an_upload_too() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.body();
        x.write("HTTP/1.1 102 Processing\r\n\r\n");
        x.reply("201 Created", &[], "made");
    });
    let proxy = Proxy::open();
    let response = proxy.request("POST", &origin.url("/x"), &[], "content");
    assert_eq!(response.interim.len(), 1);
    response.assert_status(201);
}

#[test]
fn a_flood_of_them_is_an_error_of_the_origin() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        for _ in 0..50 {
            x.write("HTTP/1.1 102 Processing\r\n\r\n");
        }
        x.wire().ends();
    });
    // However they arrive: here in one piece with the final one.
    for (path, count) in [("/few", 3), ("/many", 4)] {
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(count);
        origin.on(path, move |x| x.write(format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")));
    }
    let proxy = Proxy::with("limits.interim = 3");
    for path in ["/x", "/many"] {
        let response = proxy.get(&origin.url(path));
        assert!(response.interim.len() <= 3, "{}", response.interim.len());
        response.assert_error(502, "http_protocol_error");
    }
    let response = proxy.get(&origin.url("/few"));
    response.assert_status(200).assert_body("ok");
    assert_eq!(response.interim.len(), 3);
}

#[test]
fn hop_by_hop_fields_are_dropped_from_them() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 103 Early Hints\r\nConnection: X-Named\r\nX-Named: 1\r\nKeep-Alive: a\r\nLink: </a>\r\n\r\n");
        x.reply("200 OK", &[], "final");
    });
    let proxy = Proxy::open();
    let response = proxy.get(&origin.url("/x"));
    let hints = &response.interim[0];
    assert_eq!(hints.field("link").as_deref(), Some("</a>"));
    for name in ["x-named", "keep-alive", "connection"] {
        assert_eq!(hints.field(name), None, "{name}");
    }
}

#[test]
fn they_are_unframed_and_carry_via() {
    let origin = Origin::start();
    origin.on("/x", |x| {
        x.write("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nVia: 1.0 first\r\n\r\n");
        x.reply("200 OK", &[], "final");
    });
    let response = Proxy::with("proxy.via = 'tested'").get(&origin.url("/x"));
    response.assert_body("final");
    let hints = &response.interim[0];
    assert_eq!(hints.all("via"), ["1.0 first", "1.1 tested"]);
    for name in ["content-length", "transfer-encoding"] {
        assert_eq!(hints.field(name), None, "{name}");
    }
}

#[test]
fn a_client_that_does_not_read_interim_responses_is_cut_off_at_the_limit() {
    let origin = Origin::start();
    let (told, ended) = std::sync::mpsc::channel();
    origin.on("/x", move |x| {
        let large = "x".repeat(60_000);
        // More than the kernel's buffers take.
        for _ in 0..200 {
            x.write(format!("HTTP/1.1 103 Early Hints\r\nX-Large: {large}\r\n\r\n"));
        }
        told.send(x.wire().ends()).unwrap();
        x.done();
    });
    let proxy = Proxy::with("proxy.between_bytes_timeout = '300ms'\nlimits.interim = 200");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    let mut client = Client { wire: Wire::plain(socket.into()) };
    client.begin("POST", &origin.url("/x"), &[], "");
    assert!(ended.recv_timeout(DEADLINE).unwrap(), "the origin's connection ends with the client's");
}
