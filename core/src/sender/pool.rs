//! Owns threads that take jobs from a queue: they start when they are needed, up to a bound, leave
//! when they are idle, and survive a panic. Never waits for one, and knows nothing of the jobs.

use std::{
    collections::VecDeque,
    io, mem,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Stack of a thread. Measured: a debug build needs between 64 and 128 KiB for TLS. getaddrinfo may
/// load NSS modules and keeps answers on the stack.
const STACK: usize = 512 * 1024;

/// How many threads a [`Pool`] may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Name of each thread.
    pub(super) name: &'static str,
    /// Most threads at once.
    pub(super) max_threads: usize,
    /// A thread without work leaves after this time.
    pub(super) max_idle: Duration,
}

/// Threads that do jobs of one kind.
///
/// Dropping it drops the jobs that no thread has taken yet and returns at once; a thread leaves
/// when its job ends.
pub(super) struct Pool<J> {
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    limits: Limits,
    jobs: Mutex<Jobs<J>>,
    queued: Condvar,
    work: Box<dyn Fn(J) + Send + Sync>,
}

struct Jobs<J> {
    queue: VecDeque<J>,
    closed: bool,
    /// Threads that run, and how many of them wait for a job.
    threads: usize,
    idle: usize,
}

impl<J: Send + 'static> Pool<J> {
    /// A pool without threads: [`Pool::submit`] starts them. A job whose `work` panics is lost, its
    /// thread goes on.
    pub(super) fn new(limits: Limits, work: impl Fn(J) + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                limits,
                jobs: Mutex::new(Jobs {
                    queue: VecDeque::new(),
                    closed: false,
                    threads: 0,
                    idle: 0,
                }),
                queued: Condvar::new(),
                work: Box::new(work),
            }),
        }
    }

    /// Queues a job, without bound, and starts a thread for it when all are busy and one more is
    /// allowed. Never blocks. New threads inherit the signal mask of the caller.
    ///
    /// # Errors
    /// No thread runs and none can be started: the job is dropped.
    pub(super) fn submit(&self, job: J) -> io::Result<()> {
        let mut jobs = lock(&self.shared.jobs);
        jobs.queue.push_back(job);
        if jobs.queue.len() > jobs.idle && jobs.threads < self.shared.limits.max_threads {
            match self.shared.spawn() {
                Ok(()) => jobs.threads += 1,
                // The threads that run will take it.
                Err(_) if jobs.threads > 0 => {}
                Err(error) => {
                    jobs.queue.pop_back();
                    return Err(error);
                }
            }
        }
        drop(jobs);
        self.shared.queued.notify_one();
        Ok(())
    }
}

impl<J> Drop for Pool<J> {
    fn drop(&mut self) {
        let mut jobs = lock(&self.shared.jobs);
        jobs.closed = true;
        let dropped = mem::take(&mut jobs.queue);
        drop(jobs);
        self.shared.queued.notify_all();
        drop(dropped);
    }
}

impl<J: Send + 'static> Shared<J> {
    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name(self.limits.name.to_owned())
            .stack_size(STACK)
            .spawn(move || {
                while let Some(job) = shared.next_job() {
                    no_panic(|| (shared.work)(job));
                }
            })
            .map(drop)
    }

    /// Waits for a job; `None` when this thread is to leave.
    fn next_job(&self) -> Option<J> {
        let mut jobs = lock(&self.jobs);
        let idle_since = Instant::now();
        loop {
            if let Some(job) = jobs.queue.pop_front() {
                return Some(job);
            }
            let patience = self.limits.max_idle.checked_sub(idle_since.elapsed());
            let Some(patience) = patience.filter(|_| !jobs.closed) else {
                jobs.threads -= 1;
                return None;
            };
            jobs.idle += 1;
            jobs = wait(&self.queued, jobs, patience);
            jobs.idle -= 1;
        }
    }
}

/// `None` when `f` panicked: no thread ends by that.
pub(super) fn no_panic<T>(f: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(f))
        // A payload may panic again when it is dropped.
        .map_err(mem::forget)
        .ok()
}

/// Nothing under the sender's locks panics half-way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification, at most `patience`.
pub(super) fn wait<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    patience: Duration,
) -> MutexGuard<'a, T> {
    condvar
        .wait_timeout(guard, patience)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

#[cfg(test)]
impl<J> Pool<J> {
    /// Threads that run, and how many of them are idle.
    pub(super) fn threads(&self) -> (usize, usize) {
        let jobs = lock(&self.shared.jobs);
        (jobs.threads, jobs.idle)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn limits(max_threads: usize, max_idle: Duration) -> Limits {
        Limits {
            name: "a test's pool",
            max_threads,
            max_idle,
        }
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "the condition never came true");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A pool whose jobs wait for a word each, or for the end of the channel.
    fn waiting(max_threads: usize) -> (Pool<()>, mpsc::Sender<()>) {
        let (release, words) = mpsc::channel::<()>();
        let words = Mutex::new(words);
        let pool = Pool::new(limits(max_threads, PATIENCE), move |()| {
            let _ = lock(&words).recv_timeout(PATIENCE);
        });
        (pool, release)
    }

    #[test]
    fn threads_start_when_they_are_needed_and_no_more_than_allowed() {
        let (pool, release) = waiting(3);
        assert_eq!(pool.threads(), (0, 0));
        for started in [1, 2, 3, 3, 3] {
            pool.submit(()).unwrap();
            assert_eq!(pool.threads().0, started);
        }
        (0..5).for_each(|_| release.send(()).unwrap());
        until(|| pool.threads() == (3, 3));
        pool.submit(()).unwrap();
        assert_eq!(pool.threads().0, 3, "an idle thread takes it");
    }

    #[test]
    fn an_idle_thread_leaves_and_the_next_job_starts_another() {
        let (done, jobs) = mpsc::channel();
        let work = move |n| done.send(n).unwrap();
        let pool = Pool::new(limits(2, Duration::from_millis(20)), work);
        for n in 0..3 {
            pool.submit(n).unwrap();
            assert_eq!(jobs.recv_timeout(PATIENCE), Ok(n));
            until(|| pool.threads() == (0, 0));
        }
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&done);
        let pool = Pool::new(limits(1, PATIENCE), move |job: bool| {
            counter.fetch_add(1, Ordering::SeqCst);
            assert!(job, "a test's panic");
        });
        for job in [false, false, true] {
            pool.submit(job).unwrap();
        }
        until(|| done.load(Ordering::SeqCst) == 3);
        until(|| pool.threads() == (1, 1));
    }

    #[test]
    fn dropping_waits_for_nobody_drops_what_waits_and_ends_the_threads() {
        let (pool, release) = waiting(2);
        (0..10).for_each(|_| pool.submit(()).unwrap());
        let shared = Arc::downgrade(&pool.shared);
        until(|| lock(&pool.shared.jobs).queue.len() == 8);
        let start = Instant::now();
        drop(pool);
        assert!(start.elapsed() < Duration::from_secs(1));
        assert!(lock(&shared.upgrade().unwrap().jobs).queue.is_empty());
        drop(release);
        until(|| shared.strong_count() == 0);
    }
}
