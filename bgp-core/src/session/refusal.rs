//! What a session refuses, for counters and logs: the rule, what was done, and the octets that broke the rule.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::rule::{Action, Rule};
use crate::wire::frame::{begin_message, end_message};
use crate::wire::message::Finding;
use crate::wire::{Frame, MessageKind};

crate::rules! {
    MESSAGE_UNEXPECTED = "message-unexpected", "RFC 4271 section 6.6, RFC 6608",
        "A message came that the state of the session does not allow";
    MESSAGE_TRUNCATED = "message-truncated", "RFC 4271 section 8.2.2 event 18",
        "TCP ended within a message; the octets so far are dropped";
    NOTIFICATION_RECEIVED = "notification-received", "RFC 4271 section 6.4", "The peer ended the session and said why";
    HOLD_TIMER = "hold-timer", "RFC 4271 section 6.5", "No whole message came within the hold time";
    SEND_HOLD_TIMER = "send-hold-timer", "RFC 9687 section 4", "The peer read nothing, or next to nothing, within the send-hold time";
    OPEN_TIMEOUT = "open-timeout", "RFC 4271 section 8.2.2, limit: open_timeout_secs", "The OPEN was not complete in time";
    COLLISION = "collision", "RFC 4271 section 6.8", "Of two connections with the peer this one was given up";
    IDLE_HOLD = "idle-hold", "RFC 4271 section 8.1.1, limit: idle_hold_max_secs",
        "A connection came while the peer pauses after repeated failures, or is shut down";
    ROUTE_REFRESH_SUBTYPE = "route-refresh-subtype", "RFC 7313 section 5", "The subtype of a ROUTE-REFRESH is not known";
    ROUTE_REFRESH_FAMILY = "route-refresh-family", "RFC 2918 section 4",
        "A ROUTE-REFRESH is for an address family that the session does not carry";
}

/// An input that broke a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Which rule.
    pub rule: Rule,
    /// What was done.
    pub action: Action,
    /// Type code of the attribute concerned, if one.
    pub attribute: Option<u8>,
    /// How often it occurred in the message.
    pub count: u32,
    /// The message with its header; of one that cannot be framed, what has come of it, [`Refusal::MAX_UNFRAMED`] at
    /// most. Empty where silence was the fault.
    pub message: Bytes,
    /// More in words; text of the peer in it is made fit for a log.
    pub detail: String,
}

impl Refusal {
    /// Most octets kept of input that cannot be cut into messages.
    pub const MAX_UNFRAMED: usize = 4_096;

    /// A refusal without a message.
    pub const fn new(rule: Rule, action: Action) -> Self {
        Self { rule, action, attribute: None, count: 1, message: Bytes::new(), detail: String::new() }
    }

    /// What was contained in an UPDATE.
    pub(crate) fn contained(finding: &Finding, message: Bytes) -> Self {
        let Finding { treatment, rule, attribute, count } = *finding;
        Self { attribute, count, message, ..Self::new(rule, treatment.into()) }
    }
}

/// Refusals that wait to be polled. An owner that never polls loses the oldest.
#[derive(Debug, Default)]
pub(super) struct Refusals(VecDeque<Refusal>);

impl Refusals {
    /// More than one message can yield.
    const MAX: usize = 2 * Finding::LIMIT;

    pub(super) fn push(&mut self, refusal: Refusal) {
        if self.0.len() >= Self::MAX {
            self.0.pop_front();
        }
        self.0.push_back(refusal);
    }

    pub(super) fn pop(&mut self) -> Option<Refusal> {
        self.0.pop_front()
    }
}

/// A message as it came: frames are cut from the receive buffer without their header.
pub(super) fn whole_message(kind: MessageKind, body: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(crate::wire::frame::HEADER_LENGTH.saturating_add(body.len()));
    let start = begin_message(kind, &mut message);
    message.extend_from_slice(body);
    end_message(start, &mut message);
    message.freeze()
}

impl Frame {
    /// The message with its header.
    pub(super) fn whole(&self) -> Bytes {
        whole_message(self.kind, &self.body)
    }
}
