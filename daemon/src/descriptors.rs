//! Open files: how many this process may have, and for how many peers they are enough.
//!
//! A listener that has no descriptor for a connection leaves it in the kernel's queue, where nobody is served. So a daemon
//! takes what the system allows at once, and does not start with more peers than that can hold.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a daemon needs for itself: listeners, the runtime, clients of HTTP and of the control socket.
const OWN: u64 = 160;
/// What a peer needs: its session, and a second connection that collides with it or says its last words.
const PER_PEER: u64 = 2;

/// How many open files this process may have, once its own limit is raised to the system's.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u64::MAX };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// For how many peers so many open files are enough.
pub const fn peers_for(files: u64) -> u64 {
    files.saturating_sub(OWN) / PER_PEER
}

/// Checks that `files` are enough for `configured` peers and for those that may come by themselves; how many of the latter
/// there may be: `wanted`, or as many of `default` as fit.
///
/// # Errors
///
/// What is needed and how to get it.
pub fn room_for_dynamic(files: u64, configured: usize, wanted: Option<usize>, default: usize) -> Result<usize, String> {
    let room = usize::try_from(peers_for(files)).unwrap_or(usize::MAX);
    let left = room.checked_sub(configured);
    match (left, wanted) {
        (Some(left), Some(wanted)) if wanted <= left => Ok(wanted),
        (Some(left), None) if left > 0 || configured > 0 => Ok(left.min(default)),
        _ => {
            let peers = configured.saturating_add(wanted.unwrap_or(1));
            let needed = OWN.saturating_add(PER_PEER.saturating_mul(u64::try_from(peers).unwrap_or(u64::MAX)));
            Err(format!(
                "{peers} peers need {needed} open files, and this process may have {files}: raise the limit (`ulimit -n`, \
                 LimitNOFILE= of systemd), or lower max_dynamic_peers"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_fit_or_the_need_is_named() {
        let files = OWN + 20 * PER_PEER;
        assert_eq!(room_for_dynamic(files, 5, Some(15), 100), Ok(15));
        assert_eq!(room_for_dynamic(files, 5, None, 100), Ok(15), "the default gives way");
        assert_eq!(room_for_dynamic(files, 5, None, 10), Ok(10));
        assert_eq!(room_for_dynamic(files, 20, None, 10), Ok(0), "all places are configured ones'");
        for (configured, wanted) in [(5, Some(16)), (21, None)] {
            let error = room_for_dynamic(files, configured, wanted, 10).unwrap_err();
            assert!(error.contains("ulimit -n") && error.contains(&files.to_string()), "{error}");
        }
        assert!(room_for_dynamic(10, 0, None, 10).is_err());
    }

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let files = raise();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft), Ok(files));
        assert!(peers_for(u64::MAX) > 1 << 32);
    }
}
