//! Asking a lab: its status, the check, and what its daemons show.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daemon::show::{Rows, Topic};

use super::check::CheckReport;
use super::control::{Reply, Request};
use super::plan::enumerate;
use super::select::{CommandError, Connection, LiveLab};
use super::status::{LabStatus, MemberStatus};

/// How long a check waits for everybody to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(8);

/// How the lab is, with process ids as they are outside.
///
/// # Errors
/// The supervisor is gone.
pub fn status(lab: &LiveLab) -> Result<LabStatus, CommandError> {
    let connection = Connection::open(lab)?;
    connection.send(&Request::Status, &[])?;
    match connection.receive()?.0 {
        Reply::Status(mut status) => {
            translate(lab, &mut status);
            Ok(status)
        }
        other => Err(unexpected(&other)),
    }
}

fn translate(lab: &LiveLab, status: &mut LabStatus) {
    let outside = super::process::outer_ids(lab.description.supervisor.pid);
    for member in status.reflectors.iter_mut().chain(&mut status.nodes) {
        let inside = member.daemon.pid;
        member.daemon.outer_pid = inside.and_then(|inside| outside.get(&inside).copied());
    }
}

fn unexpected(reply: &Reply) -> CommandError {
    CommandError::failure(format!("unexpected reply {reply:?}; are both programs of one version?"))
}

/// Has every device ping its neighbours.
///
/// # Errors
/// The supervisor is gone, or a device is.
pub fn check(lab: &LiveLab) -> Result<CheckReport, CommandError> {
    let connection = Connection::open(lab)?;
    let timeout_millis = u64::try_from(CHECK_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    connection.send(&Request::Check { timeout_millis }, &[])?;
    match connection.receive()?.0 {
        Reply::Checked(report) => Ok(report),
        other => Err(unexpected(&other)),
    }
}

/// Asks one daemon.
///
/// # Errors
/// It does not answer, or has no such table.
pub fn ask(socket: &Path, topic: Topic) -> Result<Rows, CommandError> {
    daemon::control::ask(socket, topic).map_err(CommandError::failure)
}

/// Asks the daemons of a lab that know of the topic, or the one named: rows by
/// the daemon's name.
///
/// # Errors
/// One does not answer, or there is none of that name.
pub fn show(lab: &LiveLab, topic: Topic, only: Option<&str>) -> Result<BTreeMap<String, Rows>, CommandError> {
    let status = status(lab)?;
    let all: Vec<&MemberStatus> = status.reflectors.iter().chain(&status.nodes).collect();
    let chosen: Vec<&MemberStatus> = match only {
        Some(name) => {
            let found: Vec<&MemberStatus> = all.iter().copied().filter(|member| member.name == name).collect();
            if found.is_empty() {
                let names = enumerate(all.iter().map(|member| member.name.as_str()));
                return Err(CommandError::usage(format!("the lab has no node {name}; it has {names}")));
            }
            found
        }
        None => match topic {
            Topic::Peers => all,
            // Every daemon holds nearly the same routes: one is enough.
            Topic::Routes => status.reflectors.iter().take(1).collect(),
            Topic::Vnis | Topic::Macs => status.nodes.iter().collect(),
        },
    };
    chosen.into_iter().map(|member| Ok((member.name.clone(), ask(&member.socket, topic)?))).collect()
}

/// Tables under the names of those who answered.
pub fn to_text(answers: &BTreeMap<String, Rows>) -> String {
    let tables: Vec<String> = answers.iter().map(|(name, rows)| format!("{name}:\n{}", rows.table())).collect();
    tables.join("\n")
}
