//! What the daemons make of an API server that is slow, wrong, silent or away.

mod reflector;
mod watch;
mod worker;
