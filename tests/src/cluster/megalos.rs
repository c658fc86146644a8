//! Megalos in a cluster, as its users install it: `kubectl apply -k deploy`.

use std::path::PathBuf;

use super::{Cluster, Result, TIMEOUT, image};

/// The namespace of what is installed.
pub const NAMESPACE: &str = "megalos-system";

impl Cluster {
    /// Gives every node the image under the name that the manifests have: what a registry does elsewhere.
    ///
    /// # Errors
    ///
    /// If the image cannot be made or taken.
    pub fn give_megalos(&mut self) -> Result<()> {
        let tar = image::archive(image::NAME).map_err(|error| format!("no image: {error}"))?;
        self.try_import_image(&tar)
    }

    /// Applies `deploy`; does not wait for anything.
    ///
    /// # Errors
    ///
    /// If the API refuses a part of it.
    pub fn apply_megalos(&self) -> Result<()> {
        self.try_kubectl(&["apply", "-k", &deploy("").display().to_string()]).map(drop)
    }

    /// Waits until all reflectors and workers are ready.
    ///
    /// # Errors
    ///
    /// If they are not in three minutes, with what they log.
    pub fn wait_megalos(&self) -> Result<()> {
        for object in ["deployment/megalos-reflector", "daemonset/megalos-worker"] {
            let waited = self.try_kubectl(&["-n", NAMESPACE, "rollout", "status", object, TIMEOUT]);
            waited.map_err(|error| format!("{error}\n{}", self.megalos_logs()))?;
        }
        Ok(())
    }

    /// Images, manifests and waiting: what most tests begin with.
    ///
    /// # Errors
    ///
    /// If it does not become ready.
    pub fn install_megalos(&mut self) -> Result<()> {
        self.give_megalos()?;
        self.apply_megalos()?;
        self.wait_megalos()
    }

    /// Whether it was installed, however it is now.
    pub fn has_megalos(&self) -> bool {
        self.try_kubectl(&["get", "namespace", NAMESPACE]).is_ok()
    }

    /// The last lines of all reflectors and workers, for a failed test.
    pub fn megalos_logs(&self) -> String {
        let selector = "app.kubernetes.io/name=megalos";
        let logs = ["-n", NAMESPACE, "logs", "--prefix", "--all-containers", "--tail=25", "-l", selector];
        self.try_kubectl(&logs).unwrap_or_else(|error| error)
    }
}

/// A path in `deploy`.
pub fn deploy(path: &str) -> PathBuf {
    image::repository().join("deploy").join(path)
}
