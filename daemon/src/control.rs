//! The control socket: a Unix stream socket on which one JSON line asks and one JSON line answers.
//!
//! ```text
//!   {"show":"peers"}  ──►  {"rows":{"peers":[…]}}   or   {"error":"…"}
//! ```
//!
//! The daemon's main loop owns the tables, so the server hands each question to it through a bounded channel and waits
//! for the rows. A client that sends no question within five seconds, or a line above 4 KiB, is closed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::show::{Rows, Topic};

const MAX_QUESTION_BYTES: u64 = 4_096;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CLIENTS: usize = 32;

/// A question on the wire.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What to show.
    pub show: Topic,
}

/// An answer on the wire.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// What was asked for.
    Rows(Rows),
    /// Why not.
    Error(String),
}

/// A question on its way to the main loop.
#[derive(Debug)]
pub struct Pending {
    /// What to show.
    pub topic: Topic,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// Why the control socket could not be opened or asked.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Another process answers there.
    #[error("{0} is in use by another process; stop it or give --control another path")]
    InUse(PathBuf),
    /// The socket cannot be made.
    #[error("--control {path}: {source}; give a path in a directory that this process may write to")]
    Bind {
        /// Which socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused.
    #[error("control socket {path}: {source}; is the daemon running, and may you open its socket?")]
    Io {
        /// Which socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What came back is not an answer.
    #[error("control socket {path}: the answer is not understood: {source}; do both programs have the same version?")]
    Malformed {
        /// Which socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The daemon declined.
    #[error("{0}")]
    Refused(String),
}

/// A bound control socket; its file is removed when the value is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds `path`, mode 0600, replacing the socket of a process that is gone.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let io = |source| ControlError::Bind { path: path.to_owned(), source };
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ControlError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(io)?;
        }
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(io)?;
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves for ever, passing questions to `questions`.
    pub async fn serve(self, questions: mpsc::Sender<Pending>) {
        let clients = std::sync::Arc::new(Semaphore::new(MAX_CLIENTS));
        loop {
            let Ok(permit) = clients.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let questions = questions.clone();
                    tokio::spawn(async move {
                        if let Err(error) = serve_one(stream, questions).await {
                            tracing::debug!(%error, "control client");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket cannot accept");
                    // Out of descriptors is the one error that lasts; leave the others room.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves one client: its question, passed to `questions`, and the answer.
///
/// # Errors
/// The client sent nothing within five seconds, or no text, or does not read.
pub async fn serve_one(stream: UnixStream, questions: mpsc::Sender<Pending>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(read.take(MAX_QUESTION_BYTES));
    tokio::time::timeout(QUESTION_TIMEOUT, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => ask_main_loop(question, &questions).await,
        Err(error) => Answer::Error(format!("question not understood: {error}")),
    };
    let mut text = serde_json::to_vec(&answer).map_err(std::io::Error::other)?;
    text.push(b'\n');
    write.write_all(&text).await
}

async fn ask_main_loop(question: Question, questions: &mpsc::Sender<Pending>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let stopping = || Answer::Error("the daemon is stopping".into());
    if questions.send(Pending { topic: question.show, reply }).await.is_err() {
        return stopping();
    }
    answer.await.unwrap_or_else(|_| stopping())
}

/// Asks the daemon at `path`, blocking.
pub fn ask(path: &Path, topic: Topic) -> Result<Rows, ControlError> {
    let io = |source| ControlError::Io { path: path.to_owned(), source };
    let mut stream = std::os::unix::net::UnixStream::connect(path).map_err(io)?;
    let mut question = serde_json::to_vec(&Question { show: topic })
        .map_err(|source| ControlError::Malformed { path: path.to_owned(), source })?;
    question.push(b'\n');
    stream.write_all(&question).map_err(io)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(io)?;
    let answer =
        serde_json::from_str(&line).map_err(|source| ControlError::Malformed { path: path.to_owned(), source })?;
    match answer {
        Answer::Rows(rows) => Ok(rows),
        Answer::Error(text) => Err(ControlError::Refused(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::PeerRow;

    fn socket(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("megalos-control-{}-{name}", std::process::id()))
    }

    async fn serve_peers(path: &Path) -> tokio::task::JoinHandle<()> {
        let server = Server::bind(path).unwrap();
        let (send, mut receive) = mpsc::channel::<Pending>(4);
        tokio::spawn(server.serve(send));
        tokio::spawn(async move {
            while let Some(pending) = receive.recv().await {
                let row = PeerRow { address: "192.0.2.1".into(), ..Default::default() };
                let _ = pending.reply.send(Answer::Rows(Rows::Peers(vec![row])));
            }
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_question_is_answered() {
        let path = socket("answer");
        serve_peers(&path).await;
        let asked = path.clone();
        let rows = tokio::task::spawn_blocking(move || ask(&asked, Topic::Peers)).await.unwrap().unwrap();
        assert!(matches!(rows, Rows::Peers(rows) if rows[0].address == "192.0.2.1"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn garbage_gets_an_error_and_does_not_end_the_service() {
        let path = socket("garbage");
        serve_peers(&path).await;
        for garbage in [&b"\xff\xfe\n"[..], b"{}\n", b"{\"show\":\"all\"}\n", &[b'x'; 9_000]] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"{\"rows\""));
        }
        let asked = path.clone();
        assert!(tokio::task::spawn_blocking(move || ask(&asked, Topic::Peers)).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_socket_in_use_is_not_taken_over_but_a_dead_one_is() {
        let path = socket("taken");
        let first = Server::bind(&path).unwrap();
        assert!(matches!(Server::bind(&path), Err(ControlError::InUse(_))));
        drop(first);
        std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(Server::bind(&path).is_ok());
    }
}
