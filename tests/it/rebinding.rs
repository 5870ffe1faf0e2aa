//! A name whose address changes between two requests: the address is judged each time that one is dialled.

use crate::support::dns::{Answer, NameServer};
use crate::support::{Origin, Proxy, eventually};
use std::net::Ipv4Addr;

/// Stands for an address that may be reached.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// One that may not; the same port answers there, too.
const PRIVATE: Ipv4Addr = Ipv4Addr::LOCALHOST;

struct Setup {
    names: NameServer,
    public: Origin,
    private: Origin,
    proxy: Proxy,
}

impl Setup {
    fn new() -> Self {
        let names = NameServer::start();
        let public = Origin::on_address(&format!("{PUBLIC}:0"));
        let private = Origin::on_address(&format!("{PRIVATE}:{}", public.address.port()));
        private.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"private");
        names.set("rebound.test", Answer::Addresses(vec![PUBLIC], 0));
        let config = format!(
            "upstream = {{ nameservers = ['{}'], dns_min_ttl = '1ms', dns_max_ttl = '1ms', idle_per_origin = 0 }}\n\
             access.allow_destinations = ['{PUBLIC}/32']",
            names.address
        );
        let proxy = Proxy::closed().config(&config).start();
        Self { names, public, private, proxy }
    }

    fn url(&self) -> String {
        self.public.url_at("rebound.test", "/x")
    }

    /// From now on the name leads inside.
    fn rebind(&self) {
        self.names.set("rebound.test", Answer::Addresses(vec![PRIVATE], 0));
    }
}

#[test]
fn a_name_that_turns_to_a_private_address_is_refused_at_the_next_request() {
    let setup = Setup::new();
    setup.public.serve("/x", "200 OK", &["Cache-Control: no-store"], b"public");
    setup.proxy.get(&setup.url()).assert_status(200).assert_body("public");
    setup.rebind();
    let refused = eventually("the new answer", || {
        let response = setup.proxy.get(&setup.url());
        (response.status != 200).then_some(response)
    });
    refused.assert_error(403, "destination_ip_prohibited");
    for method in ["GET", "POST"] {
        let response = setup.proxy.request(method, &setup.url(), &[], "");
        response.assert_error(403, "destination_ip_prohibited");
    }
    let mut client = setup.proxy.client();
    client.send("CONNECT rebound.test:443 HTTP/1.1\r\nHost: rebound.test:443\r\n\r\n");
    client.response("GET").assert_error(403, "destination_ip_prohibited");
    // Both at once: one that may be reached makes the other no better.
    setup.names.set("rebound.test", Answer::Addresses(vec![PRIVATE, PUBLIC], 0));
    for _ in 0..4 {
        let response = setup.proxy.get(&setup.url());
        assert!(matches!(response.status, 200 | 403) && response.text() != "private", "{response}");
    }
    assert_eq!(setup.private.connections(), 0);
}

#[test]
fn a_revalidation_goes_to_no_private_address() {
    let setup = Setup::new();
    let fields = &["Cache-Control: max-age=50, stale-if-error=0", "Age: 100", "ETag: \"v\""];
    setup.public.serve("/x", "200 OK", fields, b"public");
    setup.proxy.get(&setup.url()).assert_body("public");
    setup.rebind();
    let refused = eventually("the new answer", || {
        let response = setup.proxy.get(&setup.url());
        (response.status != 200 || response.is_hit()).then_some(response)
    });
    refused.assert_error(403, "destination_ip_prohibited");
    let asked = setup.public.connections();
    setup.proxy.get(&setup.url()).assert_error(403, "destination_ip_prohibited");
    assert_eq!((setup.private.connections(), setup.public.connections()), (0, asked));
}

#[test]
fn a_background_refresh_goes_to_no_private_address() {
    let setup = Setup::new();
    let fields = &["Cache-Control: max-age=50, stale-while-revalidate=500", "Age: 100", "ETag: \"v\""];
    setup.public.serve("/x", "200 OK", fields, b"public");
    setup.proxy.get(&setup.url()).assert_body("public");
    setup.rebind();
    let (asked, questions) = (setup.public.connections(), setup.names.questions());
    // Each is answered from the store, and refreshes behind it; what came of the first is over when there is a next.
    let mut hits = 0;
    eventually("refreshes that failed", || {
        setup.proxy.get(&setup.url()).assert_hit().assert_body("public");
        hits += 1;
        (setup.names.questions() >= questions + 4).then_some(())
    });
    eventually("a refresh that was refused", || {
        setup.proxy.get(&setup.url()).assert_hit();
        let refused = setup.proxy.metric("larder_upstream_errors_total", &["destination_ip_prohibited"]);
        (refused > 0.5).then_some(())
    });
    // A refresh may have begun before the name turned.
    assert!(setup.public.connections() <= asked + 1, "after {hits} hits");
    assert_eq!(setup.private.connections(), 0);
}
