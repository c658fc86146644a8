//! Requests, answers, and watches that go on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::Shared;
use super::faults::{Verb, What};
use super::state::{Change, Refusal, Selector, not_found};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// What cuts a connection off.
type Cut = std::io::Error;

/// Serves until the task is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener))
        .unwrap_or_else(|error| panic!("{error}"));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if *shared.away.borrow() {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut away = shared.away.subscribe();
            let answer = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { respond(request, shared).await }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                _ = connection => {}
                _ = away.wait_for(|away| *away) => {}
            }
        });
    }
}

/// What a request's line says.
#[derive(Debug)]
struct Asked {
    verb: Verb,
    resource: String,
    name: String,
    selector: Selector,
    query: HashMap<String, String>,
}

impl Asked {
    /// `/api/v1/nodes/n1/status`, `/apis/discovery.k8s.io/v1/namespaces/x/endpointslices`.
    fn of(request: &Request<Incoming>) -> Option<Self> {
        let mut parts = request.uri().path().split('/').filter(|part| !part.is_empty()).peekable();
        match parts.next()? {
            "api" => _ = parts.next()?,
            "apis" => _ = (parts.next()?, parts.next()?),
            _ => return None,
        }
        if parts.peek() == Some(&"namespaces") {
            parts.next();
            parts.next()?;
        }
        let resource = parts.next()?.to_owned();
        let name = parts.next().unwrap_or_default().to_owned();
        let query = query(request.uri().query().unwrap_or_default());
        let selector = Selector {
            name: query.get("fieldSelector").and_then(|text| text.strip_prefix("metadata.name=")).map(str::to_owned),
            labels: query.get("labelSelector").map(|text| labels(text)).unwrap_or_default(),
        };
        let verb = match *request.method() {
            Method::GET if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") => Verb::Watch,
            Method::GET if name.is_empty() => Verb::List,
            Method::GET => Verb::Get,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::POST => Verb::Create,
            _ => return None,
        };
        Some(Self { verb, resource, name, selector, query })
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.query.get(key)?.parse().ok()
    }
}

fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let hex = |octet: Option<u8>| char::from(octet?).to_digit(16);
        octets.push(match octet {
            b'%' => match (hex(rest.next()), hex(rest.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or(b'?'),
                _ => b'?',
            },
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn labels(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned())).collect()
}

/// What there is of resources that others have defined, if the path asks for that.
fn definitions(path: &str, shared: &Shared) -> Option<Result<Value, Refusal>> {
    let group = path.strip_prefix("/apis/")?.strip_suffix("/v1")?;
    let names = shared.state().names("customresourcedefinitions");
    let of_group = names.iter().filter_map(|name| name.strip_suffix(group)?.strip_suffix('.'));
    let resources: Vec<_> = of_group
        .map(|name| json!({"name": name, "singularName": "", "namespaced": true, "kind": "X", "verbs": ["list"]}))
        .collect();
    if resources.is_empty() {
        return Some(Err(not_found("path", path)));
    }
    Some(Ok(json!({"kind": "APIResourceList", "groupVersion": format!("{group}/v1"), "resources": resources})))
}

async fn respond(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Cut> {
    if let Some(result) = definitions(request.uri().path(), &shared) {
        return Ok(result.map_or_else(refusal, |list| answer(200, list.to_string().into_bytes())));
    }
    let Some(asked) = Asked::of(&request) else { return Ok(refusal(not_found("path", request.uri().path()))) };
    let fault = {
        let mut state = shared.state();
        state.count(asked.verb, &asked.resource);
        state.faults.strike(asked.verb, &asked.resource)
    };
    match &fault {
        Some(What::Slow(time)) => tokio::time::sleep(*time).await,
        Some(What::Silence) => std::future::pending().await,
        Some(What::Close) => return Err(Cut::other("closed at will")),
        Some(What::Status(code)) => return Ok(refusal(refused(&asked, *code))),
        Some(What::TooManyRequests(secs)) => return Ok(too_many(*secs)),
        Some(What::Body(text)) => return Ok(answer(200, text.as_bytes().to_vec())),
        _ => {}
    }
    if asked.verb == Verb::Watch {
        return Ok(begin_watch(&asked, fault, shared));
    }
    let empty = fault == Some(What::EmptyList);
    let body = request.into_body().collect().await.map_err(Cut::other)?.to_bytes();
    let object: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = carry_out(&asked, object, empty, &shared);
    shared.news.send_replace(());
    Ok(result.map_or_else(refusal, |object| answer(200, object.to_string().into_bytes())))
}

fn carry_out(asked: &Asked, object: Value, empty: bool, shared: &Shared) -> Result<Value, Refusal> {
    let (resource, name) = (asked.resource.as_str(), asked.name.as_str());
    let mut state = shared.state();
    match asked.verb {
        Verb::List => {
            let after = asked.query.get("continue").map(String::as_str).unwrap_or_default();
            let limit = asked.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            let (items, more) = state.list(resource, &asked.selector, after, limit);
            let items = if empty { Vec::new() } else { items };
            let last = items.last().map(|object| object["metadata"]["name"].clone());
            let next = last.filter(|_| more && !empty).unwrap_or(json!(""));
            let meta = json!({"resourceVersion": state.version().to_string(), "continue": next});
            Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items}))
        }
        Verb::Get | Verb::Watch => state.get(resource, name).ok_or_else(|| not_found(resource, name)),
        Verb::Update => state.replace(resource, name, object),
        Verb::Patch => state.patch(resource, name, &object),
        Verb::Create => state.create(resource, object),
    }
}

fn answer(code: u16, body: Vec<u8>) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed_unsync();
    let response = Response::builder().status(code).header("Content-Type", "application/json").body(body);
    response.unwrap_or_else(|error| panic!("{error}"))
}

/// A refusal in the words of a real API server.
fn refused(asked: &Asked, code: u16) -> Refusal {
    let (verb, resource) = (asked.verb.name(), asked.resource.as_str());
    match code {
        401 => (401, "Unauthorized", "Unauthorized".into()),
        403 => {
            let message = format!(
                "{resource} is forbidden: User \"system:serviceaccount:megalos-system:megalos-reflector\" cannot {verb} \
                 resource \"{resource}\" in API group \"\" at the cluster scope"
            );
            (403, "Forbidden", message)
        }
        410 => (410, "Expired", "The provided continue parameter is too old".into()),
        code => (code, "InternalError", "something went wrong".into()),
    }
}

fn status((code, reason, message): Refusal) -> Value {
    let text = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure"});
    let mut status = text;
    status["code"] = json!(code);
    status["reason"] = json!(reason);
    status["message"] = json!(message);
    status
}

fn refusal(refusal: Refusal) -> Response<Body> {
    answer(refusal.0, status(refusal).to_string().into_bytes())
}

fn too_many(secs: u32) -> Response<Body> {
    let mut body = status((429, "TooManyRequests", "too many requests, please try again later".into()));
    body["details"] = json!({"retryAfterSeconds": secs});
    let mut response = answer(429, body.to_string().into_bytes());
    response.headers_mut().insert("Retry-After", secs.into());
    response
}

/// A watch that goes on.
struct Watching {
    shared: Arc<Shared>,
    resource: String,
    selector: Selector,
    version: u64,
    epoch: u64,
    fault: Option<What>,
    deadline: tokio::time::Instant,
    ended: bool,
}

fn begin_watch(asked: &Asked, fault: Option<What>, shared: Arc<Shared>) -> Response<Body> {
    let (version, epoch) = {
        let state = shared.state();
        (asked.number("resourceVersion").unwrap_or_else(|| state.version()), state.epoch)
    };
    let timeout = Duration::from_secs(asked.number("timeoutSeconds").unwrap_or(300));
    let watching = Watching {
        resource: asked.resource.clone(),
        selector: asked.selector.clone(),
        version,
        epoch,
        fault,
        deadline: tokio::time::Instant::now() + timeout,
        ended: false,
        shared,
    };
    let body = stream::unfold(watching, |mut watching| async {
        let chunk = watching.next().await?;
        Some((chunk.map(Frame::data), watching))
    });
    Response::new(StreamBody::new(body).boxed_unsync())
}

impl Watching {
    /// The next octets; none at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        if self.ended {
            return None;
        }
        match self.fault.take() {
            Some(What::End) => return None,
            Some(What::Line(line)) => return Some(Ok(Bytes::from(format!("{line}\n")))),
            Some(What::ErrorEvent(code)) => {
                let status = status((code, "Expired", "too old resource version".into()));
                return Some(Ok(line("ERROR", &status)));
            }
            other => self.fault = other,
        }
        // Subscribed before looking, so that nothing is missed in between.
        let mut news = self.shared.news.subscribe();
        loop {
            if self.fault == Some(What::Stall) {
                // Until somebody mends it, whatever the client asked for.
                if self.shared.state().epoch != self.epoch {
                    return None;
                }
                let _ = news.changed().await;
                continue;
            }
            if let Some(chunk) = self.look() {
                return Some(chunk);
            }
            if self.ended || tokio::time::timeout_at(self.deadline, news.changed()).await.is_err() {
                return None;
            }
        }
    }

    fn look(&mut self) -> Option<Result<Bytes, Cut>> {
        let (changes, epoch) = {
            let state = self.shared.state();
            (state.changes(&self.resource, &self.selector, self.version), state.epoch)
        };
        let Some(mut changes) = changes else {
            self.ended = true;
            let status = status((410, "Expired", "too old resource version".into()));
            return Some(Ok(line("ERROR", &status)));
        };
        let wanted = match self.fault {
            Some(What::Reorder(count)) => count,
            _ => 1,
        };
        if changes.len() < wanted {
            self.ended = epoch != self.epoch;
            return None;
        }
        self.version = changes.last().map_or(self.version, |change| change.version);
        match self.fault.take() {
            Some(What::Reorder(_)) => changes.reverse(),
            Some(What::Truncate) => {
                self.ended = true;
                return changes.first().map(|change| {
                    let whole = line(change.kind, &change.object);
                    Ok(whole.slice(..whole.len() / 2))
                });
            }
            other => self.fault = other,
        }
        let lines: Vec<u8> = changes.iter().flat_map(|Change { kind, object, .. }| line(kind, object)).collect();
        Some(Ok(lines.into()))
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}
