//! `kathara.conf`: settings of one lab, in JSON.
//!
//! In: the file's bytes. Out: the two settings that change how devices run; the rest concerns another
//! program and is passed over.

use serde_json::Value;

use super::error::{ErrorCode, Location, Report, quote};
use super::model::Settings;

/// The file's name.
pub(super) const FILE: &str = "kathara.conf";

/// Reads `kathara.conf`.
pub(super) fn parse(bytes: &[u8], report: &mut Report) -> Settings {
    let body = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let values = match serde_json::from_slice(body) {
        Ok(Value::Object(values)) => values,
        Ok(other) => {
            let location = Location::file(FILE);
            report.error(location, ErrorCode::BadSetting, kind(&other), "a JSON object");
            return Settings::default();
        }
        Err(error) => {
            let location = Location::line(FILE, error.line()).at(error.column());
            let text = error.to_string();
            // The position is told apart.
            let found = text.split(" at line ").next().unwrap_or(&text);
            report.error(location, ErrorCode::Syntax, found, "a JSON object");
            return Settings::default();
        }
    };
    let mut bad = |key: &str, value: &Value, expected: &str| {
        let found = format!("{} for {}", kind(value), quote(key));
        report.error(Location::file(FILE), ErrorCode::BadSetting, found, expected);
    };
    let mut settings = Settings::default();
    match values.get("device_shell") {
        None | Some(Value::Null) => {}
        Some(Value::String(shell)) if !shell.trim().is_empty() && !shell.contains('\0') => {
            settings.device_shell = Some(shell.trim().to_owned());
        }
        Some(other) => bad("device_shell", other, "the path of a shell"),
    }
    match values.get("enable_ipv6") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(on)) => settings.enable_ipv6 = Some(*on),
        Some(other) => bad("enable_ipv6", other, "true or false"),
    }
    settings
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quote(text),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
