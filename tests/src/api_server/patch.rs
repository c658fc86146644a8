//! Merging a patch into an object: RFC 7396, and lists of objects that have a `type`, which Kubernetes merges by it.

use serde_json::{Map, Value};

/// Applies `patch` to `target`.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Some(object) = target.as_object_mut() else { return };
            for (key, value) in fields {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        Value::Array(items) if target.is_array() && items.iter().all(|item| item["type"].is_string()) => {
            let Some(list) = target.as_array_mut() else { return };
            for item in items {
                match list.iter_mut().find(|old| old["type"] == item["type"]) {
                    Some(old) => merge(old, item),
                    None => list.push(item.clone()),
                }
            }
        }
        other => *target = other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_merged_by_their_type_and_null_removes() {
        let mut object = json!({"a": 1, "b": {"c": 2}, "conditions": [{"type": "Ready", "status": "True"}]});
        merge(
            &mut object,
            &json!({"a": null, "b": {"d": 3}, "conditions": [{"type": "MegalosReady", "status": "False"}]}),
        );
        assert_eq!(
            object,
            json!({
                "b": {"c": 2, "d": 3},
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "MegalosReady", "status": "False"}],
            })
        );
    }
}
