//! The text of `config/larder.toml`, made from the table of keys.
//!
//! In it `# ` begins prose and `#` a key that may be uncommented. A test compares the file in the tree with this.

use std::fmt::Write as _;

use super::keys::{Key, SECTIONS};
use super::rule_keys::{ACCESS_RULE, OVERRIDE, RULE, RuleKey};

/// Columns of a comment.
const WIDTH: usize = 100;

/// The text of `config/larder.toml`: every key, commented out, with its default and when a change takes effect.
pub fn text() -> String {
    let mut text = String::from(HEAD);
    for section in SECTIONS {
        let _ = write!(text, "\n\n# {}\n[{}]\n", section.doc, section.name);
        for setting in section.settings {
            let key = &setting.key;
            let name = key.name.rsplit('.').next().unwrap_or(key.name);
            text.push('\n');
            comment(&mut text, "# ", key.doc.trim());
            if key.name == "access.rules" {
                text.push_str("#\n#   [[access.rules]]\n");
                rule_keys(&mut text, ACCESS_RULE);
                continue;
            }
            let _ = writeln!(text, "#{name} = {} # {}", key.default, setting.when.word());
        }
    }
    text.push_str(RULES);
    rule_keys(&mut text, RULE);
    text.push_str(OVERRIDES);
    rule_keys(&mut text, OVERRIDE);
    text
}

const HEAD: &str = "\
# Larder's configuration: larder --config FILE. larder check FILE tells every error in it.
#
# Every key is here with its default; uncomment what you change. A flag comes before an environment
# variable, that before this file, and that before the default. Sizes and durations have units: \"64KiB\",
# \"512MiB\", \"30s\", \"15min\", \"1h\". Behind each key stands when a change takes effect: live, that is with
# SIGHUP or larder reload, or at the next start.
";

const RULES: &str = "

# Rules for hosts and URLs; there are none by default, and the first that matches is the one that counts.
# Both hosts and urls must match. A change takes effect live.
#
#   [[rules]]
";

const OVERRIDES: &str = "#
#   [[rules.freshness]]
";

/// The keys of a rule, as prose: uncommenting the rest of the file adds no rule.
fn rule_keys<T>(text: &mut String, keys: &[RuleKey<T>]) {
    for RuleKey { key, example, .. } in keys {
        let Key { name, default, doc, .. } = key;
        let doc = format!("{} Default: {default}.", doc.trim());
        if example.is_empty() {
            comment(text, "#   # ", &format!("{name}: {doc}"));
        } else {
            comment(text, "#   # ", &doc);
            let _ = writeln!(text, "#   {name} = {example}");
        }
    }
}

/// Words, broken into lines behind `prefix`.
fn comment(text: &mut String, prefix: &str, words: &str) {
    let mut line = prefix.trim_end().to_owned();
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line.truncate(0);
            line.push_str(prefix.trim_end());
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}
