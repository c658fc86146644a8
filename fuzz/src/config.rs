//! Configuration files of both daemons: any text is settings that keep their promises, or a refusal with reasons.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;

use clap::Parser;
use daemon::config::{ConfigError, PeerSettings};
use daemon::options::Settings;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Runs one input: an octet of flags, then the file.
pub fn run(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    // Keys are read from the files that are named; those of devices never end.
    if ["/dev", "/proc", "/sys"].iter().any(|place| text.windows(place.len()).any(|part| part == place.as_bytes())) {
        return;
    }
    let mut file = File::from(memfd_create("config", MFdFlags::MFD_CLOEXEC).expect("a file in memory"));
    file.write_all(text).and_then(|()| file.rewind()).expect("memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if choice & 1 == 0 {
        reflector(choice, &path);
    } else {
        worker(choice, &path);
    }
}

fn options<T: Parser>(choice: u8, path: &str, flags: [&[&str]; 3]) -> T {
    let chosen = flags.iter().enumerate().filter(|(bit, _)| choice & (2 << bit) != 0).flat_map(|(_, flags)| *flags);
    let arguments = ["megalos", "--config", path].into_iter().chain(chosen.copied());
    T::try_parse_from(arguments).expect("the flags are right")
}

fn reflector(choice: u8, path: &str) {
    let options = options::<route_reflector::settings::Options>(
        choice,
        path,
        [
            &["--listen", "192.0.2.1:179"],
            &["--router-id", "192.0.2.1"],
            &["--accept", "192.0.2.0/24", "--asn", "65000"],
        ],
    );
    let Some(settings) = load::<route_reflector::settings::Settings>(&options) else { return };
    assert!(settings.asn.0 != 0 && settings.router_id.0 != 0 && !settings.listen.is_empty());
    settings.peers.values().for_each(|peer| check_peer(&peer.settings, peer.key.as_deref()));
    settings.accept.iter().for_each(|accept| check_peer(&accept.settings, accept.key.as_deref()));
}

fn worker(choice: u8, path: &str) {
    let options = options::<worker_speaker::settings::Options>(
        choice,
        path,
        [&["--reflector", "192.0.2.1"], &["--vtep", "192.0.2.2"], &["--asn", "65000", "--router-id", "192.0.2.2"]],
    );
    let Some(settings) = load::<worker_speaker::settings::Settings>(&options) else { return };
    assert!(settings.asn.0 != 0 && settings.router_id.0 != 0 && settings.vxlan_port != 0 && !settings.peers.is_empty());
    assert!(!settings.vtep.is_unspecified() && !settings.vtep.is_multicast() && !settings.vtep.is_loopback());
    settings.peers.values().for_each(|peer| check_peer(&peer.settings, peer.key.as_deref()));
}

fn load<T: Settings + PartialEq + std::fmt::Debug>(options: &T::Options) -> Option<T> {
    match T::load(options) {
        Ok(settings) => {
            assert_eq!(settings.fixed_differences(&settings), Vec::<&str>::new());
            assert_eq!(T::load(options).expect("the file is still there"), settings);
            Some(settings)
        }
        Err(error) => {
            if let ConfigError::Invalid(reasons) | ConfigError::Incomplete(reasons) = &error {
                assert!(!reasons.is_empty() && reasons.iter().all(|reason| !reason.is_empty()));
            }
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// What a session relies on.
fn check_peer(settings: &PeerSettings, key: Option<&str>) {
    assert!(!matches!(settings.hold_time_secs, Some(1 | 2)));
    assert!(!matches!(settings.restart_time_secs, Some(4_096..)));
    assert!(settings.connect_retry_secs != Some(0) && settings.max_routes != Some(0) && settings.asn != Some(0));
    assert!(key.is_none_or(|key| (1..=80).contains(&key.len())));
}
