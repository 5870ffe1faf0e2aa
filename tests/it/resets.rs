//! An origin half of whose answers are resets: no wrong body, few errors, and nothing is left open.

use crate::support::{Origin, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests of one client each.
const CLIENTS: usize = 4;
const EACH: usize = 50;

#[test]
fn when_half_of_all_answers_are_resets_no_body_is_wrong_and_nothing_is_left_open() {
    let origin = Origin::start();
    let (turns, resets) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&resets);
    origin.on("/x", move |x| {
        let turn = turns.fetch_add(1, Ordering::SeqCst);
        if turn % 2 == 0 {
            let body = x.request.target.repeat(100);
            x.reply("200 OK", &["Cache-Control: no-store"], body);
        } else {
            count.fetch_add(1, Ordering::SeqCst);
            // Before the answer, or within it.
            if turn % 4 == 1 {
                x.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n/x?");
            }
            x.reset();
        }
    });
    let proxy = Proxy::open();
    proxy.get(&origin.url("/none")).assert_status(404);
    let before = proxy.descriptors();
    let failed: usize = std::thread::scope(|threads| {
        let ask = |client: usize| {
            let (proxy, origin) = (&proxy, &origin);
            threads.spawn(move || {
                let mut kept = proxy.client();
                let mut failed = 0;
                for number in 0..EACH {
                    let path = format!("/x?{client}-{number}");
                    kept.begin("GET", &origin.url(&path), &[], "");
                    match kept.try_response("GET") {
                        Ok(response) if response.status == 200 && response.broken.is_none() => {
                            response.assert_body(path.repeat(100));
                        }
                        Ok(response) if response.status == 502 => {
                            assert!(!response.text().contains(&path), "{response}");
                            failed += 1;
                        }
                        // It broke off: what came is the beginning, and the connection is over.
                        Ok(response) => {
                            assert!(response.status == 200, "{response}");
                            assert!(
                                path.repeat(100).as_bytes().starts_with(&response.body)
                                    || response.body == b"/x?",
                                "{response}"
                            );
                            failed += 1;
                            kept = proxy.client();
                        }
                        Err(_) => {
                            failed += 1;
                            kept = proxy.client();
                        }
                    }
                }
                failed
            })
        };
        let asking: Vec<_> = (0..CLIENTS).map(ask).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let resets = resets.load(Ordering::SeqCst);
    // What is reset on a reused connection may be asked once more; each reset costs one client's answer at most.
    assert!(failed <= resets && failed < CLIENTS * EACH, "{failed} failed by {resets} resets");
    assert!(failed > 0 && resets > CLIENTS * EACH / 4, "{failed} failed by {resets} resets");
    assert!(origin.hits("/x") <= CLIENTS * EACH * 2, "nothing is asked for more than twice");
    eventually("the descriptors", || (proxy.descriptors() <= before + CLIENTS).then_some(()));
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}
