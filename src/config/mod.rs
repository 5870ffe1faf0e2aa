//! The configuration: one TOML file, the environment and the flags become the settings of every part.
//!
//! One table of keys ([`keys`]) drives all of it: reading and checking the file (`resolve`, every error at
//! once, each with its place), the sample file ([`sample`]), and what a reload changes ([`diff`]). Precedence:
//! flag, environment, file, default. Nobody below imports this module: each part owns its `Options`.
//!
//! ```text
//! larder.toml -> toml's spanned tables -> keys -> draft -> flags over it -> contradictions -> Settings
//! ```

mod contradictions;
mod defaults;
pub mod diff;
pub mod keys;
mod kinds;
mod problem;
mod resolve;
mod rule_keys;
pub mod sample;
mod shown;
mod suggest;
#[cfg(test)]
mod tests;
pub mod units;
mod users;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use diff::Changes;
pub use problem::{Errors, Place, Problem};
pub use resolve::Draft;
pub use shown::effective;

use crate::access::Ports;
use crate::policy::rules::Rule;

/// The settings of every part, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Listeners: where, how many connections, how long a drain lasts.
    pub server: crate::server::Options,
    /// What is done with a client's connection and request.
    pub proxy: crate::proxy::Options,
    /// Who may do what.
    pub access: crate::access::Options,
    /// The way to origins.
    pub upstream: crate::upstream::Options,
    /// RFC 9111's open figures.
    pub policy: crate::policy::Options,
    /// `[[rules]]`, in the order of the file: first match wins.
    pub rules: Vec<Rule>,
    /// Where stored responses are kept.
    pub store: crate::store::Options,
    /// How bodies are buffered.
    pub body: crate::body::Options,
    /// How much is buffered, all bodies together.
    pub buffers: crate::body::buffers::Options,
    /// Collapsing and filling.
    pub cache: crate::cache::Options,
    /// What clients are told of the proxy.
    pub pages: crate::pages::Options,
    /// The access log.
    pub telemetry: crate::telemetry::Options,
    /// The admin listener.
    pub admin: crate::admin::Options,
}

impl Settings {
    /// Reads the file that `overrides` names (the built-in defaults without one), and puts the overrides over it.
    ///
    /// Blocking: reads a small file. Called at the start and by a reload, with the same overrides, so that
    /// flags survive it.
    pub fn load(overrides: &Overrides) -> Result<Self, Errors> {
        resolve::load(overrides)
    }

    /// The same from text instead of a file; `path` is how errors name it.
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, Errors> {
        resolve::resolve(text, path, overrides, &|name| std::env::var(name).ok())
    }
}

/// What the command line and the environment say over the file. `None` and empty: nothing said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`, `LARDER_CONFIG`: the file. `None`: built-in defaults.
    pub config: Option<PathBuf>,
    /// `--listen`, `LARDER_LISTEN`: instead of `server.listen`.
    pub listen: Vec<SocketAddr>,
    /// `--admin-listen`, `LARDER_ADMIN_LISTEN`: instead of `admin.listen`.
    pub admin_listen: Option<AdminListen>,
    /// `--memory`, `LARDER_MEMORY`: bytes, instead of `cache.memory`.
    pub memory: Option<u64>,
    /// `--connect-ports`, `LARDER_CONNECT_PORTS`: instead of `access.connect_ports`.
    pub connect_ports: Option<Ports>,
    /// `--allow-private`, `LARDER_ALLOW_PRIVATE`: instead of `access.allow_private`.
    pub allow_private: Option<bool>,
    /// A command that asks a running proxy: the files of users are not read, which may be for the proxy alone.
    pub without_users: bool,
    /// `larder run`, which takes the place of a proxy that the environment names: as `upstream.from_environment`,
    /// unless the file says something of parents.
    pub parents_from_environment: bool,
}

/// Where the admin listener is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}
