//! The JSONPath of Kubernetes (<https://kubernetes.io/docs/reference/kubectl/jsonpath/>), as far as printer columns and
//! selectable fields need it: `.a.b`, `['a']`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `.*`, `..a`, `[?(@.type=="Ready")]`.

use serde_json::Value;

/// A path that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("JSONPath {path:?} cannot be read at character {position}: {why}")]
pub struct JsonPathError {
    path: String,
    position: usize,
    why: &'static str,
}

/// A path into an object, with or without the braces around it.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Wildcard,
    Descend,
    Filter(Filter),
}

/// `[?(LEFT OPERATOR RIGHT)]`, or `[?(LEFT)]` for whatever has it.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    comparison: Option<(Comparison, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path such as `.spec.allowedIPs[0]`.
    ///
    /// # Errors
    /// The path is not one of the forms above.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let trimmed = text.trim();
        let inner = trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(trimmed);
        let mut reader = Reader { text: inner, position: 0 };
        let steps =
            reader.steps().map_err(|why| JsonPathError { path: text.to_owned(), position: reader.position, why })?;
        if reader.position < inner.len() {
            let why = "a path goes on with `.` or `[`";
            return Err(JsonPathError { path: text.to_owned(), position: reader.position, why });
        }
        Ok(Self { steps })
    }

    /// The values at the path, in their order; none where it leads nowhere.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        self.steps
            .iter()
            .fold(vec![object], |found, step| found.into_iter().flat_map(|value| step.apply(value)).collect())
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Step::Index(index), Value::Array(list)) => {
                let index = if *index < 0 { *index + list.len() as i64 } else { *index };
                usize::try_from(index).ok().and_then(|index| list.get(index)).into_iter().collect()
            }
            (Step::Slice { start, end, step }, Value::Array(list)) => {
                let length = list.len() as i64;
                let bound = |given: Option<i64>, otherwise: i64| {
                    let given = given.unwrap_or(otherwise);
                    (if given < 0 { given + length } else { given }).clamp(0, length) as usize
                };
                let (start, end) = (bound(*start, 0), bound(*end, length));
                let taken = list.get(start..end).unwrap_or_default();
                taken.iter().step_by(usize::try_from(*step).unwrap_or(1).max(1)).collect()
            }
            (Step::Wildcard, Value::Array(list)) => list.iter().collect(),
            (Step::Wildcard, Value::Object(map)) => map.values().collect(),
            (Step::Descend, _) => {
                let mut found = vec![value];
                let children: Vec<&Value> = match value {
                    Value::Array(list) => list.iter().collect(),
                    Value::Object(map) => map.values().collect(),
                    _ => Vec::new(),
                };
                found.extend(children.into_iter().flat_map(|child| Step::Descend.apply(child)));
                found
            }
            (Step::Filter(filter), Value::Array(list)) => list.iter().filter(|element| filter.holds(element)).collect(),
            _ => Vec::new(),
        }
    }
}

impl Filter {
    fn holds(&self, element: &Value) -> bool {
        let left = self.left.value(element);
        let Some((comparison, right)) = &self.comparison else { return left.is_some() };
        let (Some(left), Some(right)) = (left, right.value(element)) else { return false };
        let ordering = match (left.as_f64(), right.as_f64(), left.as_str(), right.as_str()) {
            (Some(left), Some(right), _, _) => left.partial_cmp(&right),
            (_, _, Some(left), Some(right)) => Some(left.cmp(right)),
            _ if left == right => Some(std::cmp::Ordering::Equal),
            _ => return *comparison == Comparison::NotEqual,
        };
        match comparison {
            Comparison::Equal => ordering.is_some_and(|ordering| ordering.is_eq()),
            Comparison::NotEqual => ordering.is_some_and(|ordering| ordering.is_ne()),
            Comparison::Less => ordering.is_some_and(|ordering| ordering.is_lt()),
            Comparison::LessOrEqual => ordering.is_some_and(|ordering| ordering.is_le()),
            Comparison::Greater => ordering.is_some_and(|ordering| ordering.is_gt()),
            Comparison::GreaterOrEqual => ordering.is_some_and(|ordering| ordering.is_ge()),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, element: &'a Value) -> Option<&'a Value> {
        match self {
            Operand::Path(path) => path.find(element).into_iter().next(),
            Operand::Literal(value) => Some(value),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
}

impl Reader<'_> {
    /// Steps until something that no step begins with.
    fn steps(&mut self) -> Result<Vec<Step>, &'static str> {
        let mut steps = Vec::new();
        self.take("$");
        loop {
            if self.take("..") {
                steps.push(Step::Descend);
                if !self.rest().starts_with('[') {
                    steps.push(self.field()?);
                }
            } else if self.take(".") {
                // `.[0]` is written by some for `[0]`, and `.` alone is the object itself.
                if !self.rest().starts_with('[') && !self.rest().is_empty() {
                    steps.push(self.field()?);
                }
            } else if self.take("[") {
                steps.push(self.bracket()?);
            } else if steps.is_empty() && self.rest().starts_with(is_field_character) {
                steps.push(self.field()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn field(&mut self) -> Result<Step, &'static str> {
        if self.take("*") {
            return Ok(Step::Wildcard);
        }
        let mut name = String::new();
        while let Some(c) = self.rest().chars().next() {
            let c = match c {
                '\\' => {
                    self.position += 1;
                    self.rest().chars().next().ok_or("a backslash stands before the character that it escapes")?
                }
                c if is_field_character(c) => c,
                _ => break,
            };
            name.push(c);
            self.position += c.len_utf8();
        }
        if name.is_empty() { Err("a field's name is missing") } else { Ok(Step::Field(name)) }
    }

    /// What stands after `[`, up to and with the `]`.
    fn bracket(&mut self) -> Result<Step, &'static str> {
        let step = if self.take("*") {
            Step::Wildcard
        } else if self.take("?(") {
            Step::Filter(self.filter()?)
        } else if self.rest().starts_with(['\'', '"']) {
            Step::Field(self.quoted()?)
        } else {
            self.index()?
        };
        if self.take("]") { Ok(step) } else { Err("a `]` is missing") }
    }

    fn index(&mut self) -> Result<Step, &'static str> {
        let start = self.integer()?;
        if !self.take(":") {
            return start.map(Step::Index).ok_or("an index, `*`, a quoted name or `?(` stands after `[`");
        }
        let end = self.integer()?;
        let step = if self.take(":") { self.integer()?.unwrap_or(1) } else { 1 };
        if step < 1 { Err("a slice's step is at least 1") } else { Ok(Step::Slice { start, end, step }) }
    }

    fn integer(&mut self) -> Result<Option<i64>, &'static str> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        if length == 0 {
            return Ok(None);
        }
        let number = rest[..length].parse().map_err(|_| "a number is wrong")?;
        self.position += length;
        Ok(Some(number))
    }

    /// What stands after `?(`, up to and with the `)`.
    fn filter(&mut self) -> Result<Filter, &'static str> {
        let left = self.operand()?;
        let operators = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        self.skip_spaces();
        let operator = operators.into_iter().find(|(text, _)| self.take(text)).map(|(_, comparison)| comparison);
        let comparison = match operator {
            Some(operator) => Some((operator, self.operand()?)),
            None => None,
        };
        self.skip_spaces();
        if self.take(")") { Ok(Filter { left, comparison }) } else { Err("a filter is `?(@.field==\"value\")`") }
    }

    fn operand(&mut self) -> Result<Operand, &'static str> {
        self.skip_spaces();
        if self.take("@") {
            return Ok(Operand::Path(JsonPath { steps: self.steps()? }));
        }
        if self.rest().starts_with(['\'', '"']) {
            return Ok(Operand::Literal(self.quoted()?.into()));
        }
        let rest = self.rest();
        let length =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '+' | '.')).unwrap_or(rest.len());
        let literal =
            serde_json::from_str(&rest[..length]).map_err(|_| "a value is a quoted text, a number, true or false")?;
        self.position += length;
        Ok(Operand::Literal(literal))
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut characters = self.rest().chars();
        let quote = characters.next().ok_or("a quote is missing")?;
        let mut text = String::new();
        let mut length = quote.len_utf8();
        while let Some(c) = characters.next() {
            length += c.len_utf8();
            match c {
                c if c == quote => {
                    self.position += length;
                    return Ok(text);
                }
                '\\' => {
                    let escaped = characters.next().ok_or("a quote is not closed")?;
                    length += escaped.len_utf8();
                    text.push(escaped);
                }
                c => text.push(c),
            }
        }
        Err("a quote is not closed")
    }

    fn skip_spaces(&mut self) {
        while self.take(" ") {}
    }

    fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.position += prefix.len();
        }
        found
    }

    fn rest(&self) -> &str {
        self.text.get(self.position..).unwrap_or_default()
    }
}

fn is_field_character(c: char) -> bool {
    !matches!(
        c,
        '.' | '[' | ']' | '(' | ')' | '=' | '!' | '<' | '>' | '*' | '@' | '?' | ' ' | '{' | '}' | '$' | '\'' | '"'
    )
}
