//! How the API server is found, and with which credentials.
//!
//! In a pod it is the service account's token and `KUBERNETES_SERVICE_HOST`: an address, so that no DNS is needed to come up.
//! Outside it is a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;

/// The longest time that a connection takes to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a server which accepted a request may say nothing. Beyond the longest watch, which may be silent
/// for all of its life.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(360);

/// Where to read the address of the API server and our credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// From the service account that Kubernetes mounts into a pod.
    InCluster,
    /// From a kubeconfig; its current context.
    Kubeconfig(PathBuf),
}

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Not in a pod, or in one without a service account.
    #[error(
        "no service account of Kubernetes is here: {0}; run it in a pod whose automountServiceAccountToken is not false, or \
         give --kubeconfig FILE"
    )]
    InCluster(#[source] InClusterError),
    /// The kubeconfig can't be used.
    #[error("kubeconfig {path}: {source}; `kubectl --kubeconfig {path} get nodes` must work with it")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// It wants a proxy between us and the API server.
    #[error("kubeconfig {0}: proxy-url is not supported; give the API server's own address")]
    Proxy(PathBuf),
    /// Credentials or certificates can't be used.
    #[error("the credentials for the API server at {server} can't be used: {source}; renew them")]
    Credentials {
        /// Its address.
        server: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// A client for the API server. Connects to nothing yet: the API server may be away.
///
/// # Errors
///
/// If there are no credentials, or they can't be read.
pub async fn connect(source: &Source) -> Result<Client, ClientError> {
    let mut config = match source {
        Source::InCluster => Config::incluster_env().map_err(ClientError::InCluster)?,
        Source::Kubeconfig(path) => from_file(path).await?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(SILENCE_TIMEOUT);
    config.reset_reader_on_write = true;
    // Whoever asks retries, and says meanwhile what is wrong; a client that retries by itself is only silent.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ClientError::Credentials { server, source: Box::new(source) })
}

async fn from_file(path: &Path) -> Result<Config, ClientError> {
    let wrong = |source| ClientError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    let mut clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    if clusters.any(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty())) {
        return Err(ClientError::Proxy(path.to_owned()));
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrong)?;
    // One that the environment names is for the internet.
    config.proxy_url = None;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn error_of(name: &str, text: Option<&str>) -> String {
        let directory = std::env::temp_dir().join(format!("megalos-kubeconfig-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("config");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = connect(&Source::Kubeconfig(path)).await.err().map(|error| error.to_string());
        std::fs::remove_dir_all(&directory).unwrap();
        error.unwrap_or_default()
    }

    fn kubeconfig(cluster: &str) -> String {
        format!(
            "{{clusters: [{{name: a, cluster: {{{cluster}}}}}], users: [], current-context: a, \
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]}}"
        )
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_kubeconfig_is_said_with_its_path() {
        let proxy = kubeconfig("server: 'https://192.0.2.1:6443', proxy-url: 'http://192.0.2.2'");
        let authority = kubeconfig("server: 'https://192.0.2.1:6443', certificate-authority-data: '%'");
        for (name, text, part) in [
            ("absent", None, "failed to read kubeconfig"),
            ("garbage", Some("{"), "failed to parse kubeconfig"),
            ("empty", Some("{}"), "current context"),
            ("server", Some(kubeconfig("").as_str()), "cluster url is missing"),
            ("proxy", Some(proxy.as_str()), "proxy-url"),
            ("authority", Some(authority.as_str()), "certificate authority"),
        ] {
            let error = error_of(name, text).await;
            assert!(error.contains(part) && error.contains(name), "{name}: {error}");
        }
        let right = kubeconfig("server: 'https://192.0.2.1:6443'");
        assert_eq!(error_of("right", Some(&right)).await, "");
    }

    #[tokio::test]
    async fn outside_of_a_pod_the_error_says_what_to_give() {
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            let error = connect(&Source::InCluster).await.err().unwrap().to_string();
            assert!(error.contains("--kubeconfig"), "{error}");
        }
    }
}
