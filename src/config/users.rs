//! The files of users that the settings name: read with the configuration, and wrong with it.

use std::path::Path;
use std::sync::Arc;

use super::problem::{Place, Problem};
use super::resolve::Draft;
use crate::access::authentication::{BasicUsers, DigestUsers, LoadError};

/// Reads them into the draft. What is wrong in them is told at its place in them.
pub(super) fn read(draft: &mut Draft) {
    let authentication = &mut draft.settings.access.authentication;
    let mut wrongs = Vec::new();
    if let Some(path) = &authentication.basic_file {
        match BasicUsers::load(path) {
            Ok(users) => authentication.basic = Some(Arc::new(users)),
            Err(errors) => wrongs.push(("access.basic_file", path.clone(), errors)),
        }
    }
    if let Some(path) = &authentication.digest_file {
        match DigestUsers::load(path, &authentication.realm) {
            Ok(users) => authentication.digest = Some(Arc::new(users)),
            Err(errors) => wrongs.push(("access.digest_file", path.clone(), errors)),
        }
    }
    for (key, path, errors) in wrongs {
        // A realm that could not be read is wrong enough.
        let unread = key == "access.digest_file" && draft.unread.contains("access.realm");
        let given = draft.places.get(key).cloned().unwrap_or(Place::Default);
        let errors = errors.into_iter().filter(|_| !unread);
        draft.problems.extend(errors.map(|error| problem(key, &given, &path, error)));
    }
}

/// At its line; where the whole file is wrong, where that was given.
fn problem(key: &str, given: &Place, path: &Path, error: LoadError) -> Problem {
    let LoadError { line, found, expected } = error;
    let (place, found) = if line == 0 {
        (given.clone(), format!("{}, which is {found}", path.display()))
    } else {
        (Place::File { path: path.to_path_buf(), line, column: 1 }, found)
    };
    Problem { place, key: key.to_owned(), found, expected }
}
