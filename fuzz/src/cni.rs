//! The CNI socket: every packet gets one reply, whatever is in it and however many descriptors ride on it, and none of
//! those stays open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cni::server::{Connection, Received};
use cni::transport::{receive, send};
use cni::{Attached, ErrorCode, ErrorReply, Page, Reply, Request, Status};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use crate::octets::Choices;

/// Packets per input: beyond them nothing new is learned.
const MAX_PACKETS: usize = 8;

/// Runs one input: packets, each an octet for its descriptors, two for its length, and its text; the last one may take
/// all that is left.
pub fn run(input: &[u8]) {
    let before = open_descriptors();
    let mut choices = Choices::new(input);
    let mut packets = Vec::new();
    while !choices.is_empty() && packets.len() < MAX_PACKETS {
        let descriptors = choices.below(5);
        let length = choices.octet();
        let text = if length == 255 { choices.rest() } else { choices.take(length.into()) };
        packets.push((descriptors, text));
    }
    // An empty packet cannot be told from the end.
    packets.retain(|(_, text)| !text.is_empty() && text.len() <= 4_096);
    exchange(&packets);
    packets.iter().for_each(|(_, text)| check_text(text));
    assert_eq!(open_descriptors(), before, "every descriptor that came is closed");
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn exchange(packets: &[(u8, &[u8])]) {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (client, server): (OwnedFd, OwnedFd) = pair.expect("a pair of sockets");
    for (descriptors, text) in packets {
        let riding: Vec<BorrowedFd<'_>> = (0..*descriptors).map(|_| client.as_fd()).collect();
        send(client.as_fd(), text, &riding).expect("the socket holds so much");
    }
    shutdown(std::os::fd::AsRawFd::as_raw_fd(&client), Shutdown::Write).expect("our own end");
    let connection = Connection::from(server);
    connection.serve(reply_to).expect("the client reads");
    drop(connection);
    let mut replies = 0;
    while let Ok(Some(packet)) = receive(client.as_fd(), 0) {
        let reply: Reply = serde_json::from_slice(&packet.bytes).expect("a reply");
        assert_eq!(
            serde_json::from_slice::<Reply>(&serde_json::to_vec(&reply).expect("text")).expect("a reply"),
            reply
        );
        replies += 1;
    }
    assert_eq!(replies, packets.len(), "requests and replies alternate");
}

/// A worker that believes everything it is told.
fn reply_to(received: Received) -> Reply {
    match received {
        Received::Attach(attach, pod) => {
            assert!(pod.netns.as_fd().try_clone_to_owned().is_ok() && pod.netlink.as_fd().try_clone_to_owned().is_ok());
            Reply::Attached(Attached {
                mac: attach.mac.unwrap_or_else(|| [2, 0, 0, 0, 0, 1].try_into().expect("a station's address")),
                mtu: attach.mtu.unwrap_or_else(|| 1_500.try_into().expect("an MTU")),
                host_interface: attach.attachment.interface,
            })
        }
        Received::Detach(_) => Reply::Done,
        Received::Check(expected, _) => {
            ErrorReply::new(ErrorCode::INTERNAL, expected.attachment.container_id.to_string(), "it differs").into()
        }
        Received::List(list) => Reply::Attachments(Page::of(&list, list.after.clone())),
        Received::Status => {
            Reply::Status(Status { ready: true, reason: String::new(), attachments: 0, version: "0".to_owned() })
        }
    }
}

/// What is understood is understood the same once more, and holds what its types promise.
fn check_text(text: &[u8]) {
    match Request::decode(text) {
        Ok(request) => {
            let again = serde_json::to_vec(&request).expect("requests are plain data");
            assert_eq!(Request::decode(&again).expect("what we write we read"), request);
            if let Request::Attach(attach) = &request {
                let name = attach.attachment.interface.as_str();
                assert!((1..=15).contains(&name.len()) && !name.contains(['/', ':', '\0']), "{name:?}");
                assert!((1..=0x00ff_ffff).contains(&attach.vni.get()));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
