//! Everything people and machines ask of a running daemon, as one stream.

use std::net::SocketAddr;
use std::path::Path;

use prometheus::Registry;
use tokio::sync::mpsc;

use crate::control::{Pending, Server};
use crate::http::{self, Sample, Vitals};
use crate::run::{Request, Signals};

const QUEUE: usize = 16;

/// What the main loop is asked.
#[derive(Debug)]
pub enum ServiceEvent {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: leave.
    Stop,
    /// A question on the control socket.
    Question(Pending),
    /// Bring the metrics up to date, then answer.
    Sample(Sample),
}

/// Signals, control socket and HTTP endpoints.
#[derive(Debug)]
pub struct Service {
    signals: Signals,
    questions: mpsc::Receiver<Pending>,
    samples: mpsc::Receiver<Sample>,
    /// Keep the channels open where nothing is served.
    _senders: (mpsc::Sender<Pending>, mpsc::Sender<Sample>),
}

impl Service {
    /// Opens what is configured and serves it in the background.
    ///
    /// # Errors
    ///
    /// The first socket that cannot be had, with the cure.
    pub async fn start(
        http: &[SocketAddr],
        control: Option<&Path>,
        registry: &Registry,
        vitals: &Vitals,
    ) -> Result<Self, String> {
        let signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
        let (ask, questions) = mpsc::channel(QUEUE);
        let (sample, samples) = mpsc::channel(QUEUE);
        let listeners = http::bind_all(http).await?;
        let server = control.map(Server::bind).transpose().map_err(|error| error.to_string())?;
        for listener in listeners {
            tokio::spawn(http::serve(listener, registry.clone(), vitals.clone(), sample.clone()));
        }
        if let Some(server) = server {
            tokio::spawn(server.serve(ask.clone()));
        }
        Ok(Self { signals, questions, samples, _senders: (ask, sample) })
    }

    /// The next request. Cancel-safe.
    pub async fn next(&mut self) -> ServiceEvent {
        tokio::select! {
            request = self.signals.next() => match request {
                Request::Reload => ServiceEvent::Reload,
                Request::Stop => ServiceEvent::Stop,
            },
            Some(pending) = self.questions.recv() => ServiceEvent::Question(pending),
            Some(done) = self.samples.recv() => ServiceEvent::Sample(done),
        }
    }
}
