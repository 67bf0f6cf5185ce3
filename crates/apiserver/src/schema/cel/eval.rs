//! What an expression is worth.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::functions;
use super::parser::{Binary, Each, Expr};
use super::value::Val;

/// The steps that one rule may take on one value.
const BUDGET: usize = 200_000;
/// The largest text or list that a rule may make.
const MAX_SIZE: usize = 1 << 20;

/// The variables of a rule, and what it may still spend.
pub(super) struct Scope<'a> {
    variables: Vec<(String, Val<'a>)>,
    budget: usize,
}

type Outcome<'a> = Result<Val<'a>, String>;

impl<'a> Scope<'a> {
    pub(super) fn new() -> Self {
        Scope { variables: Vec::new(), budget: BUDGET }
    }

    pub(super) fn bind(&mut self, name: &str, value: Val<'a>) {
        self.variables.push((name.to_owned(), value));
    }

    pub(super) fn eval(&mut self, expr: &Expr) -> Outcome<'a> {
        self.spend(1)?;
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Name(name) => {
                let variable = self.variables.iter().rev().find(|(other, _)| other == name);
                let value =
                    variable.map(|(_, value)| value.clone()).ok_or_else(|| format!("no such attribute(s): {name}"))?;
                self.spend(size(&value))?;
                Ok(value)
            }
            Expr::List(items) => items.iter().map(|item| self.eval(item)).collect::<Result<_, _>>().map(Val::List),
            Expr::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((self.eval(key)?, self.eval(value)?)));
                entries.collect::<Result<_, String>>().map(Val::Map)
            }
            Expr::Not(inner) => match self.eval(inner)? {
                Val::Bool(value) => Ok(Val::Bool(!value)),
                _ => Err(no_overload()),
            },
            Expr::Negate(inner) => match self.eval(inner)? {
                Val::Int(number) => number.checked_neg().map(Val::Int).ok_or_else(overflow),
                Val::Double(number) => Ok(Val::Double(-number)),
                _ => Err(no_overload()),
            },
            Expr::And(left, right) => self.logical(left, right, false),
            Expr::Or(left, right) => self.logical(left, right, true),
            Expr::If(condition, yes, no) => match self.eval(condition)? {
                Val::Bool(true) => self.eval(yes),
                Val::Bool(false) => self.eval(no),
                _ => Err(no_overload()),
            },
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                self.spend(size(&left) + size(&right))?;
                binary(*operator, left, right)
            }
            Expr::Select(target, field, optional) => {
                let target = self.eval(target)?;
                select(target, field, *optional)
            }
            Expr::Index(target, index, optional) => {
                let (target, index) = (self.eval(target)?, self.eval(index)?);
                match (at(&target, &index), optional) {
                    (Ok(value), true) => Ok(Val::Optional(Some(Box::new(value)))),
                    (Err(_), true) => Ok(Val::Optional(None)),
                    (value, false) => value,
                }
            }
            Expr::Has(target, field) => match self.eval(target)? {
                target @ (Val::Object(_) | Val::Map(_)) => Ok(Val::Bool(target.field(field).is_some())),
                Val::Optional(inner) => Ok(Val::Bool(inner.is_some_and(|inner| inner.field(field).is_some()))),
                _ => Err(no_overload()),
            },
            Expr::Matches(target, regex) => match self.eval(target)? {
                Val::Str(text) => Ok(Val::Bool(regex.is_match(&text))),
                _ => Err(no_overload()),
            },
            Expr::Call(name, target, args) => {
                let target = target.as_ref().map(|target| self.eval(target)).transpose()?;
                let args: Vec<Val<'a>> = args.iter().map(|arg| self.eval(arg)).collect::<Result<_, _>>()?;
                let cost = target.iter().chain(&args).map(size).sum();
                self.spend(cost)?;
                let value = functions::call(name, target, &args)?;
                if size(&value) > MAX_SIZE {
                    return Err("the rule makes too large a value".to_owned());
                }
                Ok(value)
            }
            Expr::Each(each, over, variable, bodies) => self.each(*each, over, variable, bodies),
        }
    }

    fn logical(&mut self, left: &Expr, right: &Expr, decisive: bool) -> Outcome<'a> {
        // An error on one side does not matter where the other decides.
        let left = self.eval(left);
        if matches!(left, Ok(Val::Bool(value)) if value == decisive) {
            return Ok(Val::Bool(decisive));
        }
        let right = self.eval(right);
        if matches!(right, Ok(Val::Bool(value)) if value == decisive) {
            return Ok(Val::Bool(decisive));
        }
        match (left?, right?) {
            (Val::Bool(_), Val::Bool(_)) => Ok(Val::Bool(!decisive)),
            _ => Err(no_overload()),
        }
    }

    fn each(&mut self, each: Each, over: &Expr, variable: &str, bodies: &[Expr]) -> Outcome<'a> {
        let over = self.eval(over)?;
        let elements = over.elements().ok_or_else(no_overload)?;
        let Some(body) = bodies.last() else { return Err(no_overload()) };
        let condition = if bodies.len() == 2 { bodies.first() } else { None };

        let mut found = 0;
        let mut error = None;
        let mut results = Vec::new();
        for element in elements {
            self.bind(variable, element.clone());
            let wanted = condition.map_or(Ok(Val::Bool(true)), |condition| self.eval(condition));
            let result = match wanted {
                Ok(Val::Bool(true)) => Some(self.eval(body)),
                Ok(Val::Bool(false)) => None,
                Ok(_) => Some(Err(no_overload())),
                Err(error) => Some(Err(error)),
            };
            self.variables.pop();
            let Some(result) = result else { continue };
            match (each, result) {
                (Each::Map, result) => results.push(result?),
                (Each::All, Ok(Val::Bool(false))) => return Ok(Val::Bool(false)),
                (Each::Exists, Ok(Val::Bool(true))) => return Ok(Val::Bool(true)),
                (Each::Filter, Ok(Val::Bool(true))) => results.push(element),
                (Each::ExistsOne, Ok(Val::Bool(true))) => found += 1,
                (_, Ok(Val::Bool(_))) => {}
                (_, Ok(_)) => error = Some(no_overload()),
                (Each::All | Each::Exists, Err(reason)) => error = Some(reason),
                (_, Err(reason)) => return Err(reason),
            }
        }
        if let Some(error) = error {
            return Err(error);
        }
        Ok(match each {
            Each::All => Val::Bool(true),
            Each::Exists => Val::Bool(false),
            Each::ExistsOne => Val::Bool(found == 1),
            Each::Filter | Each::Map => Val::List(results),
        })
    }

    fn spend(&mut self, steps: usize) -> Result<(), String> {
        self.budget = self.budget.checked_sub(steps).ok_or("operation cancelled: actual cost limit exceeded")?;
        Ok(())
    }
}

pub(super) fn no_overload() -> String {
    "no such overload".to_owned()
}

fn overflow() -> String {
    "integer overflow".to_owned()
}

/// What it costs to touch a value.
fn size(value: &Val<'_>) -> usize {
    match value {
        Val::Str(text) => text.len() / 16,
        Val::Bytes(bytes) => bytes.len() / 16,
        Val::List(items) => items.len(),
        Val::Map(entries) => entries.len(),
        _ => 0,
    }
}

fn select<'a>(target: Val<'a>, field: &str, optional: bool) -> Outcome<'a> {
    match target {
        Val::Optional(inner) => {
            let value = inner.and_then(|inner| inner.field(field));
            Ok(Val::Optional(value.map(Box::new)))
        }
        target @ (Val::Object(_) | Val::Map(_)) => match (target.field(field), optional) {
            (value, true) => Ok(Val::Optional(value.map(Box::new))),
            (Some(value), false) => Ok(value),
            (None, false) => Err(format!("no such key: {field}")),
        },
        _ => Err(no_overload()),
    }
}

fn at<'a>(target: &Val<'a>, index: &Val<'_>) -> Outcome<'a> {
    match (target, index) {
        (Val::List(items), Val::Int(index)) => {
            let item = usize::try_from(*index).ok().and_then(|index| items.get(index));
            item.cloned().ok_or_else(|| format!("index out of bounds: {index}"))
        }
        (Val::Object(_), Val::Str(key)) => target.field(key).ok_or_else(|| format!("no such key: {key}")),
        (Val::Map(entries), key) => {
            let entry = entries.iter().find(|(other, _)| other == key);
            entry.map(|(_, value)| value.clone()).ok_or_else(|| "no such key".to_owned())
        }
        _ => Err(no_overload()),
    }
}

fn binary<'a>(operator: Binary, left: Val<'a>, right: Val<'a>) -> Outcome<'a> {
    let order = |accept: fn(Ordering) -> bool| {
        left.compare(&right).map(|order| Val::Bool(accept(order))).ok_or_else(no_overload)
    };
    match operator {
        Binary::Equal => Ok(Val::Bool(left == right)),
        Binary::NotEqual => Ok(Val::Bool(left != right)),
        Binary::Less => order(Ordering::is_lt),
        Binary::LessOrEqual => order(Ordering::is_le),
        Binary::Greater => order(Ordering::is_gt),
        Binary::GreaterOrEqual => order(Ordering::is_ge),
        Binary::In => match &right {
            Val::List(items) => Ok(Val::Bool(items.contains(&left))),
            Val::Map(entries) => Ok(Val::Bool(entries.iter().any(|(key, _)| *key == left))),
            Val::Object(map) => Ok(Val::Bool(matches!(&left, Val::Str(key) if map.contains_key(key.as_ref())))),
            _ => Err(no_overload()),
        },
        Binary::Add => add(left, right),
        _ => arithmetic(operator, &left, &right),
    }
}

fn add<'a>(left: Val<'a>, right: Val<'a>) -> Outcome<'a> {
    match (left, right) {
        (Val::Str(a), Val::Str(b)) if a.len() + b.len() <= MAX_SIZE => Ok(Val::Str(Cow::Owned(format!("{a}{b}")))),
        (Val::List(mut a), Val::List(b)) if a.len() + b.len() <= MAX_SIZE => {
            a.extend(b);
            Ok(Val::List(a))
        }
        (Val::Bytes(mut a), Val::Bytes(b)) if a.len() + b.len() <= MAX_SIZE => {
            a.extend(b);
            Ok(Val::Bytes(a))
        }
        (left, right) => arithmetic(Binary::Add, &left, &right),
    }
}

fn arithmetic<'a>(operator: Binary, left: &Val<'a>, right: &Val<'a>) -> Outcome<'a> {
    let by_zero = || if operator == Binary::Divide { "division by zero" } else { "modulus by zero" }.to_owned();
    match (left, right) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0))
            if matches!(operator, Binary::Divide | Binary::Remainder) =>
        {
            Err(by_zero())
        }
        (Val::Int(a), Val::Int(b)) => match operator {
            Binary::Add => a.checked_add(*b),
            Binary::Subtract => a.checked_sub(*b),
            Binary::Multiply => a.checked_mul(*b),
            Binary::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Val::Int)
        .ok_or_else(overflow),
        (Val::Uint(a), Val::Uint(b)) => match operator {
            Binary::Add => a.checked_add(*b),
            Binary::Subtract => a.checked_sub(*b),
            Binary::Multiply => a.checked_mul(*b),
            Binary::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Val::Uint)
        .ok_or_else(overflow),
        (Val::Double(a), Val::Double(b)) => match operator {
            Binary::Add => Ok(Val::Double(a + b)),
            Binary::Subtract => Ok(Val::Double(a - b)),
            Binary::Multiply => Ok(Val::Double(a * b)),
            Binary::Divide => Ok(Val::Double(a / b)),
            _ => Err(no_overload()),
        },
        _ => Err(no_overload()),
    }
}
