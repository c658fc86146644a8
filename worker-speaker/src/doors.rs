//! Where people, probes and plugins ask, whatever the worker does at the time.

use daemon::http::Vitals;
use daemon::service::Service;
use prometheus::Registry;
use tokio::sync::mpsc;

use crate::cni_server::CniRequest;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// CNI requests that may wait.
const CNI_QUEUE: usize = 64;

/// See the module.
pub(crate) struct Doors {
    pub metrics: Metrics,
    pub vitals: Vitals,
    pub service: Service,
    pub cni: mpsc::Receiver<CniRequest>,
    /// Kept so that the channel stays open where no socket is served.
    pub requests: mpsc::Sender<CniRequest>,
}

impl Doors {
    /// Opens the control socket and HTTP.
    pub async fn open(settings: &Settings, registry: &Registry) -> Result<Self, String> {
        let metrics = Metrics::new(registry).map_err(|error| error.to_string())?;
        let vitals = Vitals::default();
        let service = Service::start(&settings.http, settings.control.as_deref(), registry, &vitals).await?;
        let (requests, cni) = mpsc::channel(CNI_QUEUE);
        Ok(Self { metrics, vitals, service, cni, requests })
    }
}
