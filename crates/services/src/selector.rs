//! Label selectors, in the words of `kubectl --selector`.

use std::collections::BTreeMap;

/// What labels must be; all requirements must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} is not a part of a label selector; write name=value, name!=value, name in (a,b), name notin (a,b), name or !name"
)]
pub struct BadSelector {
    part: String,
}

impl Selector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    ///
    /// # Errors
    /// Names the part that is not understood.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let parts = split(text);
        let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
        Ok(Self { requirements: parts.map(requirement).collect::<Result<_, _>>()? })
    }

    /// Whether nothing is asked for, so that everything matches.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether these labels are as asked for.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::Exists(name) => labels.contains_key(name),
            Requirement::Absent(name) => !labels.contains_key(name),
            Requirement::In(name, values) => labels.get(name).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(name, values) => labels.get(name).is_none_or(|value| !values.contains(value)),
        })
    }
}

/// At the commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    text.split(move |c| {
        is_inside = (is_inside || c == '(') && c != ')';
        c == ',' && !is_inside
    })
    .collect()
}

fn requirement(part: &str) -> Result<Requirement, BadSelector> {
    let bad = || BadSelector { part: part.to_owned() };
    let name = |text: &str| Some(text.trim().to_owned()).filter(|name| is_name(name)).ok_or_else(bad);
    let value = |text: &str| Some(text.trim().to_owned()).filter(|value| is_value(value)).ok_or_else(bad);
    if let Some(list) = part.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or_else(bad)?;
        let values = values.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        let (label, operator) = head.trim().split_once(char::is_whitespace).ok_or_else(bad)?;
        return match operator.trim() {
            "in" => Ok(Requirement::In(name(label)?, values)),
            "notin" => Ok(Requirement::NotIn(name(label)?, values)),
            _ => Err(bad()),
        };
    }
    if let Some((label, text)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(name(label)?, vec![value(text)?]));
    }
    if let Some((label, text)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(name(label)?, vec![value(text)?]));
    }
    match part.strip_prefix('!') {
        Some(label) => Ok(Requirement::Absent(name(label)?)),
        None => Ok(Requirement::Exists(name(part)?)),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
}

fn is_value(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labels_are_matched_as_kubectl_does() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("x/tier", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,x/tier=1", true),
            ("app=api", false),
            ("app!=api", true),
            ("none!=api", true),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("!app", false),
            ("app in (api, web),x/tier", true),
            ("app notin (api,web)", false),
            ("none notin (a)", true),
            ("none in (a)", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_named() {
        for bad in ["=a", "a b", "a is (b)", "a in b", "a=(b)", "!", "a=b c", "in (a)", "a)"] {
            let error = Selector::parse(bad).unwrap_err();
            assert!(error.to_string().contains(bad), "{bad}: {error}");
        }
    }
}
