//! Bytes to types of HTTP fields and back: syntax only, no policy.
pub mod cache_control;
pub mod date;
pub mod etag;
pub mod list;
pub mod places;
pub mod range;
pub mod reference;
pub mod status;
pub mod tags;
pub mod target;
pub mod text;
pub mod treatment;
pub mod vary;
pub mod via;
