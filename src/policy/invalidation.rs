//! What an exchange invalidates: RFC 9111 section 4.4.

use http::{HeaderMap, Method, StatusCode, header};

use crate::field::target::Target;

/// Whether a method is safe by RFC 9110 section 9.2.1, or by its own registration (PROPFIND and its kin of RFC
/// 4918, 3253, 5323; QUERY). An unknown one is not.
pub fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// The targets whose stored responses go: after an unsafe or unknown method with a 2xx or 3xx, "the target URI",
/// and "the URI(s) in the Location and Content-Location response header fields" where those have the same
/// origin. The target itself comes first; none stands twice.
pub fn invalidates(method: &Method, status: StatusCode, target: &Target, response: &HeaderMap) -> Vec<Target> {
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
