//! Memory that runs short: a control group whose limit is near. The cache gives way, nobody is ended, and what is asked
//! for is answered.

use crate::support::group::Group;
use crate::support::proxy::command_of;
use crate::support::{Origin, Proxy, eventually, skip};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

const MIB: u64 = 1 << 20;
const STORE: f64 = (64 * MIB) as f64;

fn capacity(proxy: &Proxy) -> f64 {
    proxy.metric("larder_store_capacity_bytes", &[])
}

/// A proxy in a group whose limit is far, with its store full of bodies of one MiB; and what was asked for last.
fn full(group: &Group, origin: &Origin) -> (Proxy, String) {
    origin.on("/x", |x| x.reply("200 OK", &["Cache-Control: max-age=600"], vec![b'x'; MIB as usize]));
    let proxy = Proxy::builder().within(group).config("cache.memory = '64MiB'").start();
    let mut client = proxy.client();
    let url = |number: usize| origin.url(&format!("/x?{number}"));
    for number in 0..80 {
        client.get(&url(number)).assert_status(200);
    }
    client.get(&url(79)).assert_hit();
    assert!(proxy.metric("larder_store_bytes", &[]) > 0.7 * STORE);
    (proxy, url(79))
}

#[test]
fn a_limit_that_is_lowered_takes_from_the_cache_and_one_that_is_raised_gives_back() {
    let Some(group) = Group::new(1024 * MIB) else { return skip("a lowered limit", "no control groups") };
    let origin = Origin::start();
    let (mut proxy, last) = full(&group, &origin);
    // One MiB is left, and the reserve is an eighth.
    let usage = group.usage();
    group.set_limit(usage + MIB);
    eventually("a smaller cache", || {
        // Whatever is asked for meanwhile is answered.
        proxy.get(&last).assert_status(200);
        (capacity(&proxy) < STORE).then_some(())
    });
    eventually("memory that is given back", || (group.usage() + MIB < usage).then_some(()));
    let told = proxy.diagnostics.wait("a warning", |line| line.contains("memory is short"));
    assert!(told.contains("gives way"), "{told}");
    proxy.get(&last).assert_hit();
    group.set_limit(1024 * MIB);
    eventually("a cache as large as before", || (capacity(&proxy) >= STORE).then_some(()));
    assert!(proxy.running());
}

/// Another process of the group takes all that is left and more: without the cache's memory one of both would be ended.
#[test]
fn the_cache_gives_way_to_a_neighbour_before_the_kernel_ends_one_of_them() {
    let Some(group) = Group::new(1024 * MIB) else { return skip("a neighbour", "no control groups") };
    let origin = Origin::start();
    let (mut proxy, last) = full(&group, &origin);
    group.set_limit(group.usage() + 48 * MIB);
    // 64 MiB, held until it is ended: in a second less than the reserve, which is an eighth of the limit.
    let takes = r#"
import time
held = []
for _ in range(16):
    held.append(bytearray(b"x" * (4 << 20)))
    print(len(held), flush=True)
    time.sleep(0.4)
print("done", flush=True)
time.sleep(600)
"#;
    let mut neighbour = command_of("sh")
        .arg("-c")
        .arg(format!("{} && exec python3 -c \"$0\"", group.entry()))
        .arg(takes)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(neighbour.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    for line in lines.map_while(Result::ok) {
        proxy.get(&last).assert_status(200);
        told.push(line);
        if told.last().is_some_and(|line| line == "done") {
            break;
        }
    }
    assert_eq!(told.last().map(String::as_str), Some("done"), "the neighbour was ended: {told:?}");
    assert!(proxy.running());
    let capacity = capacity(&proxy);
    assert!(capacity < 0.8 * STORE, "{capacity}");
    proxy.get(&last).assert_hit();
    neighbour.kill().unwrap();
    neighbour.wait().unwrap();
}

/// What a small container has: the shipped shares of it, a store that is filled three times over, bodies of all sizes, and
/// clients that read slowly.
#[test]
fn a_group_of_128_mib_is_enough_for_a_full_store_and_many_clients() {
    let Some(group) = Group::new(128 * MIB) else { return skip("128 MiB", "no control groups") };
    let origin = Origin::start();
    // Sizes from 1 KiB to 4 MiB, by the query's length.
    origin.on("/x", |x| {
        let size = 1 << (10 + x.request.target.bytes().filter(|byte| *byte == b'_').count());
        x.reply("200 OK", &["Cache-Control: max-age=600"], vec![b'x'; size]);
    });
    origin.on("/large", |x| {
        x.write(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: {}\r\n\r\n",
            50 * MIB
        ));
        let part = vec![b'x'; MIB as usize];
        for _ in 0..50 {
            if !x.written(&part) {
                return;
            }
        }
    });
    let mut proxy = Proxy::builder().within(&group).start();
    assert!((capacity(&proxy) - (32 * MIB) as f64).abs() < MIB as f64, "a quarter");
    // They read nothing, and hold more than there is to buffer with.
    let slow: Vec<_> = (0..100)
        .map(|number| {
            let mut client = proxy.client();
            client.begin("GET", &origin.url(&format!("/large?{}", number % 10)), &[], "");
            client
        })
        .collect();
    let threads: Vec<_> = (0..4_usize)
        .map(|thread| {
            let (mut client, address) = (proxy.client(), origin.address);
            std::thread::spawn(move || {
                for number in 0..39 {
                    let bits = (number * 7 + thread) % 13;
                    let url = format!("http://{address}/x?{thread}-{number}{}", "_".repeat(bits));
                    let response = client.get(&url);
                    assert_eq!((response.status, response.body.len()), (200, 1 << (10 + bits)), "{url}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(proxy.running());
    assert!(proxy.metric("larder_store_evictions_total", &[]) > 0.0);
    proxy.get(&origin.url("/x?last")).assert_status(200);
    proxy.get(&origin.url("/x?last")).assert_hit();
    drop(slow);
}
