//! Tells the cluster how this node is: the condition `MegalosReady` of its Node, and an Event for each new problem.
//!
//! In: a [`Report`], as often as anybody likes. Out: requests to the API server, only when something changed, and now and then
//! to see that it still stands there. Whoever reports never waits: only the last report counts, and while the API server is
//! away it waits here.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter as Author};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::explain::{Attempt, asked_pause, explain};
use crate::watch::Backoff;

/// The type of the condition.
pub const CONDITION: &str = "MegalosReady";
/// The reason of the condition where nothing is wrong.
pub const READY: &str = "Ready";
/// Who writes conditions and Events.
const AUTHOR: &str = "megalos-speaker";
/// How often the condition is looked at although nothing has changed: a Node that was made anew has none.
const RECHECK: Duration = Duration::from_secs(600);
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Octets of a message: Kubernetes takes 32 KiB in a condition and 1 KiB in an Event.
const MAX_MESSAGE: usize = 1_000;
/// Problems that are told of; further ones are counted in the message.
const MAX_PROBLEMS: usize = 8;

/// Something that is wrong with this node, for whoever can put it right.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// LANs of this node do not work as they should; else it is only worth knowing.
    pub impairs: bool,
    /// One word: reason of conditions and Events, label of metrics.
    pub reason: &'static str,
    /// Cause and cure.
    pub message: String,
}

/// How this node is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// What is wrong, the gravest first.
    pub problems: Vec<Problem>,
    /// The Node's uid, where it is known: another one has no condition yet.
    pub node_uid: Option<String>,
}

/// What the condition says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// `True`: this node's LANs work.
    pub status: bool,
    /// One word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Report {
    /// What the condition says of it.
    pub fn verdict(&self) -> Verdict {
        let impairment = self.problems.iter().find(|problem| problem.impairs);
        let Some(first) = impairment.or(self.problems.first()) else {
            let message = "the LANs of this node work".to_owned();
            return Verdict { status: true, reason: READY, message };
        };
        let mut texts: Vec<_> =
            self.problems.iter().take(MAX_PROBLEMS).map(|problem| problem.message.as_str()).collect();
        let more = self.problems.len().saturating_sub(texts.len());
        let more = format!("{more} more");
        if self.problems.len() > texts.len() {
            texts.push(&more);
        }
        let message = shortened(&texts.join("; and: "));
        Verdict { status: impairment.is_none(), reason: first.reason, message }
    }
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// The condition to write, unless it stands there already. The time of the transition is that of the last change of status.
fn condition(verdict: &Verdict, found: Option<&NodeCondition>, now: Timestamp) -> Option<NodeCondition> {
    let status = if verdict.status { "True" } else { "False" };
    let same_status = found.filter(|found| found.status == status);
    let text = |text: &str| Some(text.to_owned());
    if same_status.is_some_and(|found| {
        found.reason.as_deref() == Some(verdict.reason) && found.message.as_deref() == Some(&verdict.message)
    }) {
        return None;
    }
    Some(NodeCondition {
        type_: CONDITION.into(),
        status: status.into(),
        reason: text(verdict.reason),
        message: text(&verdict.message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: same_status.and_then(|found| found.last_transition_time.clone()).or(Some(Time(now))),
    })
}

/// Where reports go. The task behind it ends when this is dropped.
#[derive(Debug)]
pub struct Reporter {
    latest: watch::Sender<Report>,
    _task: JoinSet<()>,
}

impl Reporter {
    /// For the Node of this name.
    pub fn start(client: Client, node: &str) -> Self {
        let (latest, reports) = watch::channel(Report::default());
        let recorder =
            Recorder::new(client.clone(), Author { controller: AUTHOR.into(), instance: Some(node.to_owned()) });
        let nodes = Api::all(client);
        let clerk = Clerk { node: node.to_owned(), nodes, recorder, told: BTreeSet::new(), complaint: None };
        let mut task = JoinSet::new();
        task.spawn(clerk.run(reports));
        Self { latest, _task: task }
    }

    /// This is how the node is now. Never waits.
    pub fn report(&self, report: Report) {
        self.latest.send_if_modified(|latest| {
            let changed = *latest != report;
            *latest = report;
            changed
        });
    }
}

/// Writes what is reported.
struct Clerk {
    node: String,
    nodes: Api<Node>,
    recorder: Recorder,
    /// Problems that there are Events of, and that are not over.
    told: BTreeSet<Problem>,
    /// The last failure that was logged, so that an outage is one line.
    complaint: Option<String>,
}

impl Clerk {
    async fn run(mut self, mut reports: watch::Receiver<Report>) {
        let mut backoff = Backoff::new(PAUSE_MAX, std::process::id().into());
        // Nothing was reported yet.
        if reports.changed().await.is_err() {
            return;
        }
        loop {
            let report = reports.borrow_and_update().clone();
            let pause = match self.write(&report).await {
                Ok(()) => {
                    backoff.reset();
                    if self.complaint.take().is_some() {
                        tracing::info!("the Node's condition is written again");
                    }
                    RECHECK
                }
                Err((error, asked)) => {
                    if self.complaint.as_ref() != Some(&error) {
                        tracing::warn!(%error, "the Node's condition is not written; it is tried again");
                        self.complaint = Some(error);
                    }
                    backoff.pause(asked)
                }
            };
            if let Ok(Err(_)) = tokio::time::timeout(pause, reports.changed()).await {
                return;
            }
        }
    }

    async fn write(&mut self, report: &Report) -> Result<(), (String, Option<Duration>)> {
        let silence = |verb: &str| (format!("can't {verb} nodes: no answer for {} s", TIMEOUT.as_secs()), None);
        let failed = |verb, resource, error: &kube::Error| {
            let attempt = Attempt { verb, group: "", resource, namespace: None };
            (explain(&attempt, error), asked_pause(error))
        };
        let read = tokio::time::timeout(TIMEOUT, self.nodes.get(&self.node)).await;
        let node = read.map_err(|_| silence("get"))?.map_err(|error| failed("get", "nodes", &error))?;
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let found = conditions.iter().find(|condition| condition.type_ == CONDITION);
        if let Some(condition) = condition(&report.verdict(), found, Timestamp::now()) {
            let patch = json!({"status": {"conditions": [condition]}});
            let (parameters, patch) = (PatchParams::default(), Patch::Strategic(&patch));
            let written = self.nodes.patch_status(&self.node, &parameters, &patch);
            let written = tokio::time::timeout(TIMEOUT, written).await.map_err(|_| silence("patch"))?;
            written.map_err(|error| failed("patch", "nodes/status", &error))?;
        }
        self.tell(report, &node).await;
        Ok(())
    }

    /// An Event for each problem that is new. Events are a courtesy: one that cannot be written is not tried again.
    async fn tell(&mut self, report: &Report, node: &Node) {
        self.told.retain(|told| report.problems.contains(told));
        for problem in report.problems.iter().take(MAX_PROBLEMS) {
            if !self.told.insert(problem.clone()) {
                continue;
            }
            let event = Event {
                type_: EventType::Warning,
                reason: problem.reason.into(),
                note: Some(shortened(&problem.message)),
                action: "Observe".into(),
                secondary: None,
            };
            let object = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(self.node.clone()),
                uid: node.metadata.uid.clone(),
                ..ObjectReference::default()
            };
            match tokio::time::timeout(TIMEOUT, self.recorder.publish(&event, &object)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let attempt = Attempt {
                        verb: "create",
                        group: "events.k8s.io",
                        resource: "events",
                        namespace: Some("default"),
                    };
                    tracing::debug!(error = %explain(&attempt, &error), "an Event is lost");
                }
                Err(_) => tracing::debug!("an Event is lost: the API server does not answer"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(impairs: bool, reason: &'static str, message: &str) -> Problem {
        Problem { impairs, reason, message: message.into() }
    }

    fn verdict(problems: Vec<Problem>) -> (bool, &'static str, String) {
        let Verdict { status, reason, message } = Report { problems, node_uid: None }.verdict();
        (status, reason, message)
    }

    #[test]
    fn a_condition_is_true_unless_something_does_not_work_and_says_all_that_is_wrong() {
        let (bad, odd) = (problem(true, "Bad", "a; do b"), problem(false, "Odd", "c"));
        for (problems, expected) in [
            (vec![], (true, READY, "the LANs of this node work".to_owned())),
            (vec![odd.clone()], (true, "Odd", "c".to_owned())),
            (vec![odd, bad.clone()], (false, "Bad", "c; and: a; do b".to_owned())),
            (vec![bad], (false, "Bad", "a; do b".to_owned())),
        ] {
            assert_eq!(verdict(problems), expected);
        }
        let many: Vec<_> = (0..100).map(|n| problem(true, "Many", &format!("é{n}"))).collect();
        let (_, _, message) = verdict(many);
        assert!(message.ends_with("; and: 92 more"), "{message}");
        let (_, _, message) = verdict(vec![problem(true, "Long", &"é".repeat(100_000))]);
        assert!(message.len() <= MAX_MESSAGE);
    }

    #[test]
    fn a_condition_is_written_when_it_differs_and_tells_when_its_status_did() {
        let (then, now) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let verdict = |status, reason, message: &str| Verdict { status, reason, message: message.into() };
        let old = condition(&verdict(true, READY, "fine"), None, then).unwrap();
        assert_eq!((old.type_.as_str(), old.status.as_str()), (CONDITION, "True"));
        assert_eq!(old.last_transition_time, Some(Time(then)));
        for (next, transition) in [
            (verdict(true, READY, "fine"), None),
            (verdict(true, READY, "better"), Some(then)),
            (verdict(true, "Odd", "fine"), Some(then)),
            (verdict(false, "Bad", "fine"), Some(now)),
        ] {
            let written = condition(&next, Some(&old), now);
            assert_eq!(written.and_then(|written| written.last_transition_time), transition.map(Time), "{next:?}");
        }
    }
}
