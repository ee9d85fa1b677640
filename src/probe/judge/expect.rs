//! What a check expects beside its format: body text, JSON comparisons; and the values picked for the rules. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{Judgement, Reply};
use crate::model::target::{Check, JsonExpect, JsonOp};

/// Most bytes of a target's picked values, names included.
const MAX_PROPERTIES: usize = 4 * 1024;

/// Applies the check's expectations to a judgement made by its format.
pub fn apply(check: &Check, reply: &Reply<'_>, judgement: &mut Judgement) {
    if let Some(text) = &check.expect_body
        && !contains(reply.body, text.as_bytes())
    {
        judgement.fail("the body lacks the expected text");
    }
    if check.expect_json.is_empty() && check.properties.is_empty() {
        return;
    }
    let document: Option<Value> = serde_json::from_slice(reply.body).ok();
    for expect in &check.expect_json {
        let found = document.as_ref().and_then(|d| d.pointer(&expect.pointer));
        if document.is_none() {
            judgement.fail("the body is no valid JSON");
            break;
        }
        if !holds(expect, found) {
            let seen = found.map_or_else(|| "nothing".to_owned(), short);
            let value = match expect.op {
                JsonOp::Exists | JsonOp::Absent => String::new(),
                _ => format!(" {}", short(&expect.value)),
            };
            let reason = format!("{} is {seen}, expected {}{value}", expect.pointer, sign(expect.op));
            judgement.fail(&reason);
        }
    }
    judgement.properties = document.as_ref().and_then(|d| pick(check, d));
}

fn pick(check: &Check, document: &Value) -> Option<Arc<BTreeMap<String, Value>>> {
    let (mut picked, mut size) = (BTreeMap::new(), 0);
    for (name, pointer) in &check.properties {
        let Some(value) = document.pointer(pointer) else { continue };
        let cost = name.len() + value.to_string().len();
        if size + cost <= MAX_PROPERTIES {
            size += cost;
            picked.insert(name.clone(), value.clone());
        }
    }
    if picked.is_empty() { None } else { Some(Arc::new(picked)) }
}

fn holds(expect: &JsonExpect, found: Option<&Value>) -> bool {
    let ordered = |test: fn(f64, f64) -> bool| match (found.and_then(Value::as_f64), expect.value.as_f64()) {
        (Some(a), Some(b)) => test(a, b),
        _ => false,
    };
    match expect.op {
        JsonOp::Eq => found.is_some_and(|v| equal(v, &expect.value)),
        JsonOp::Ne => found.is_some_and(|v| !equal(v, &expect.value)),
        JsonOp::Lt => ordered(|a, b| a < b),
        JsonOp::Le => ordered(|a, b| a <= b),
        JsonOp::Gt => ordered(|a, b| a > b),
        JsonOp::Ge => ordered(|a, b| a >= b),
        JsonOp::Exists => found.is_some(),
        JsonOp::Absent => found.is_none(),
    }
}

/// Equal as JSON; numbers by value, so that 1 and 1.0 are the same.
#[allow(clippy::float_cmp)]
fn equal(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(x), Some(y)) if x == y && !(a.is_u64() && b.is_u64()))
}

const fn sign(op: JsonOp) -> &'static str {
    match op {
        JsonOp::Eq => "==",
        JsonOp::Ne => "!=",
        JsonOp::Lt => "<",
        JsonOp::Le => "<=",
        JsonOp::Gt => ">",
        JsonOp::Ge => ">=",
        JsonOp::Exists => "to exist",
        JsonOp::Absent => "to be absent",
    }
}

fn short(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => super::text::clean(&other.to_string(), 80),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|b| b == first) {
        rest = rest.get(at..).unwrap_or_default();
        if rest.starts_with(needle) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}
