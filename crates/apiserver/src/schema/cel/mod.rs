//! `x-kubernetes-validations`: rules in the Common Expression Language (<https://github.com/google/cel-spec>), with the
//! functions that Kubernetes adds (<https://kubernetes.io/docs/reference/using-api/cel/>).
//!
//! The language is here as far as rules on resources need it: all operators, the macros, strings, lists, regular
//! expressions, URLs, IP addresses and CIDRs. Times, quantities and the `format` library are not; a rule that uses them
//! is refused with its CustomResourceDefinition, so that no rule is ever skipped.

mod eval;
mod functions;
mod lexer;
mod parser;
mod strings;
mod value;

use serde_json::Value;

use eval::Scope;
use parser::Expr;
use value::Val;

/// One rule, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    source: String,
    program: Expr,
    message: Option<String>,
    message_expression: Option<Expr>,
    /// The reason that the error has.
    pub(crate) reason: &'static str,
    /// The field that the error is about, under the value that the rule is for.
    pub(crate) field_path: Option<String>,
    on_change: bool,
    optional_old: bool,
}

impl Rule {
    /// Compiles an entry of `x-kubernetes-validations`.
    pub(crate) fn compile(entry: &Value) -> Result<Self, String> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        let source = text("rule").unwrap_or_default();
        let failed = |error: String| format!("Invalid value: {source:?}: compilation failed: ERROR: <input>:{error}");
        let program = parser::parse(&source).map_err(failed)?;
        let message_expression = match text("messageExpression") {
            Some(expression) => Some(parser::parse(&expression).map_err(failed)?),
            None => None,
        };
        Ok(Rule {
            on_change: program.mentions("oldSelf"),
            program,
            message: text("message"),
            message_expression,
            reason: reason(text("reason").as_deref()),
            field_path: text("fieldPath").map(|path| path.trim_start_matches('.').to_owned()),
            optional_old: entry.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
            source,
        })
    }

    /// What is wrong with a value; none where it fits, or where the rule is about a change and there is none.
    pub(crate) fn check(&self, value: &Value, old: Option<&Value>) -> Option<String> {
        if self.on_change && old.is_none() && !self.optional_old {
            return None;
        }
        let mut scope = Scope::new();
        scope.bind("self", Val::from_json(value));
        match (old, self.optional_old) {
            (old, true) => scope.bind("oldSelf", Val::Optional(old.map(|old| Box::new(Val::from_json(old))))),
            (Some(old), false) => scope.bind("oldSelf", Val::from_json(old)),
            (None, false) => {}
        }
        match scope.eval(&self.program) {
            Ok(Val::Bool(true)) => None,
            Ok(Val::Bool(false)) => Some(self.failure(&mut scope)),
            Ok(_) => Some(format!("the rule is neither true nor false evaluating rule: {}", self.name())),
            Err(error) => Some(format!("{error} evaluating rule: {}", self.name())),
        }
    }

    fn failure(&self, scope: &mut Scope<'_>) -> String {
        if let Some(expression) = &self.message_expression
            && let Ok(Val::Str(message)) = scope.eval(expression)
            && !message.trim().is_empty()
        {
            return message.into_owned();
        }
        self.message.clone().unwrap_or_else(|| format!("failed rule: {}", self.source))
    }

    fn name(&self) -> &str {
        self.message.as_deref().unwrap_or(&self.source)
    }
}

fn reason(reason: Option<&str>) -> &'static str {
    match reason {
        Some("FieldValueForbidden") => "FieldValueForbidden",
        Some("FieldValueRequired") => "FieldValueRequired",
        Some("FieldValueDuplicate") => "FieldValueDuplicate",
        _ => "FieldValueInvalid",
    }
}

#[cfg(test)]
mod tests;
