//! A sign of life for `/healthz` beside the main loop's: that the dataplane's thread answers. Neither depends on anybody outside
//! of this node.

use std::time::{Duration, Instant};

use daemon::http::Health;
use dataplane::actor::Handle;

/// Who answers for the kernel.
const DATAPLANE: &str = "the dataplane's thread";
/// How long a batch may take: the kernel alone may need half a minute for an answer while thousands of devices go.
const DATAPLANE_PATIENCE: Duration = Duration::from_secs(180);
/// How often the dataplane is asked.
const INTERVAL: Duration = Duration::from_secs(5);

/// Asks the dataplane's thread now and then, until it has ended.
pub(crate) async fn watch_dataplane(handle: Handle, health: Health) {
    health.lives(DATAPLANE, Instant::now() + DATAPLANE_PATIENCE);
    while handle.ping().await.is_ok() {
        health.lives(DATAPLANE, Instant::now() + DATAPLANE_PATIENCE);
        tokio::time::sleep(INTERVAL).await;
    }
}
