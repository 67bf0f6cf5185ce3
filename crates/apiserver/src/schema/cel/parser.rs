//! From words to a tree.

use regex::Regex;

use super::functions;
use super::lexer::{Kind, Token, lex};
use super::value::Val;

/// The deepest that parentheses, and the longest that rows of operators and fields may be.
const MAX_DEPTH: usize = 40;
/// The deepest that a whole expression may be.
const MAX_TREE_DEPTH: usize = 100;
/// The longest rule, in words.
const MAX_TOKENS: usize = 4000;

/// An expression.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    Literal(Val<'static>),
    Name(String),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// A field; `true` where it may be missing (`.?`).
    Select(Box<Expr>, String, bool),
    Index(Box<Expr>, Box<Expr>, bool),
    /// `has(x.y)`.
    Has(Box<Expr>, String),
    Call(String, Option<Box<Expr>>, Vec<Expr>),
    /// `x.matches(pattern)` with a pattern that is known.
    Matches(Box<Expr>, Regex),
    Each(Each, Box<Expr>, String, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A macro over the items of a list or the keys of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Each {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Expr {
    /// Whether a name occurs in it.
    pub(super) fn mentions(&self, name: &str) -> bool {
        matches!(self, Expr::Name(other) if other == name) || self.parts().into_iter().any(|part| part.mentions(name))
    }

    fn depth(&self) -> usize {
        1 + self.parts().into_iter().map(Expr::depth).max().unwrap_or(0)
    }

    fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Literal(_) | Expr::Name(_) => Vec::new(),
            Expr::List(items) => items.iter().collect(),
            Expr::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
            Expr::Not(e) | Expr::Negate(e) | Expr::Select(e, ..) | Expr::Has(e, _) | Expr::Matches(e, _) => vec![e],
            Expr::And(a, b) | Expr::Or(a, b) | Expr::Binary(_, a, b) | Expr::Index(a, b, _) => vec![a, b],
            Expr::If(a, b, c) => vec![a, b, c],
            Expr::Call(_, target, args) => target.as_deref().into_iter().chain(args).collect(),
            Expr::Each(_, over, _, bodies) => std::iter::once(&**over).chain(bodies).collect(),
        }
    }
}

/// Parses a rule. Errors begin with line and column, as cel-go's do.
pub(super) fn parse(text: &str) -> Result<Expr, String> {
    let tokens = lex(text)?;
    if tokens.len() > MAX_TOKENS {
        return Err(format!("1:1: the rule is longer than {MAX_TOKENS} words"));
    }
    let names = vec!["self".to_owned(), "oldSelf".to_owned()];
    let mut parser = Parser { tokens, next: 0, depth: 0, names };
    let expr = parser.expr()?;
    match parser.peek() {
        Kind::End if expr.depth() > MAX_TREE_DEPTH => Err(parser.error("the rule nests too deep")),
        Kind::End => Ok(expr),
        _ => Err(parser.error("Syntax error: extraneous input")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    /// The variables that are there at this place.
    names: Vec<String>,
}

type Parsed = Result<Expr, String>;

impl Parser {
    fn expr(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("the rule nests too deep"));
        }
        let condition = self.or()?;
        let expr = if self.take("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expr()?;
            Expr::If(Box::new(condition), Box::new(yes), Box::new(no))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn or(&mut self) -> Parsed {
        let mut parts = vec![self.and()?];
        while self.take("||") {
            parts.push(self.and()?);
        }
        Ok(balanced(parts, Expr::Or))
    }

    fn and(&mut self) -> Parsed {
        let mut parts = vec![self.relation()?];
        while self.take("&&") {
            parts.push(self.relation()?);
        }
        Ok(balanced(parts, Expr::And))
    }

    fn relation(&mut self) -> Parsed {
        let left = self.sum()?;
        let operator = match self.peek() {
            Kind::Symbol("==") => Binary::Equal,
            Kind::Symbol("!=") => Binary::NotEqual,
            Kind::Symbol("<=") => Binary::LessOrEqual,
            Kind::Symbol(">=") => Binary::GreaterOrEqual,
            Kind::Symbol("<") => Binary::Less,
            Kind::Symbol(">") => Binary::Greater,
            Kind::Name(name) if name == "in" => Binary::In,
            _ => return Ok(left),
        };
        self.next += 1;
        let right = self.sum()?;
        Ok(Expr::Binary(operator, Box::new(left), Box::new(right)))
    }

    fn sum(&mut self) -> Parsed {
        let operators = [("+", Binary::Add), ("-", Binary::Subtract)];
        self.chain(&operators, Self::product)
    }

    fn product(&mut self) -> Parsed {
        let operators = [("*", Binary::Multiply), ("/", Binary::Divide), ("%", Binary::Remainder)];
        self.chain(&operators, Self::unary)
    }

    fn chain(&mut self, operators: &[(&str, Binary)], operand: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = operand(self)?;
        let mut length = 0;
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.take(symbol)) {
            length += 1;
            if length > MAX_DEPTH {
                return Err(self.error("the rule nests too deep"));
            }
            let right = operand(self)?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let (mut nots, mut minuses) = (0, 0);
        while self.take("!") {
            nots += 1;
        }
        while nots == 0 && self.take("-") {
            minuses += 1;
        }
        let mut expr = self.member()?;
        if nots % 2 == 1 {
            expr = Expr::Not(Box::new(expr));
        } else if nots > 0 {
            expr = Expr::Not(Box::new(Expr::Not(Box::new(expr))));
        }
        if minuses % 2 == 1 {
            expr = Expr::Negate(Box::new(expr));
        }
        Ok(expr)
    }

    fn member(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        let mut length = 0;
        loop {
            length += 1;
            if length > MAX_DEPTH {
                return Err(self.error("the rule nests too deep"));
            }
            if self.take(".?") {
                let name = self.name()?;
                expr = Expr::Select(Box::new(expr), name, true);
            } else if self.take(".") {
                let name = self.name()?;
                expr =
                    if self.take("(") { self.method(expr, name)? } else { Expr::Select(Box::new(expr), name, false) };
            } else if self.take("[?") {
                let index = self.expr()?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(index), true);
            } else if self.take("[") {
                let index = self.expr()?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(index), false);
            } else {
                return Ok(expr);
            }
        }
    }

    fn method(&mut self, target: Expr, name: String) -> Parsed {
        let each = match name.as_str() {
            "all" => Some(Each::All),
            "exists" => Some(Each::Exists),
            "exists_one" | "existsOne" => Some(Each::ExistsOne),
            "filter" => Some(Each::Filter),
            "map" => Some(Each::Map),
            _ => None,
        };
        if let Some(each) = each {
            return self.each(each, target);
        }
        let args = self.args(")")?;
        if name == "matches"
            && let [Expr::Literal(Val::Str(pattern))] = args.as_slice()
        {
            let regex =
                Regex::new(pattern).map_err(|error| self.error(&format!("invalid matches argument: {error}")))?;
            return Ok(Expr::Matches(Box::new(target), regex));
        }
        if !functions::has_method(&name, args.len()) {
            return Err(self.undeclared(&name));
        }
        Ok(Expr::Call(name, Some(Box::new(target)), args))
    }

    fn each(&mut self, each: Each, over: Expr) -> Parsed {
        let variable = self.name()?;
        self.names.push(variable.clone());
        let mut bodies = Vec::new();
        while self.take(",") {
            bodies.push(self.expr()?);
        }
        self.names.pop();
        self.expect(")")?;
        let most = if each == Each::Map { 2 } else { 1 };
        if bodies.is_empty() || bodies.len() > most {
            return Err(self.error("a macro takes a variable and an expression"));
        }
        Ok(Expr::Each(each, Box::new(over), variable, bodies))
    }

    fn primary(&mut self) -> Parsed {
        let at = self.next;
        self.next += 1;
        match self.tokens[at.min(self.tokens.len() - 1)].kind.clone() {
            Kind::Int(number) => Ok(Expr::Literal(Val::Int(number))),
            Kind::Uint(number) => Ok(Expr::Literal(Val::Uint(number))),
            Kind::Double(number) => Ok(Expr::Literal(Val::Double(number))),
            Kind::Text(text) => Ok(Expr::Literal(Val::Str(text.into()))),
            Kind::Bytes(bytes) => Ok(Expr::Literal(Val::Bytes(bytes))),
            Kind::Symbol("(") => {
                let expr = self.expr()?;
                self.expect(")")?;
                Ok(expr)
            }
            Kind::Symbol("[") => Ok(Expr::List(self.args("]")?)),
            Kind::Symbol("{") => self.map(),
            Kind::Name(name) => self.named(name),
            _ => {
                self.next = at;
                Err(self.error("Syntax error: mismatched input"))
            }
        }
    }

    fn named(&mut self, name: String) -> Parsed {
        match name.as_str() {
            "true" => return Ok(Expr::Literal(Val::Bool(true))),
            "false" => return Ok(Expr::Literal(Val::Bool(false))),
            "null" => return Ok(Expr::Literal(Val::Null)),
            _ => {}
        }
        if self.take("(") {
            let mut args = self.args(")")?;
            if name == "has" {
                return match args.pop() {
                    Some(Expr::Select(target, field, false)) if args.is_empty() => Ok(Expr::Has(target, field)),
                    _ => Err(self.error("invalid argument to has() macro")),
                };
            }
            if !functions::has_function(&name, args.len()) {
                return Err(self.undeclared(&name));
            }
            return Ok(Expr::Call(name, None, args));
        }
        if !self.names.contains(&name) {
            return Err(self.undeclared(&name));
        }
        Ok(Expr::Name(name))
    }

    fn map(&mut self) -> Parsed {
        let mut entries = Vec::new();
        while !self.take("}") {
            let key = self.expr()?;
            self.expect(":")?;
            entries.push((key, self.expr()?));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::Map(entries))
    }

    fn args(&mut self, end: &'static str) -> Result<Vec<Expr>, String> {
        let mut args = Vec::new();
        while !self.take(end) {
            args.push(self.expr()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(args)
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek().clone() {
            Kind::Name(name) => {
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.error("Syntax error: a name is missing")),
        }
    }

    fn peek(&self) -> &Kind {
        &self.tokens[self.next.min(self.tokens.len() - 1)].kind
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(other) if *other == symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), String> {
        if self.take(symbol) { Ok(()) } else { Err(self.error(&format!("Syntax error: missing '{symbol}'"))) }
    }

    fn undeclared(&self, name: &str) -> String {
        self.error(&format!("undeclared reference to '{name}' (in container '')"))
    }

    fn error(&self, what: &str) -> String {
        format!("1:{}: {what}", self.tokens[self.next.min(self.tokens.len() - 1)].at)
    }
}

/// One tree of many operands, as flat as can be.
fn balanced(mut parts: Vec<Expr>, join: fn(Box<Expr>, Box<Expr>) -> Expr) -> Expr {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let right = parts.split_off(parts.len() / 2);
    join(Box::new(balanced(parts, join)), Box::new(balanced(right, join)))
}
