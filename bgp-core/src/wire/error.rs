//! What can be wrong with a message, and what is then done.
//!
//! Errors that end the session are a [`Notification`]; everything milder (RFC 7606 section 2) is a
//! [`Finding`](super::message::Finding) beside the decoded [`Update`](super::Update).
//! This module owns the names of the NOTIFICATION codes and the class that a decoder gives to a malformed part.

use core::fmt;

use bytes::Bytes;

use super::message::{Notification, Treatment};
use crate::rule::Rule;

/// Error code and subcode of a NOTIFICATION, with the names that the RFCs give them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NotificationCode {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 is unspecific.
    pub subcode: u8,
}

/// Defines one constant per code and the table of their names.
macro_rules! notification_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal / $subcode:literal, $text:literal;)*) => {
        impl NotificationCode {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, subcode: $subcode };)*

            /// The registered name of the subcode, if it has one.
            pub const fn subcode_name(self) -> Option<&'static str> {
                match (self.code, self.subcode) {
                    $(($code, $subcode) => Some($text),)*
                    _ => None,
                }
            }

            /// Every named code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

notification_codes! {
    /// RFC 4271 section 6.1: the marker is not all ones.
    CONNECTION_NOT_SYNCHRONIZED = 1/1, "Connection Not Synchronized";
    /// RFC 4271 section 6.1; data is the length field.
    BAD_MESSAGE_LENGTH = 1/2, "Bad Message Length";
    /// RFC 4271 section 6.1; data is the type octet.
    BAD_MESSAGE_TYPE = 1/3, "Bad Message Type";
    /// RFC 4271 section 6.2: malformed optional parameters or capabilities.
    OPEN_UNSPECIFIC = 2/0, "Unspecific";
    /// RFC 4271 section 6.2; data is the supported version in two octets.
    UNSUPPORTED_VERSION = 2/1, "Unsupported Version Number";
    /// RFC 4271 section 6.2, RFC 7607.
    BAD_PEER_AS = 2/2, "Bad Peer AS";
    /// RFC 6286.
    BAD_BGP_IDENTIFIER = 2/3, "Bad BGP Identifier";
    /// RFC 4271 section 6.2.
    UNSUPPORTED_OPTIONAL_PARAMETER = 2/4, "Unsupported Optional Parameter";
    /// RFC 4271 section 6.2.
    UNACCEPTABLE_HOLD_TIME = 2/6, "Unacceptable Hold Time";
    /// RFC 5492 section 5; data is the missing capabilities.
    UNSUPPORTED_CAPABILITY = 2/7, "Unsupported Capability";
    /// RFC 4271 section 6.3.
    MALFORMED_ATTRIBUTE_LIST = 3/1, "Malformed Attribute List";
    /// RFC 4271 section 6.3; data is the attribute.
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 3/2, "Unrecognized Well-known Attribute";
    /// RFC 4271 section 6.3; data is the type of the missing attribute.
    MISSING_WELL_KNOWN_ATTRIBUTE = 3/3, "Missing Well-known Attribute";
    /// RFC 4271 section 6.3; data is the attribute.
    ATTRIBUTE_FLAGS_ERROR = 3/4, "Attribute Flags Error";
    /// RFC 4271 section 6.3; data is the attribute.
    ATTRIBUTE_LENGTH_ERROR = 3/5, "Attribute Length Error";
    /// RFC 4271 section 6.3; data is the attribute.
    INVALID_ORIGIN = 3/6, "Invalid ORIGIN Attribute";
    /// RFC 4271 section 6.3; data is the attribute.
    INVALID_NEXT_HOP = 3/8, "Invalid NEXT_HOP Attribute";
    /// RFC 4271 section 6.3, RFC 4760 section 7.
    OPTIONAL_ATTRIBUTE_ERROR = 3/9, "Optional Attribute Error";
    /// RFC 4271 section 6.3: the IPv4 NLRI or withdrawn routes cannot be read.
    INVALID_NETWORK_FIELD = 3/10, "Invalid Network Field";
    /// RFC 4271 section 6.3.
    MALFORMED_AS_PATH = 3/11, "Malformed AS_PATH";
    /// RFC 4271 section 6.5.
    HOLD_TIMER_EXPIRED = 4/0, "Unspecific";
    /// RFC 4271 section 6.6: an event that the state does not allow.
    FSM_ERROR = 5/0, "Unspecific";
    /// RFC 6608.
    FSM_UNEXPECTED_IN_OPEN_SENT = 5/1, "Receive Unexpected Message in OpenSent State";
    /// RFC 6608.
    FSM_UNEXPECTED_IN_OPEN_CONFIRM = 5/2, "Receive Unexpected Message in OpenConfirm State";
    /// RFC 6608.
    FSM_UNEXPECTED_IN_ESTABLISHED = 5/3, "Receive Unexpected Message in Established State";
    /// RFC 4486.
    CEASE_MAXIMUM_PREFIXES = 6/1, "Maximum Number of Prefixes Reached";
    /// RFC 4486; data is a shutdown communication (RFC 9003).
    CEASE_ADMINISTRATIVE_SHUTDOWN = 6/2, "Administrative Shutdown";
    /// RFC 4486.
    CEASE_PEER_DE_CONFIGURED = 6/3, "Peer De-configured";
    /// RFC 4486; data is a shutdown communication (RFC 9003).
    CEASE_ADMINISTRATIVE_RESET = 6/4, "Administrative Reset";
    /// RFC 4486.
    CEASE_CONNECTION_REJECTED = 6/5, "Connection Rejected";
    /// RFC 4486.
    CEASE_CONFIGURATION_CHANGE = 6/6, "Other Configuration Change";
    /// RFC 4486.
    CEASE_CONNECTION_COLLISION = 6/7, "Connection Collision Resolution";
    /// RFC 4486.
    CEASE_OUT_OF_RESOURCES = 6/8, "Out of Resources";
    /// RFC 8538 section 3.1; data is the NOTIFICATION that it wraps.
    CEASE_HARD_RESET = 6/9, "Hard Reset";
    /// RFC 9384.
    CEASE_BFD_DOWN = 6/10, "BFD Down";
    /// RFC 7313 section 5; data is the whole ROUTE-REFRESH.
    ROUTE_REFRESH_INVALID_LENGTH = 7/1, "Invalid Message Length";
    /// RFC 9687.
    SEND_HOLD_TIMER_EXPIRED = 8/0, "Unspecific";
}

impl NotificationCode {
    /// The registered name of the error code, if it has one.
    pub const fn code_name(self) -> Option<&'static str> {
        match self.code {
            1 => Some("Message Header Error"),
            2 => Some("OPEN Message Error"),
            3 => Some("UPDATE Message Error"),
            4 => Some("Hold Timer Expired"),
            5 => Some("Finite State Machine Error"),
            6 => Some("Cease"),
            7 => Some("ROUTE-REFRESH Message Error"),
            8 => Some("Send Hold Timer Expired"),
            _ => None,
        }
    }

    /// A NOTIFICATION of this code without data.
    pub const fn notification(self) -> Notification {
        Notification { code: self.code, subcode: self.subcode, data: Bytes::new() }
    }

    /// A NOTIFICATION of this code with a copy of `data`.
    pub fn with_data(self, data: &[u8]) -> Notification {
        Notification { code: self.code, subcode: self.subcode, data: Bytes::copy_from_slice(data) }
    }
}

impl fmt::Display for NotificationCode {
    /// `Cease / Administrative Shutdown (6/2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, subcode } = *self;
        match self.code_name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "Unknown Error {code}")?,
        }
        match self.subcode_name() {
            Some("Unspecific") => {}
            Some(name) => write!(f, " / {name}")?,
            None if subcode == 0 => {}
            None => write!(f, " / Unknown Subcode {subcode}")?,
        }
        write!(f, " ({code}/{subcode})")
    }
}

/// A malformed part of an UPDATE that need not end the session, as its decoder reports it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed {
    /// What is to be done.
    pub treatment: Treatment,
    /// What is wrong.
    pub rule: Rule,
}

impl Malformed {
    /// Treat-as-withdraw.
    pub const fn withdraw(rule: Rule) -> Self {
        Self { treatment: Treatment::Withdraw, rule }
    }

    /// To be counted, and nothing else.
    pub const fn note(rule: Rule) -> Self {
        Self { treatment: Treatment::Note, rule }
    }

    /// Attribute discard.
    pub const fn discard(rule: Rule) -> Self {
        Self { treatment: Treatment::DiscardAttribute, rule }
    }
}
