//! `megalos` on this machine's kernel, each check as root and as somebody
//! without privileges. Needs root, and user namespaces for the second half.

mod course;
mod lans;
mod support;
