//! What was probably meant by a name that is not known.

/// The known name that was probably meant: the same key in another section, else the one with the fewest typing
/// mistakes, if they are few.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let searched = name.rsplit('.').next().unwrap_or(name);
    if let Some(moved) = known.clone().find(|known| known.rsplit('.').next() == Some(searched)) {
        return Some(moved);
    }
    let (distance, near) =
        known.map(|known| (distance(name, known), known)).min_by_key(|&(distance, _)| distance)?;
    // A third of the letters wrong is another word.
    (distance <= 1 + searched.len() / 4).then_some(near)
}

/// Typing mistakes between two words: letters left out, put in, exchanged, or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let exchanged = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                let least = exchanged.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                if swapped { least.min(rows[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        let known =
            ["cache.memory", "cache.max_object", "upstream.idle_timeout", "proxy.idle_timeout", "log.query"];
        assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
    }

    #[test]
    fn a_typing_mistake_or_the_wrong_section_leads_to_the_right_key() {
        check("cache.memroy", Some("cache.memory"));
        check("cache.memmory", Some("cache.memory"));
        check("cache.maxobject", Some("cache.max_object"));
        check("server.memory", Some("cache.memory"));
        check("log.querry", Some("log.query"));
        check("cache.fancy_new_thing", None);
    }
}
