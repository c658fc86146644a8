//! The same work on many things at once, on a bounded number of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many jobs that mostly compute or call the kernel are run at once.
pub fn busy_limit() -> usize {
    thread::available_parallelism().map_or(4, |cores| cores.get() * 2).clamp(4, 32)
}

/// Runs `work` on every item and tells `done` how many are finished. After the
/// first error nothing new is begun; that error is returned.
///
/// # Errors
/// The first that `work` returned.
pub fn for_each<I: Sync, T: Send, E: Send>(
    items: &[I],
    limit: usize,
    done: impl Fn(usize) + Sync,
    work: impl Fn(usize, &I) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let finished = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(items.len()));
    let failure: Mutex<Option<E>> = Mutex::new(None);
    let run = || {
        loop {
            if failure.lock().unwrap_or_else(|e| e.into_inner()).is_some() {
                return;
            }
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return };
            match work(index, item) {
                Ok(result) => results.lock().unwrap_or_else(|e| e.into_inner()).push((index, result)),
                Err(error) => {
                    failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                    return;
                }
            }
            done(finished.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    thread::scope(|scope| {
        // The calling thread is one of the workers, so that there is always one.
        for _ in 1..limit.min(items.len()) {
            let _ = thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = for_each(&items, 8, |_| {}, |_, item| Ok::<_, ()>(item * 2)).unwrap();
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_begun_after_a_failure() {
        let begun = AtomicUsize::new(0);
        let items = [0; 1000];
        let fail = |index: usize, _: &i32| {
            begun.fetch_add(1, Ordering::Relaxed);
            if index == 3 { Err(index) } else { Ok(()) }
        };
        assert_eq!(for_each(&items, 1, |_| {}, fail), Err(3));
        assert_eq!(begun.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn never_more_than_the_limit_run_at_once() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_, _: &i32| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        };
        for_each(&[0; 200], 3, |_| {}, work).unwrap();
        assert!(most.load(Ordering::SeqCst) <= 3);
    }
}
