//! Splits a label selector into tokens.

/// One token of a label selector; its text goes into error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Neither an operator nor a name, such as `=!`.
    Error,
    End,
    ClosedParenthesis,
    Comma,
    DoesNotExist,
    DoubleEquals,
    Equals,
    GreaterThan,
    Identifier,
    In,
    LessThan,
    NotEquals,
    NotIn,
    OpenParenthesis,
}

/// Tokens with their texts, the last of them [`Token::End`].
pub(super) fn tokens(selector: &str) -> Vec<(Token, String)> {
    let mut found = Vec::new();
    let mut rest = selector;
    loop {
        rest = rest.trim_start_matches(is_whitespace);
        let Some(first) = rest.chars().next() else {
            found.push((Token::End, String::new()));
            return found;
        };
        let (token, length) = if is_special(first) { special(rest) } else { word(rest) };
        let (text, after) = rest.split_at(length);
        let text = match token {
            Token::Error => format!("error expected: keyword found '{text}'"),
            _ => text.to_owned(),
        };
        found.push((token, text));
        rest = after;
    }
}

/// The longest operator that `rest` begins with.
fn special(rest: &str) -> (Token, usize) {
    let run = rest.find(|c| !is_special(c)).unwrap_or(rest.len());
    let mut longest = None;
    for length in 1..=run {
        let token = match &rest[..length] {
            ")" => Token::ClosedParenthesis,
            "," => Token::Comma,
            "!" => Token::DoesNotExist,
            "==" => Token::DoubleEquals,
            "=" => Token::Equals,
            ">" => Token::GreaterThan,
            "<" => Token::LessThan,
            "!=" => Token::NotEquals,
            "(" => Token::OpenParenthesis,
            _ if longest.is_some() => break,
            _ => continue,
        };
        longest = Some((token, length));
    }
    longest.unwrap_or((Token::Error, run))
}

fn word(rest: &str) -> (Token, usize) {
    let length = rest.find(|c| is_special(c) || is_whitespace(c)).unwrap_or(rest.len());
    let token = match &rest[..length] {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Identifier,
    };
    (token, length)
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_whitespace(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
