//! The page at `/`: one document, its style and its script, all in the binary. It asks the API and nobody else.
//!
//! What comes from outside gets into it as text nodes alone; the policy forbids everything else that could run.

use http::HeaderValue;

pub(super) const PAGE: &str = include_str!("dashboard.html");
pub(super) const STYLE: &str = include_str!("dashboard.css");
pub(super) const SCRIPT: &str = include_str!("dashboard.js");

/// Of the page: its own style and script, the API, and no markup made of text.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; style-src 'self'; \
     script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// The description of the API, which a test holds to the routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
