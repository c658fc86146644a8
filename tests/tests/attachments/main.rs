//! Attachments of pods as a worker keeps them: what nobody tells it, many at once, clients that misbehave, a host that is in
//! the way, the size of packets, and what must never meet.

mod apart;
mod bed;
mod clients;
mod mtu;
mod rebuilt;
mod reserved;
mod scale;
