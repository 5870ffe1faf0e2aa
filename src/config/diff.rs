//! What a reload changes.

use super::Settings;
use super::keys::{When, settings};
use crate::store;

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
    let now = &with_sizes_of(old, new);
    for setting in settings() {
        // Shown as `upstream.parents`: that is where it leads.
        if setting.key.name == "upstream.from_environment" {
            continue;
        }
        match setting.when {
            When::Live if !(setting.same)(old, now) => changes.live.push(setting.key.name),
            // A size that waits for its memory. One that only follows from the memory was not changed.
            When::Live if !((setting.same)(new, now) || (follows(old) && follows(new))) => {
                changes.restart.push(setting.key.name);
            }
            When::Restart if !(setting.same)(old, new) => changes.restart.push(setting.key.name),
            When::Live | When::Restart => {}
        }
    }
    // The files may say something else under the same names.
    let (users, others) = (&old.access.authentication, &new.access.authentication);
    for (key, changed) in [
        ("access.basic_file", users.basic != others.basic),
        ("access.digest_file", users.digest != others.digest),
    ] {
        if changed && !changes.live.contains(&key) {
            changes.live.push(key);
        }
    }
    if old.rules != new.rules {
        changes.live.push("rules");
    }
    changes
}

/// `new`, with the old values wherever a change needs a restart: what runs after a reload.
pub fn running(old: &Settings, new: &Settings) -> Settings {
    let mut running = with_sizes_of(old, new);
    for setting in settings().filter(|setting| setting.when == When::Restart) {
        (setting.keep)(old, &mut running);
    }
    running.server.listen_is_default = old.server.listen_is_default;
    running
}

/// `new`, with the old sizes where the new ones follow from a memory that needs a restart, or would not fit
/// into the one that stays.
fn with_sizes_of(old: &Settings, new: &Settings) -> Settings {
    let mut settings = new.clone();
    if (follows(old) && follows(new)) || new.store.max_object > old.store.capacity {
        settings.store.max_object = old.store.max_object;
        settings.store.max_object_unknown_length = old.store.max_object_unknown_length;
    }
    settings
}

/// Whether the sizes are those that follow from the memory.
fn follows(settings: &Settings) -> bool {
    let sizes = store::Options::of_capacity(settings.store.capacity);
    (settings.store.max_object, settings.store.max_object_unknown_length)
        == (sizes.max_object, sizes.max_object_unknown_length)
}
