//! Metrics of watches: whether the API server is there, and how old what we know may be.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntGaugeVec, Opts, Registry};

use crate::watch::{Health, Origin};

/// Gauges with one row per watched resource.
#[derive(Debug)]
pub struct WatchMetrics {
    up: IntGaugeVec,
    away_since: IntGaugeVec,
    heard: IntGaugeVec,
    synchronised: IntGaugeVec,
    doubted: IntGaugeVec,
}

impl WatchMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// If a name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let vector = |name: &str, help: &str| {
            let vector = IntGaugeVec::new(Opts::new(name, help), &["resource"])?;
            registry.register(Box::new(vector.clone()))?;
            Ok::<_, prometheus::Error>(vector)
        };
        Ok(Self {
            up: vector("megalos_cluster_api_up", "1 while the API server answers as it should")?,
            away_since: vector(
                "megalos_cluster_api_away_since_timestamp_seconds",
                "Since when it does not, in Unix time; 0 while it does",
            )?,
            heard: vector(
                "megalos_cluster_last_heard_timestamp_seconds",
                "When it was last heard, in Unix time; 0 if never in this life",
            )?,
            synchronised: vector(
                "megalos_cluster_synchronised",
                "1 once a complete list came in this life; before, what an earlier life knew is in use",
            )?,
            doubted: vector("megalos_cluster_empty_list", "1 if the last complete list was empty and is not believed")?,
        })
    }

    /// Brings the rows of a resource up to date.
    pub fn sample(&self, resource: &str, health: &Health) {
        let set = |vector: &IntGaugeVec, value| vector.with_label_values(&[resource]).set(value);
        set(&self.up, i64::from(health.away.is_none() && health.heard.is_some()));
        set(&self.away_since, health.away.as_ref().map_or(0, |away| unix_secs(away.since)));
        set(&self.heard, health.heard.map_or(0, unix_secs));
        set(&self.synchronised, i64::from(health.origin == Origin::Api));
        set(&self.doubted, i64::from(health.doubted));
    }
}

fn unix_secs(time: SystemTime) -> i64 {
    let secs = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(secs).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{Encoder, TextEncoder};

    use super::*;
    use crate::watch::Away;

    #[test]
    fn it_can_be_seen_since_when_the_api_server_is_away() {
        let registry = Registry::new();
        let metrics = WatchMetrics::new(&registry).unwrap();
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let there = Health { origin: Origin::Api, heard: Some(at(50)), ..Health::default() };
        let away = Health { away: Some(Away { since: at(60), error: "gone".into() }), ..there.clone() };
        for (health, up, since) in [(Health::default(), 0, 0), (there, 1, 0), (away, 0, 60)] {
            metrics.sample("nodes", &health);
            let mut text = Vec::new();
            TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            for line in [
                format!("megalos_cluster_api_up{{resource=\"nodes\"}} {up}\n"),
                format!("megalos_cluster_api_away_since_timestamp_seconds{{resource=\"nodes\"}} {since}\n"),
            ] {
                assert!(text.contains(&line), "{line} is missing in {text}");
            }
        }
    }
}
