//! What Kubernetes tells a pod about itself, by the environment variables of the manifest (downward API).

use std::net::IpAddr;

/// The namespace of everything of ours, unless the pod says otherwise.
pub const NAMESPACE: &str = "megalos-system";

/// Who and where we are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// `NODE_NAME`: the Node that the pod runs on.
    pub node: Option<String>,
    /// `POD_NAME`.
    pub name: Option<String>,
    /// `POD_NAMESPACE`.
    pub namespace: String,
    /// `HOST_IP`: the Node's primary address.
    pub host_ip: Option<IpAddr>,
}

impl Default for Pod {
    fn default() -> Self {
        Self { node: None, name: None, namespace: NAMESPACE.into(), host_ip: None }
    }
}

impl Pod {
    /// Of this process.
    ///
    /// # Errors
    ///
    /// The variable that makes no sense.
    pub fn from_env() -> Result<Self, String> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Of these variables.
    ///
    /// # Errors
    ///
    /// The variable that makes no sense.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name| variable(name).filter(|text| !text.is_empty());
        let host_ip = text("HOST_IP").map(|text| {
            let wrong = |_| format!("HOST_IP is {text:?}, no IP address; the manifest takes it from status.hostIP");
            text.parse::<IpAddr>().map_err(wrong)
        });
        Ok(Self {
            node: text("NODE_NAME"),
            name: text("POD_NAME"),
            namespace: text("POD_NAMESPACE").unwrap_or_else(|| NAMESPACE.into()),
            host_ip: host_ip.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_knows_what_the_manifest_tells_it() {
        let read = |host_ip: &str| {
            Pod::read(|name| match name {
                "NODE_NAME" => Some("n1".into()),
                "HOST_IP" => Some(host_ip.into()),
                _ => None,
            })
        };
        let pod = read("192.0.2.1").unwrap();
        assert_eq!((pod.node.as_deref(), pod.namespace.as_str()), (Some("n1"), NAMESPACE));
        assert_eq!(pod.host_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(read("").unwrap().host_ip, None);
        assert!(read("eth0").unwrap_err().contains("status.hostIP"));
    }
}
