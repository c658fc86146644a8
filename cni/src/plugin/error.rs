//! What the plugin prints when it fails: the error object of the specification.

use serde_json::{Value, json};

use crate::client::ClientError;
use crate::protocol::ErrorReply;
use crate::types::ErrorCode;

/// A failure: its code, one line, and the cause with its cure. The runtime shows both texts on the pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PluginError(pub ErrorReply);

impl PluginError {
    /// A failure with its cause and cure.
    pub fn new(code: ErrorCode, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self(ErrorReply::new(code, message, details))
    }

    /// A field of the network configuration that is not valid (code 7): which, its value, and what is expected.
    pub fn field(field: &str, value: &Value, expected: impl std::fmt::Display) -> Self {
        let value = excerpt(value);
        Self::new(
            ErrorCode::INVALID_NETWORK_CONFIG,
            format!("{field} {value} is not valid"),
            format!("`{field}` of the network configuration (or of what the pod's annotation asks) must be {expected}"),
        )
    }

    /// A variable of the environment that is not valid (code 4).
    pub fn variable(name: &str, value: &str, expected: impl std::fmt::Display) -> Self {
        let value = excerpt(&Value::from(value));
        Self::new(
            ErrorCode::INVALID_PARAMETERS,
            format!("{name} {value} is not valid"),
            format!("the environment variable {name} must be {expected}; the container runtime sets it"),
        )
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// As the specification prints it; `version` is what the request said. The details end with the code: runtimes and Multus
    /// show people the two texts, and drop it.
    pub fn to_json(&self, version: &str) -> Value {
        let ErrorReply { code, message, details } = &self.0;
        json!({
            "cniVersion": version,
            "code": code,
            "msg": message,
            "details": format!("{details} (CNI error {code})"),
        })
    }
}

/// How much of a value an error shows.
const EXCERPT_CHARS: usize = 80;

/// A value as text, cut where it is long.
pub(crate) fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

impl From<ClientError> for PluginError {
    fn from(error: ClientError) -> Self {
        const CURE: &str = "see whether the worker of this node runs (kubectl -n megalos-system get pods -o wide \
                            --selector app.kubernetes.io/component=worker) and what its log says";
        match error {
            ClientError::Worker(reply) => Self(reply),
            ClientError::Connect { path, source } => Self::new(
                ErrorCode::TRY_AGAIN_LATER,
                "the megalos worker of this node does not answer",
                format!("{}: {source}; {CURE}", path.display()),
            ),
            ClientError::Timeout(_) | ClientError::Closed => Self::new(
                ErrorCode::TRY_AGAIN_LATER,
                "the megalos worker of this node did not finish",
                format!("{error}; {CURE}"),
            ),
            ClientError::Send(_) | ClientError::Receive(_) => Self::new(
                ErrorCode::IO_FAILURE,
                "the megalos worker of this node cannot be asked",
                format!("{error}; {CURE}"),
            ),
            ClientError::Protocol(_) => Self::new(
                ErrorCode::INTERNAL,
                "plugin and worker do not understand one another",
                format!(
                    "{error} This plugin is {}; restart the worker, which installs its own",
                    env!("CARGO_PKG_VERSION")
                ),
            ),
        }
    }
}
