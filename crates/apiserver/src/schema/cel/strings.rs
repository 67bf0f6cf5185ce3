//! The functions on strings. Places are counted in characters.

use std::borrow::Cow;

use super::eval::no_overload;
use super::value::Val;

type Outcome<'a> = Result<Val<'a>, String>;

/// Methods by name and number of arguments.
pub(super) const METHODS: &[(&str, usize)] = &[
    ("startsWith", 1),
    ("endsWith", 1),
    ("contains", 1),
    ("charAt", 1),
    ("indexOf", 1),
    ("indexOf", 2),
    ("lastIndexOf", 1),
    ("join", 0),
    ("join", 1),
    ("lowerAscii", 0),
    ("upperAscii", 0),
    ("replace", 2),
    ("replace", 3),
    ("split", 1),
    ("split", 2),
    ("substring", 1),
    ("substring", 2),
    ("trim", 0),
];

/// Calls a method of a string.
pub(super) fn method<'a>(name: &str, text: &str, args: &[Val<'a>]) -> Outcome<'a> {
    let owned = |text: String| Ok(Val::Str(Cow::Owned(text)));
    match (name, args) {
        ("startsWith", [Val::Str(part)]) => Ok(Val::Bool(text.starts_with(part.as_ref()))),
        ("endsWith", [Val::Str(part)]) => Ok(Val::Bool(text.ends_with(part.as_ref()))),
        ("contains", [Val::Str(part)]) => Ok(Val::Bool(text.contains(part.as_ref()))),
        ("lowerAscii", []) => owned(text.to_ascii_lowercase()),
        ("upperAscii", []) => owned(text.to_ascii_uppercase()),
        ("trim", []) => owned(text.trim().to_owned()),
        ("replace", [Val::Str(from), Val::Str(to)]) => replace(text, from, to, usize::MAX),
        ("replace", [Val::Str(from), Val::Str(to), Val::Int(most)]) => {
            replace(text, from, to, usize::try_from(*most).unwrap_or(usize::MAX))
        }
        ("split", [Val::Str(separator)]) => Ok(split(text, separator, usize::MAX)),
        ("split", [Val::Str(separator), Val::Int(most)]) => {
            Ok(split(text, separator, usize::try_from(*most).unwrap_or(usize::MAX)))
        }
        ("charAt", [Val::Int(at)]) => {
            let at = place(text, *at)?;
            owned(text[at..].chars().next().map_or(String::new(), String::from))
        }
        ("substring", [Val::Int(from)]) => owned(text[place(text, *from)?..].to_owned()),
        ("substring", [Val::Int(from), Val::Int(to)]) => {
            let (from, to) = (place(text, *from)?, place(text, *to)?);
            let part =
                text.get(from..to).ok_or_else(|| format!("invalid substring range. start: {from}, end: {to}"))?;
            owned(part.to_owned())
        }
        ("indexOf", [Val::Str(part)]) => Ok(index(text, text.find(part.as_ref()))),
        ("indexOf", [Val::Str(part), Val::Int(from)]) => {
            let from = place(text, *from)?;
            Ok(index(text, text[from..].find(part.as_ref()).map(|found| from + found)))
        }
        ("lastIndexOf", [Val::Str(part)]) => Ok(index(text, text.rfind(part.as_ref()))),
        _ => Err(no_overload()),
    }
}

/// The strings of a list in a row.
pub(super) fn join<'a>(items: &[Val<'a>], separator: &str) -> Outcome<'a> {
    let texts: Option<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            Val::Str(text) => Some(text.as_ref()),
            _ => None,
        })
        .collect();
    texts.map(|texts| Val::Str(Cow::Owned(texts.join(separator)))).ok_or_else(no_overload)
}

fn replace<'a>(text: &str, from: &str, to: &str, most: usize) -> Outcome<'a> {
    // So that a rule cannot blow a text up.
    if text.len().saturating_mul(to.len().max(1)) > 1 << 22 {
        return Err("the rule makes too large a value".to_owned());
    }
    let replaced = if most == usize::MAX { text.replace(from, to) } else { text.replacen(from, to, most) };
    Ok(Val::Str(Cow::Owned(replaced)))
}

fn split<'a>(text: &str, separator: &str, most: usize) -> Val<'a> {
    let own = |part: &str| Val::Str(Cow::Owned(part.to_owned()));
    if most == 0 {
        return Val::List(Vec::new());
    }
    if separator.is_empty() {
        return Val::List(text.chars().take(most).map(|c| own(c.encode_utf8(&mut [0; 4]))).collect());
    }
    Val::List(text.splitn(most, separator).map(own).collect())
}

/// The byte at which a character begins.
fn place(text: &str, at: i64) -> Result<usize, String> {
    let wanted = usize::try_from(at).map_err(|_| format!("index out of range: {at}"))?;
    let places = text.char_indices().map(|(place, _)| place).chain([text.len()]);
    places.into_iter().nth(wanted).ok_or_else(|| format!("index out of range: {at}"))
}

/// The character at which a byte lies.
fn index<'a>(text: &str, found: Option<usize>) -> Val<'a> {
    Val::Int(found.map_or(-1, |found| i64::try_from(text[..found].chars().count()).unwrap_or(i64::MAX)))
}
