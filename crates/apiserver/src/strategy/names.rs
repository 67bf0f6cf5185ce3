//! What names, labels and ports may look like, in the words of apimachinery's `util/validation`.

use std::sync::LazyLock;

use regex::Regex;

/// The rule for an object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces.
    Label,
    /// RFC 1035 label: Services.
    Label1035,
    /// Whatever can stand in a path: RBAC.
    PathSegment,
}

pub(crate) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY: &str = "[-._a-zA-Z0-9]+";

static LABEL_RE: LazyLock<Option<Regex>> = LazyLock::new(|| whole(LABEL));
static SUBDOMAIN_RE: LazyLock<Option<Regex>> = LazyLock::new(|| whole(SUBDOMAIN));
static LABEL_1035_RE: LazyLock<Option<Regex>> = LazyLock::new(|| whole(LABEL_1035));
static QUALIFIED_RE: LazyLock<Option<Regex>> = LazyLock::new(|| whole(QUALIFIED));
static LABEL_VALUE_RE: LazyLock<Option<Regex>> = LazyLock::new(|| whole(LABEL_VALUE));
static CONFIG_KEY_RE: LazyLock<Option<Regex>> = LazyLock::new(|| whole(CONFIG_KEY));

/// What is wrong with an object's name; `prefix` for a `generateName`, whose last character may be a dash.
pub(crate) fn name(rule: NameRule, name: &str, prefix: bool) -> Vec<String> {
    let completed;
    let name = match name.strip_suffix('-') {
        Some(start) if prefix => {
            completed = format!("{start}a");
            &completed
        }
        _ => name,
    };
    match rule {
        NameRule::Subdomain => subdomain(name),
        NameRule::Label => label(name),
        NameRule::Label1035 => label_1035(name),
        NameRule::PathSegment => path_segment(name),
    }
}

/// RFC 1123 subdomain.
pub(crate) fn subdomain(text: &str) -> Vec<String> {
    let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    check(text, 253, &SUBDOMAIN_RE, rule, SUBDOMAIN, &["example.com"])
}

/// RFC 1123 label.
pub(crate) fn label(text: &str) -> Vec<String> {
    let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
    check(text, 63, &LABEL_RE, rule, LABEL, &["my-name", "123-abc"])
}

/// RFC 1035 label.
pub(crate) fn label_1035(text: &str) -> Vec<String> {
    let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
    check(text, 63, &LABEL_1035_RE, rule, LABEL_1035, &["my-name", "abc-123"])
}

/// The key of a label or annotation: `[prefix/]name`.
pub(crate) fn qualified(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(subdomain(prefix).into_iter().map(|e| format!("prefix part {e}")));
            }
            *name
        }
        _ => {
            let rule = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
            let text = regex_error(rule, QUALIFIED, &["MyName", "my.name", "123-abc"]);
            return vec![format!("{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    }
    let rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let mut found = check(name, 63, &QUALIFIED_RE, rule, QUALIFIED, &["MyName", "my.name", "123-abc"]);
    for error in &mut found {
        if error.starts_with("must be no more") {
            error.insert_str(0, "name part ");
        }
    }
    errors.extend(found);
    errors
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Vec<String> {
    let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    check(text, 63, &LABEL_VALUE_RE, rule, LABEL_VALUE, &["MyValue", "my_value", "12345"])
}

/// The key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let mut errors = check(text, 253, &CONFIG_KEY_RE, rule, CONFIG_KEY, &["key.name", "KEY_NAME", "key-name"]);
    match text {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        text if text.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// The name of a port (RFC 6335): what a Service's `targetPort` may name.
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() || text.len() > 15 {
        errors.push("must be no more than 15 characters".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn check(
    text: &str,
    longest: usize,
    regex: &LazyLock<Option<Regex>>,
    rule: &str,
    pattern: &str,
    examples: &[&str],
) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > longest {
        errors.push(format!("must be no more than {longest} bytes"));
    }
    if !regex.as_ref().is_some_and(|r| r.is_match(text)) {
        errors.push(regex_error(rule, pattern, examples));
    }
    errors
}

fn regex_error(rule: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    format!("{rule} (e.g. {}, regex used for validation is '{pattern}')", examples.join(",  or "))
}

fn whole(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).ok()
}
