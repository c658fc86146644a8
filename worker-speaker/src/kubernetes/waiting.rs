//! The time before this node's tunnel endpoint is known, or while it is on no interface: everything is answered, nothing is
//! done, and whoever asks is told why.

use std::net::IpAddr;
use std::time::Duration;

use cluster::report::Problem;
use cni::server::Received;
use cni::{ErrorCode, ErrorReply, Reply, Status};
use daemon::control::Answer;
use daemon::service::ServiceEvent;
use dataplane::linux::Entered;

use super::Cluster;
use crate::cni_server::CniRequest;
use crate::doors::Doors;
use crate::settings::Discovered;

/// How often an address is looked for that is on no interface.
const LOOK: Duration = Duration::from_secs(1);

/// What became of the wait.
pub(crate) enum Endpoint {
    /// It is known and can be used.
    Known(Discovered),
    /// The process is to leave.
    Stopped,
}

/// Waits for the address that LANs of this node have towards others; `chosen` is one that flags or the file give.
pub(crate) async fn wait_for_endpoint(
    cluster: &mut Cluster,
    doors: &mut Doors,
    entered: &mut Entered,
    chosen: Option<IpAddr>,
) -> Endpoint {
    if let Some(vtep) = chosen {
        cluster.hold(vtep);
    }
    loop {
        cluster.look();
        let reason = match cluster.discovered() {
            Some(discovered) => match endpoint_problem(entered, chosen.unwrap_or(discovered.vtep)) {
                None => {
                    cluster.hold(discovered.vtep);
                    return Endpoint::Known(discovered);
                }
                Some(problem) => {
                    let reason = problem.message.clone();
                    cluster.report(vec![problem]);
                    reason
                }
            },
            None => {
                cluster.report(Vec::new());
                cluster.ignorance()
            }
        };
        doors.vitals.health.turns();
        tokio::select! {
            () = cluster.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            Some(request) = doors.cni.recv() => refuse(request, &reason),
            event = doors.service.next() => match event {
                ServiceEvent::Stop => return Endpoint::Stopped,
                ServiceEvent::Reload => {}
                ServiceEvent::Question(pending) => {
                    let _ = pending.reply.send(Answer::Error(format!("this worker waits for its address: {reason}")));
                }
                ServiceEvent::Sample(done) => {
                    cluster.sample();
                    let _ = done.send(());
                }
            },
        }
    }
}

/// Why an address cannot be the tunnel endpoint, if it cannot.
fn endpoint_problem(entered: &mut Entered, vtep: IpAddr) -> Option<Problem> {
    // The kernel answers at once, but it may hold us up while thousands of devices go.
    let error = tokio::task::block_in_place(|| entered.mtu_with(vtep)).err()?;
    let (reason, message) = match error {
        dataplane::Error::AddressNotLocal { address } => ("VtepNotLocal", not_local(address)),
        error => ("VtepUnusable", error.to_string()),
    };
    Some(Problem { impairs: true, reason, message })
}

/// What is wrong with an endpoint that this node does not have.
pub(crate) fn not_local(address: IpAddr) -> String {
    format!(
        "the address {address} is on no interface of this node: correct its kubelet's --node-ip or the annotation \
         megalos.dev/vtep, or add the address to an interface"
    )
}

fn refuse(request: CniRequest, reason: &str) {
    // What nobody read was made by the life before: its file is there for the next.
    let CniRequest::Asked { received, reply, .. } = request else { return };
    let answer = match *received {
        Received::Status => Reply::Status(Status {
            ready: false,
            reason: reason.to_owned(),
            attachments: 0,
            version: env!("CARGO_PKG_VERSION").into(),
        }),
        _ => ErrorReply::new(
            ErrorCode::TRY_AGAIN_LATER,
            "the worker does not know this node's address for LANs yet",
            reason.to_owned(),
        )
        .into(),
    };
    // A plugin that went away meanwhile asks again if it matters.
    let _ = reply.send(answer.into());
}
