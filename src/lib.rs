//! Larder: a caching forward proxy that says why.
pub mod access;
pub mod admin;
pub mod app;
pub mod body;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod field;
pub mod pages;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod upstream;
