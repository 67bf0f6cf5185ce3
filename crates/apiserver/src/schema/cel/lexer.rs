//! Words of the language.

/// A word, and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The column, from 1.
    pub(super) at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Name(String),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 27] = [
    "&&", "||", "<=", ">=", "==", "!=", ".?", "[?", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[",
    "]", "{", "}", ",", ".", ";",
];

/// The words of a text, or the column and reason where it has something else.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut lexer = Lexer { rest: text, at: 1, tokens: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<bool, String> {
        self.skip_space();
        let Some(first) = self.rest.chars().next() else {
            self.push(Kind::End, 0);
            return Ok(false);
        };
        if first.is_ascii_digit() {
            return self.number().map(|()| true);
        }
        if let Some(length) = text_prefix(self.rest) {
            return self.text(length).map(|()| true);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let length = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            self.push(Kind::Name(self.rest[..length].to_owned()), length);
            return Ok(true);
        }
        let symbol = SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol));
        let symbol =
            symbol.ok_or_else(|| format!("1:{}: Syntax error: token recognition error at: '{first}'", self.at))?;
        self.push(Kind::Symbol(symbol), symbol.len());
        Ok(true)
    }

    fn skip_space(&mut self) {
        loop {
            let trimmed = self.rest.trim_start();
            self.at += self.rest.len() - trimmed.len();
            self.rest = trimmed;
            if !self.rest.starts_with("//") {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.advance(end);
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let text = self.rest;
        let bad = |at: usize| format!("1:{at}: Syntax error: that is no number");
        if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            let length = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            let number = i64::from_str_radix(&hex[..length], 16).map_err(|_| bad(self.at))?;
            self.push(Kind::Int(number), length + 2);
            return Ok(());
        }
        let digits = |from: usize| text[from..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| from + n);
        let mut end = digits(0);
        let mut is_double = false;
        if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            end = digits(end + 1);
            is_double = true;
        }
        if text[end..].starts_with(['e', 'E']) {
            let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
            let exponent = end + 1 + sign;
            if text[exponent..].starts_with(|c: char| c.is_ascii_digit()) {
                end = digits(exponent);
                is_double = true;
            }
        }
        let number = &text[..end];
        if is_double {
            let number = number.parse().map_err(|_| bad(self.at))?;
            self.push(Kind::Double(number), end);
        } else if text[end..].starts_with(['u', 'U']) {
            let number = number.parse().map_err(|_| bad(self.at))?;
            self.push(Kind::Uint(number), end + 1);
        } else {
            let number = number.parse().map_err(|_| bad(self.at))?;
            self.push(Kind::Int(number), end);
        }
        Ok(())
    }

    /// A text after a prefix (`r`, `b`, both or none) of `prefix` bytes.
    fn text(&mut self, prefix: usize) -> Result<(), String> {
        let start = &self.rest[prefix..];
        let head = self.rest[..prefix].to_ascii_lowercase();
        let (raw, bytes) = (head.contains('r'), head.contains('b'));
        let single = &start[..1];
        let triple = single.repeat(3);
        let quote = if start.starts_with(&triple) { triple.as_str() } else { single };

        let unended = || format!("1:{}: Syntax error: a text does not end", self.at);
        let body = &start[quote.len()..];
        let mut end = 0;
        loop {
            let rest = &body[end..];
            if rest.starts_with(quote) {
                break;
            }
            let mut chars = rest.chars();
            match chars.next().ok_or_else(unended)? {
                '\\' if !raw => end += 1 + chars.next().ok_or_else(unended)?.len_utf8(),
                c => end += c.len_utf8(),
            }
        }
        let content = &body[..end];
        let content = if raw { content.to_owned() } else { unescape(content).ok_or_else(unended)? };
        let length = prefix + 2 * quote.len() + end;
        let kind = if bytes { Kind::Bytes(content.into_bytes()) } else { Kind::Text(content) };
        self.push(kind, length);
        Ok(())
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.tokens.push(Token { kind, at: self.at });
        self.advance(length);
    }

    fn advance(&mut self, length: usize) {
        self.rest = &self.rest[length..];
        self.at += length;
    }
}

/// The length of what stands before the quote of a text, if this is a text.
fn text_prefix(text: &str) -> Option<usize> {
    let length = text.bytes().take(3).position(|b| b == b'"' || b == b'\'')?;
    matches!(text[..length].to_ascii_lowercase().as_str(), "" | "r" | "b" | "rb" | "br").then_some(length)
}

fn unescape(text: &str) -> Option<String> {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        let escaped = chars.next()?;
        result.push(match escaped {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'x' | 'X' => code(&mut chars, 2, 16)?,
            'u' => code(&mut chars, 4, 16)?,
            'U' => code(&mut chars, 8, 16)?,
            first @ '0'..='3' => {
                let rest: String = chars.by_ref().take(2).collect();
                char::from_u32(u32::from_str_radix(&format!("{first}{rest}"), 8).ok()?)?
            }
            c @ ('\\' | '"' | '\'' | '`' | '?') => c,
            _ => return None,
        });
    }
    Some(result)
}

fn code(chars: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Option<char> {
    let text: String = chars.by_ref().take(digits).collect();
    char::from_u32(u32::from_str_radix(&text, radix).ok().filter(|_| text.len() == digits)?)
}
