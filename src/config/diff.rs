//! What a reload changes.

use super::Settings;
use super::keys::{When, settings};

/// The names of the keys whose values differ, as the table of keys tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changes {
    /// In force with the reload. `rules` stands for all of them.
    pub live: Vec<&'static str>,
    /// In force at the next start.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

/// What differs between the settings that run and the new ones.
pub fn diff(old: &Settings, new: &Settings) -> Changes {
    let mut changes = Changes::default();
    for setting in settings() {
        // Shown as `upstream.parents`: that is where it leads.
        if (setting.same)(old, new) || setting.key.name == "upstream.from_environment" {
            continue;
        }
        match setting.when {
            When::Live => changes.live.push(setting.key.name),
            When::Restart => changes.restart.push(setting.key.name),
        }
    }
    if old.rules != new.rules {
        changes.live.push("rules");
    }
    changes
}

/// `new`, with the old values wherever a change needs a restart: what runs after a reload.
pub fn running(old: &Settings, new: &Settings) -> Settings {
    let mut running = new.clone();
    for setting in settings().filter(|setting| setting.when == When::Restart) {
        (setting.keep)(old, &mut running);
    }
    running.server.listen_is_default = old.server.listen_is_default;
    // Sizes that go with another memory would not fit into the one that stays.
    let store = &mut running.store;
    if store.max_object > store.capacity {
        store.max_object = old.store.max_object;
        store.max_object_unknown_length = old.store.max_object_unknown_length;
    }
    running
}
