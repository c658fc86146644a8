//! One cluster for all tests of a binary: started by the first that needs it, for one test at a time.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};

use super::{Cluster, Config};

static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);

/// The cluster, while one test has it.
///
/// Whoever disturbs it puts it right again. A test that fails does not: the next one gets a new cluster.
#[derive(Debug)]
pub struct Shared(MutexGuard<'static, Option<Cluster>>);

/// Exclusive use of the binary's cluster, of three nodes with Multus.
///
/// # Panics
///
/// If it does not start.
pub fn shared() -> Shared {
    let mut cluster = lock();
    cluster.get_or_insert_with(|| Cluster::up(Config::default()));
    Shared(cluster)
}

/// The same, with Megalos in it, ready.
///
/// # Panics
///
/// If it does not start or become ready.
pub fn with_megalos() -> Shared {
    let mut cluster = shared();
    let ready = if cluster.has_megalos() { cluster.wait_megalos() } else { cluster.install_megalos() };
    ready.unwrap_or_else(|error| panic!("{error}"));
    cluster
}

/// The same, in which Megalos has never been: another one where needed.
///
/// # Panics
///
/// If it does not start.
pub fn without_megalos() -> Shared {
    let mut cluster = lock();
    if cluster.as_ref().is_some_and(Cluster::has_megalos) {
        drop(cluster.take());
    }
    cluster.get_or_insert_with(|| Cluster::up(Config::default()));
    Shared(cluster)
}

fn lock() -> MutexGuard<'static, Option<Cluster>> {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // Statics are not dropped. The pipe to the cluster's keeper closes in any case; this also waits for it.
        // SAFETY: the handler is a function without arguments that does not unwind.
        unsafe { libc::atexit(end) };
    });
    CLUSTER.lock().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn end() {
    let cluster = match CLUSTER.try_lock() {
        Ok(mut cluster) => cluster.take(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take(),
        Err(TryLockError::WouldBlock) => None,
    };
    drop(cluster);
}

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().unwrap_or_else(|| unreachable!("it is there as long as the guard"))
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap_or_else(|| unreachable!("it is there as long as the guard"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(cluster) = self.0.take() {
            eprintln!("{}\n{}", cluster.story(), cluster.megalos_logs());
        }
    }
}
