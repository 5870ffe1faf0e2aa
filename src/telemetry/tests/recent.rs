//! The last exchanges: what is kept of many, and what of them is shown.

use super::super::recent::Recent;
use super::{failure, record, target};
use crate::clock::Moment;
use crate::telemetry::Record;
use http::Method;
use serde_json::Value;
use std::time::Duration;

fn urls(told: &Value) -> Vec<String> {
    let list = told["exchanges"].as_array().unwrap();
    list.iter().map(|exchange| exchange["url"].as_str().unwrap().to_owned()).collect()
}

/// A hit of `path` that ended in that second.
fn hit(path: &str, second: i64) -> Record {
    let at = Moment { mono: second * 1000, ..record().at };
    Record { url: target(path).into(), at, duration: Duration::ZERO, ..record() }
}

#[test]
fn each_is_told_once_with_its_number_and_as_the_log_has_it() {
    let recent = Recent::new();
    assert_eq!(recent.after(0)["next"], 0);
    recent.keep(&record(), false);
    recent.keep(&failure(), false);
    let told = recent.after(0);
    assert_eq!((told["exchanges"].as_array().unwrap().len(), &told["next"]), (2, &2.into()));
    let first = &told["exchanges"][0];
    assert_eq!((&first["seq"], &first["result"], &first["status"]), (&1.into(), &"hit".into(), &200.into()));
    assert_eq!(recent.after(2)["exchanges"], serde_json::json!([]));
    assert_eq!(recent.after(1)["exchanges"][0]["seq"], 2);
    assert_eq!(recent.after(u64::MAX)["exchanges"], serde_json::json!([]), "from before a restart");
}

#[test]
fn a_query_is_kept_for_explanations_and_shown_only_where_it_may_be() {
    let recent = Recent::new();
    recent.keep(&hit("/a?secret=1", 0), false);
    assert_eq!(urls(&recent.after(0)), ["http://example.com/a?..."]);
    assert_eq!(recent.request(1), Some((Method::GET, "http://example.com/a?secret=1".to_owned())));
    assert_eq!((recent.request(0), recent.request(2)), (None, None));
    recent.keep(&hit("/a?shown=1", 0), true);
    assert_eq!(urls(&recent.after(1)), ["http://example.com/a?shown=1"]);
    recent.keep(&failure(), true);
    assert_eq!(recent.request(3), None, "a POST is not explained");
    recent.forget();
    assert_eq!((urls(&recent.after(0)), recent.request(1)), (Vec::new(), None));
    recent.keep(&Record { method: Method::HEAD, ..hit("/later", 1) }, false);
    assert_eq!(urls(&recent.after(0)), ["http://example.com/later"]);
    assert_eq!(recent.request(4), Some((Method::HEAD, "http://example.com/later".to_owned())));
}

#[test]
fn a_flood_of_hits_is_cut_a_second_and_hides_no_miss() {
    let recent = Recent::new();
    for number in 0..10_000 {
        recent.keep(&hit(&format!("/{number}"), 5), false);
    }
    recent.keep(&Record { at: Moment { mono: 5_000, ..record().at }, ..failure() }, false);
    let told = recent.after(0);
    assert_eq!(told["exchanges"].as_array().unwrap().len(), 65);
    assert_eq!(told["exchanges"][64]["result"], "error");
    recent.keep(&hit("/late", 4), false);
    assert_eq!(recent.after(0)["next"], 65, "an earlier second does not begin anew");
    recent.keep(&hit("/next", 6), false);
    assert_eq!(urls(&recent.after(65)), ["http://example.com/next"]);
}

#[test]
fn only_the_last_are_remembered_and_long_urls_are_cut() {
    let recent = Recent::new();
    for second in 0..1000 {
        recent.keep(&hit(&format!("/{second}"), second), false);
    }
    let told = urls(&recent.after(0));
    assert_eq!((told.len(), told[0].as_str()), (512, "http://example.com/488"));
    let first = (Method::GET, "http://example.com/488".to_owned());
    assert_eq!((recent.request(488), recent.request(489)), (None, Some(first)));
    recent.keep(&hit(&format!("/{}", "x".repeat(9000)), 2000), false);
    let told = recent.after(1000);
    assert!(told["exchanges"][0]["url"].as_str().unwrap().len() < 1100, "{told}");
    assert_eq!(recent.request(1001), None, "too long to be kept");
}
