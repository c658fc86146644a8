//! What a refusal of the API server means, and what cures it.

use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use kube::core::Status;

/// The longest pause that the API server may ask for: whoever believed every figure would be silent for years.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What was tried, in the words of RBAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt<'a> {
    /// The verb: `list`, `watch`, `get`, `update`, `patch`, `create`.
    pub verb: &'a str,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Resource, and subresource after a slash.
    pub resource: &'a str,
    /// Namespace; none: the resource has none, or all of them are meant.
    pub namespace: Option<&'a str>,
}

impl Attempt<'_> {
    /// The rule that a Role or ClusterRole needs for this.
    fn rule(&self) -> String {
        let Self { verb, group, resource, namespace } = self;
        let role = match namespace {
            Some(namespace) => format!("a Role in namespace {namespace}"),
            None => "a ClusterRole".into(),
        };
        format!("{role} with the rule {{apiGroups: [{group:?}], resources: [{resource:?}], verbs: [{verb:?}]}}")
    }
}

/// The error in one line, with its cure where we know one.
pub fn explain(attempt: &Attempt<'_>, error: &kube::Error) -> String {
    let Attempt { verb, resource, .. } = attempt;
    match error {
        kube::Error::Api(status) => explain_status(attempt, status),
        kube::Error::SerdeError(error) => {
            format!("can't {verb} {resource}: the answer is no JSON of this kind ({error}); is a proxy in between?")
        }
        other => {
            let mut text = format!("can't {verb} {resource}: {other}");
            let mut cause = other.source();
            while let Some(error) = cause {
                let words = error.to_string();
                if !text.contains(&words) {
                    let _ = write!(text, ": {words}");
                }
                cause = error.source();
            }
            text
        }
    }
}

/// The same for a refusal that came as an object of the API.
pub fn explain_status(attempt: &Attempt<'_>, status: &Status) -> String {
    let Attempt { verb, resource, .. } = attempt;
    let message = shortened(&status.message);
    match status.code {
        401 => format!(
            "can't {verb} {resource}: the API server does not accept our token ({message}); was the service account deleted? \
             Restart the pod"
        ),
        403 => format!(
            "can't {verb} {resource}: not allowed ({message}); bind {} to our service account, as install.yaml does",
            attempt.rule()
        ),
        code => format!("can't {verb} {resource}: the API server says {code}: {message}"),
    }
}

/// The pause that the API server asks for, a minute at most.
pub fn asked_pause(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(PAUSE_MAX))
}

/// At most as much as fits a line of a log.
fn shortened(message: &str) -> String {
    const LENGTH: usize = 300;
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LENGTH).collect();
    if line.is_empty() { "no reason given".into() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: Attempt<'_> = Attempt { verb: "list", group: "", resource: "nodes", namespace: None };
    const SLICES: Attempt<'_> = Attempt {
        verb: "watch",
        group: "discovery.k8s.io",
        resource: "endpointslices",
        namespace: Some("megalos-system"),
    };

    #[test]
    fn a_refusal_names_the_rule_that_is_missing() {
        let refused = |attempt, code| {
            let status = Status::failure("no", "Forbidden").with_code(code);
            explain(&attempt, &kube::Error::Api(status.boxed()))
        };
        for (text, parts) in [
            (refused(NODES, 403), vec!["ClusterRole", r#"apiGroups: [""], resources: ["nodes"], verbs: ["list"]"#]),
            (
                refused(SLICES, 403),
                vec!["a Role in namespace megalos-system", r#"apiGroups: ["discovery.k8s.io"]"#, r#"verbs: ["watch"]"#],
            ),
            (refused(NODES, 401), vec!["token", "Restart"]),
            (refused(NODES, 500), vec!["500: no"]),
        ] {
            for part in parts {
                assert!(text.contains(part), "{part} is missing in {text}");
            }
        }
    }

    #[test]
    fn a_message_of_the_server_is_one_short_line() {
        let status = Status::failure(&"x\n".repeat(10_000), "").with_code(500);
        let text = explain_status(&NODES, &status);
        assert!(text.len() < 400 && !text.contains('\n'));
    }

    #[test]
    fn the_server_asks_for_a_minute_at_most() {
        let pause = |seconds: u32| {
            let details = serde_json::from_value(serde_json::json!({ "retryAfterSeconds": seconds })).unwrap();
            asked_pause(&kube::Error::Api(Status::failure("", "").with_details(details).boxed()))
        };
        assert_eq!(pause(0), None);
        assert_eq!(pause(7), Some(Duration::from_secs(7)));
        assert_eq!(pause(u32::MAX), Some(PAUSE_MAX));
    }
}
