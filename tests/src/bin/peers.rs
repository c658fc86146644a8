//! Makes the file system of other people's daemons, if it is not there, and prints their versions.

use tests::host::Host;
use tests::peers::{Daemon, Software, root};

fn main() {
    println!("{}", root::path().display());
    for software in Software::ALL {
        let host = Host::new(software.label());
        let daemon = Daemon::start(software, host, &software.reflector_config("10.0.0.1", "10.0.0.0/24"));
        println!("{}: {}", software.label(), daemon.version());
    }
}
