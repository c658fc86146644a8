//! `/metrics` in the Prometheus text format, `/healthz` and `/readyz`.
//!
//! Health says that what must not stand still gives signs of life; readiness is a flag that the main loop sets and clears.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};

const MAX_CLIENTS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the daemon does its work in full; shared between the main loop and `/readyz`.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets or clears.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often a main loop turns at least, so that it can say that it does.
pub const TURN: Duration = Duration::from_secs(1);
/// How long a main loop may be busy with one thing.
const MAIN_LOOP_PATIENCE: Duration = Duration::from_secs(60);

/// Signs of life of what must not stand still, each for a time; shared between those and `/healthz`.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Instant>>>);

impl Health {
    /// `who` lives, and says so again before `until`.
    pub fn lives(&self, who: &'static str, until: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(who, until);
    }

    /// The main loop turns.
    pub fn turns(&self) {
        self.lives("the main loop", Instant::now() + MAIN_LOOP_PATIENCE);
    }

    /// Who should have given a sign of life before `now`, and how long ago.
    pub fn overdue(&self, now: Instant) -> Option<(&'static str, Duration)> {
        let signs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = signs.iter().filter_map(|(who, until)| Some((*who, now.checked_duration_since(*until)?)));
        late.filter(|(_, late)| !late.is_zero()).max_by_key(|(_, late)| *late)
    }
}

/// What probes are told.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// `/readyz`.
    pub ready: Readiness,
    /// `/healthz`.
    pub health: Health,
}

/// Where to serve: where it was said, or, in a cluster, at the address of the node, if that is known, and at its loopback.
/// Kubelet probes at loopback, which a node keeps when it is renumbered; its pods on the host's network keep the old address.
pub fn addresses(said: Option<SocketAddr>, node: Option<(Option<IpAddr>, u16)>) -> Vec<SocketAddr> {
    match (said, node) {
        (Some(said), _) => vec![said],
        (None, Some((address, port))) => {
            address.into_iter().chain([Ipv4Addr::LOCALHOST.into()]).map(|address| (address, port).into()).collect()
        }
        (None, None) => Vec::new(),
    }
}

/// Binds the addresses. Of several, one may be missing: a node that is being renumbered is served all the same.
///
/// # Errors
///
/// If none can be had; with what to do.
pub async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::with_capacity(addresses.len());
    let mut failure = None;
    for address in addresses {
        match bind(*address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                tracing::warn!(%error, "not served here");
                failure = failure.or(Some(error));
            }
        }
    }
    match failure {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Binds the address; the error names it and what to do.
async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| bind_failure("--http", address, &error))
}

/// Why a listening socket could not be had, and what to do.
pub fn bind_failure(option: &str, address: SocketAddr, error: &std::io::Error) -> String {
    let cure = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
        std::io::ErrorKind::AddrNotAvailable => "the address is not on this host; use one that `ip address` shows",
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher port"
        }
        _ => "check the address",
    };
    format!("{option} {address}: {error}; {cure}")
}

/// Asks the main loop to bring its metrics up to date; it answers when they are.
pub type Sample = oneshot::Sender<()>;

/// Serves for ever. `samples` leads to the main loop.
pub async fn serve(listener: TcpListener, registry: Registry, vitals: Vitals, samples: mpsc::Sender<Sample>) {
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = clients.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "HTTP socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, vitals, samples) = (registry.clone(), vitals.clone(), samples.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (registry, vitals, samples) = (&registry, &vitals, &samples);
                async move { Ok::<_, Infallible>(respond(&request, registry, vitals, samples).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP client");
            }
            drop(permit);
        });
    }
}

async fn respond(
    request: &Request<Incoming>,
    registry: &Registry,
    vitals: &Vitals,
    samples: &mpsc::Sender<Sample>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/metrics" => {
            sample(samples).await;
            metrics(registry)
        }
        "/healthz" => match vitals.health.overdue(Instant::now()) {
            None => text(StatusCode::OK, "ok\n"),
            Some((who, late)) => {
                let late = format!("{who} has given no sign of life for too long, by {} s\n", late.as_secs());
                text(StatusCode::SERVICE_UNAVAILABLE, late)
            }
        },
        "/readyz" if vitals.ready.get() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        _ => text(StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n"),
    }
}

/// Old figures are better than none: a main loop that is busy or leaving does not hold the answer up for long.
async fn sample(samples: &mpsc::Sender<Sample>) {
    let (done, finished) = oneshot::channel();
    let ask = async {
        if samples.send(done).await.is_ok() {
            let _ = finished.await;
        }
    };
    let _ = tokio::time::timeout(SAMPLE_TIMEOUT, ask).await;
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let encoder = TextEncoder::new();
    let mut body = Vec::new();
    if let Err(error) = encoder.encode(&registry.gather(), &mut body) {
        tracing::warn!(%error, "metrics cannot be encoded");
        return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n");
    }
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_health_and_readiness_answer() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::new();
        let counter = prometheus::IntCounter::new("megalos_test_total", "Test.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let vitals = Vitals::default();
        let (samples, mut sampled) = mpsc::channel::<Sample>(1);
        tokio::spawn(serve(listener, registry, vitals.clone(), samples));
        tokio::spawn(async move {
            while let Some(done) = sampled.recv().await {
                counter.inc();
                let _ = done.send(());
            }
        });
        assert!(get(address, "/metrics").await.contains("megalos_test_total 1"));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        vitals.ready.set(true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let now = Instant::now();
        vitals.health.lives("the heart", now);
        vitals.health.lives("the lungs", now + Duration::from_secs(3600));
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the heart has given no sign"), "{answer}");
        vitals.health.lives("the heart", now + Duration::from_secs(3600));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_cure() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = bind(listener.local_addr().unwrap()).await.unwrap_err();
        assert!(error.contains("another process listens there"), "{error}");
        let missing = "198.51.100.1:9".parse().unwrap();
        assert!(bind_all(&[]).await.unwrap().is_empty());
        assert!(bind_all(&[missing]).await.is_err());
        assert_eq!(bind_all(&[missing, "127.0.0.1:0".parse().unwrap()]).await.unwrap().len(), 1);
        let error = bind(missing).await.unwrap_err();
        assert!(error.contains("not on this host"), "{error}");
    }
}
