//! Larder: a caching forward proxy that says why.
pub mod clock;
pub mod shutdown;
