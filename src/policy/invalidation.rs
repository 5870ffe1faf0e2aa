//! What an exchange invalidates: RFC 9111 section 4.4.

use http::{HeaderMap, Method, StatusCode, header};

use crate::field::target::Target;

/// Whether a method is safe by RFC 9110 section 9.2.1, or by its own registration (PROPFIND and its kin of RFC
/// 4918, 3253, 5323; QUERY). An unknown one is not.
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"
    )
}

/// The targets whose stored responses go: after an unsafe or unknown method with a 2xx or 3xx, "the target URI",
/// and "the URI(s) in the Location and Content-Location response header fields" where those have the same
/// origin. The target itself comes first; none stands twice.
pub fn invalidates(
    method: &Method,
    status: StatusCode,
    target: &Target,
    response: &HeaderMap,
) -> Vec<Target> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut gone = vec![target.clone()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        for reference in response.get_all(name) {
            // "A cache MUST NOT trigger an invalidation under these conditions if the origin of the URI to be
            // invalidated differs from that of the target URI. This helps prevent denial-of-service attacks."
            let named = target.resolve(reference.as_bytes()).filter(|named| named.same_origin(target));
            if let Some(named) = named.filter(|named| !gone.contains(named)) {
                gone.push(named);
            }
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::headers;

    fn target(url: &str) -> Target {
        Target::absolute(&url.parse().unwrap()).unwrap()
    }

    #[track_caller]
    fn check(method: &str, status: u16, response: &[(&str, &str)], expected: &[&str]) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let found = invalidates(&method, status, &target("http://example.com/a/b?c"), &headers(response));
        let found: Vec<_> = found.iter().map(Target::url).collect();
        assert_eq!(found, expected, "{method} {status} {response:?}");
    }

    const HERE: &str = "http://example.com/a/b?c";

    #[test]
    fn an_unsafe_or_unknown_method_with_success_removes_the_target() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO", "get"] {
            for status in [200, 201, 204, 299, 301, 302, 303, 304] {
                check(method, status, &[], &[HERE]);
            }
            for status in [400, 404, 500, 503] {
                check(method, status, &[("location", "/x")], &[]);
            }
        }
    }

    #[test]
    fn safe_methods_never_remove_anything() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            check(method, 200, &[("location", "/x"), ("content-location", "/y")], &[]);
        }
    }

    #[test]
    fn location_and_content_location_of_the_same_origin_go_too() {
        let both = [("location", "x"), ("content-location", "http://EXAMPLE.com:80/y")];
        check("POST", 201, &both, &[HERE, "http://example.com/a/x", "http://example.com/y"]);
        check(
            "POST",
            201,
            &[("location", HERE), ("content-location", "/x")],
            &[HERE, "http://example.com/x"],
        );
        for foreign in
            ["https://example.com/x", "http://example.org/x", "//example.org/x", "http://example.com:81/x"]
        {
            check("PUT", 200, &[("location", foreign), ("content-location", foreign)], &[HERE]);
        }
        check(
            "PUT",
            200,
            &[("location", "http://[broken"), ("content-location", "ftp://example.com/")],
            &[HERE],
        );
    }
}
