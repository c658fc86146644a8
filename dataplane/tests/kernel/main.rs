//! The Linux dataplane on the real kernel, in namespaces that each test makes and leaves behind it gone. Needs root and
//! iproute2; without root the tests say that they are skipped.

mod hostile;
mod lans;
mod rows;
mod sandbox;
mod twins;
