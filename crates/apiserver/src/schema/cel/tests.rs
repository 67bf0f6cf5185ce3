#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn check(rule: &str, value: &Value) -> Option<String> {
    Rule::compile(&json!({"rule": rule, "message": "no"})).unwrap().check(value, None)
}

#[test]
fn rules_that_hold() {
    let peer = json!({
        "allowedIPs": ["10.0.0.0/8", "fd00::/64"],
        "publicKey": "GY5aT1N9dTR/nJnT1N2f4ClZWVj0jOAld0r8ysWLyjg=",
        "endpoint": {"port": 51820, "dns": "a.example"},
        "labels": {"a": "b"},
        "a-b": 1,
        "namespace": "x",
        "ratio": 0.5,
    });
    for rule in [
        "self.allowedIPs.all(c, isCIDR(c))",
        "self.allowedIPs.exists(c, cidr(c).ip().family() == 6)",
        "self.allowedIPs.exists_one(c, cidr(c).containsIP('10.1.2.3'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsCIDR('11.0.0.0/8')",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('::/0').prefixLength() == 0",
        "self.publicKey.matches('^[A-Za-z0-9+/]{43}=$') && size(self.publicKey) == 44",
        "has(self.endpoint) && !has(self.endpoint.ip)",
        "self.endpoint.port > 0 && self.endpoint.port <= 65535",
        "has(self.endpoint.dns) != has(self.endpoint.ip)",
        "self.endpoint.dns.startsWith('a.') || self.missing == 1",
        "self.missing == 1 || true",
        "!(self.missing == 1 && false)",
        "'a' in self.labels && self.labels['a'] == 'b' && self.labels.all(k, k != 'c')",
        "self.a__dash__b == 1 && self.__namespace__ == 'x'",
        "self.allowedIPs.map(c, c.split('/')[1]).filter(n, int(n) > 32) == ['64']",
        "self.?missing.orValue(7) == 7 && self.?endpoint.port.hasValue()",
        "1 + 2 * 3 == 7 && 7 / 2 == 3 && -7 % 4 == -3 && 1.5 + 0.5 == 2.0 && 2u * 3u == 6u",
        "self.ratio < 1 && 1 == 1.0",
        "[1, 2, 3].sum() == 6 && [1, 2].isSorted() && [3, 1].min() == 1 && {'a': 1}['a'] == 1",
        "'héllo'.substring(1, 3) == 'él' && 'abc'.indexOf('c') == 2 && 'a,b'.split(',').join('-') == 'a-b'",
        "url('https://example.com:80/p?q=1').getPort() == '80' && isURL('/x') && !isURL('x')",
        "isIP('::1') && ip('127.0.0.1').isLoopback() && !isIP('::ffff:1.2.3.4') && string(ip('1.2.3.4')) == '1.2.3.4'",
        "size(self.allowedIPs) == 2 ? true : false",
        "r'\\d' == '\\\\d' && 'a' + \"b\" == 'ab' && '''x''' == 'x'",
    ] {
        assert_eq!(check(rule, &peer), None, "{rule}");
    }
}

#[test]
fn rules_that_do_not_hold() {
    let value = json!({"x": "10.0.0.0/33"});
    assert_eq!(check("isCIDR(self.x)", &value).unwrap(), "no");
    assert_eq!(check("self.y == 1", &value).unwrap(), "no such key: y evaluating rule: no");
    assert_eq!(check("1 / 0 == 1", &value).unwrap(), "division by zero evaluating rule: no");
    let rule = Rule::compile(&json!({"rule": "self == 1"})).unwrap();
    assert_eq!(rule.check(&json!(2), None).unwrap(), "failed rule: self == 1");
    let rule = Rule::compile(&json!({"rule": "false", "messageExpression": "'got ' + string(self)"})).unwrap();
    assert_eq!(rule.check(&json!(2), None).unwrap(), "got 2");
}

#[test]
fn rules_on_changes_need_a_change() {
    let rule = Rule::compile(&json!({"rule": "self == oldSelf", "message": "immutable"})).unwrap();
    assert_eq!(rule.check(&json!(1), None), None);
    assert_eq!(rule.check(&json!(1), Some(&json!(1))), None);
    assert_eq!(rule.check(&json!(2), Some(&json!(1))).unwrap(), "immutable");
    let rule = Rule::compile(&json!({"rule": "!oldSelf.hasValue()", "optionalOldSelf": true})).unwrap();
    assert_eq!(rule.check(&json!(1), None), None);
}

#[test]
fn what_does_not_compile() {
    for (rule, error) in [
        ("self.", "1:6: Syntax error: a name is missing"),
        ("other == 1", "undeclared reference to 'other'"),
        ("duration('1s') == self", "undeclared reference to 'duration'"),
        ("self.matches('(')", "invalid matches argument"),
        ("self == 'x", "a text does not end"),
        ("self == 1 )", "extraneous input"),
        ("#", "token recognition error"),
    ] {
        let failure = Rule::compile(&json!({"rule": rule})).unwrap_err();
        assert!(failure.contains(error), "{rule}: {failure}");
    }
}

#[test]
fn a_rule_cannot_run_away() {
    let list: Vec<u32> = (0..100).collect();
    let rule = "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d >= 0))))";
    assert!(check(rule, &json!(list)).unwrap().contains("cost limit"));
    let deep = format!("{}1{} == 1", "(".repeat(5000), ")".repeat(5000));
    assert!(Rule::compile(&json!({"rule": deep})).is_err());
}

proptest! {
    #[test]
    fn no_rule_makes_the_server_panic(rule in "[a-z0-9 .()\\[\\]{}'\"\\\\&|!<>=+*/%?:,_-]{0,40}|(self|oldSelf|\\.|x|\\(|\\)|all|has|,|==|&&|1|'a'|size|\\[|\\]|\\?|:){0,20}") {
        if let Ok(rule) = Rule::compile(&json!({"rule": rule})) {
            let _ = rule.check(&json!({"x": ["a", 1, null, {"y": 1.5}]}), Some(&json!({"x": []})));
        }
    }
}
