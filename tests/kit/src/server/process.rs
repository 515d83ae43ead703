//! The processes of a server: how they start, stop, freeze and die.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::handle::{Inner, START_DEADLINE, SUPERUSER, Server};
use super::log::{READY, START_MARK, fail};
use crate::sql::value;
use crate::wait::wait_until;

const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// How to end a server: see `pg_ctl stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has gone.
    Smart,
    /// Ends the sessions, writes a checkpoint.
    Fast,
    /// Ends everything at once; the next start recovers.
    Immediate,
}

impl Server {
    /// Stops the server and returns how long that took.
    pub fn stop(&self, mode: StopMode) -> Duration {
        let signal = match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.end_with(signal)
    }

    /// Kills the postmaster as a power failure would; start again with [`Server::start_again`].
    pub fn crash(&self) {
        // Starting again is tried while the old processes are leaving.
        self.allow_log("pre-existing shared memory block");
        self.end_with(Signal::KILL);
    }

    fn end_with(&self, signal: Signal) -> Duration {
        let started = Instant::now();
        let mut process = self.process();
        let Some(mut postmaster) = process.take() else {
            return Duration::ZERO;
        };
        self.interrupted();
        send(signal, &postmaster);
        wait_until(STOP_DEADLINE, "the server to stop", || {
            exited(&mut postmaster)
        });
        started.elapsed()
    }

    /// Starts the stopped server on the same port and data.
    pub fn start_again(&self) {
        assert!(self.process().is_none(), "the server is running");
        let deadline = Instant::now() + START_DEADLINE;
        while let Err(reason) = self.try_start() {
            // Orphans of a killed postmaster hold its shared memory until they notice.
            let orphans = self.log_of_last_start().contains("still in use");
            assert!(orphans && Instant::now() < deadline, "{reason}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops fast and starts again.
    pub fn restart(&self) {
        self.stop(StopMode::Fast);
        self.start_again();
    }

    /// Kills one process of the server, which makes PostgreSQL end all others and recover.
    pub fn kill_9(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        self.interrupted();
        kill_process(pid, Signal::KILL).expect("kill the process");
    }

    /// Ends one session or background worker as `pg_terminate_backend` does, and waits until it has gone.
    pub fn terminate(&self, pid: i32) {
        self.allow_log(&format!("[{pid}] "));
        let gone: bool = value(
            &mut self.connect("postgres"),
            &format!("select pg_terminate_backend({pid}, 10000)"),
        );
        assert!(gone, "process {pid} did not end");
    }

    /// Freezes one process of the server with all its threads.
    pub fn pause(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::STOP).expect("pause the process");
    }

    /// Lets a frozen process go on.
    pub fn resume(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::CONT).expect("resume the process");
    }

    /// Kills one process of the server and waits until the server has recovered from that.
    pub fn kill_9_and_recover(&self, pid: i32) {
        let readiness = || self.log().matches(READY).count();
        let before = readiness();
        self.kill_9(pid);
        wait_until(START_DEADLINE, "recovery after kill -9", || {
            readiness() > before
        });
        self.wait_ready();
    }

    /// Waits until the server accepts connections.
    pub fn wait_ready(&self) {
        wait_until(START_DEADLINE, "the server to accept connections", || {
            self.try_connect_as("postgres", SUPERUSER).is_ok()
        });
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> i32 {
        let process = self.process();
        let id = process.as_ref().expect("the server is running").id();
        i32::try_from(id).expect("a process id")
    }

    pub(super) fn try_start(&self) -> Result<(), String> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the log");
        writeln!(&log, "{START_MARK}").expect("write to the log");
        let mut postgres = match self.0.name_server {
            None => self.0.tree.server_program("postgres"),
            Some(address) => {
                self.0
                    .tree
                    .server_program_with_names("postgres", &self.0.dir, address)
            }
        };
        postgres
            .arg("-D")
            .arg(self.data_dir())
            .envs(self.0.environment.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .process_group(0);
        let mut postmaster = postgres.spawn().expect("start postgres");
        let deadline = Instant::now() + START_DEADLINE;
        while !self.says_ready(&postmaster) {
            if exited(&mut postmaster) {
                return Err(format!(
                    "postgres did not start:\n{}",
                    self.log_of_last_start()
                ));
            }
            if Instant::now() > deadline {
                send(Signal::QUIT, &postmaster);
                let _ = postmaster.wait();
                return Err(format!(
                    "postgres was not ready in time:\n{}",
                    self.log_of_last_start()
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
        *self.process() = Some(postmaster);
        Ok(())
    }

    /// Whether the postmaster's lock file, which `pg_ctl` reads too, says that sessions may come.
    fn says_ready(&self, postmaster: &Child) -> bool {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&postmaster.id().to_string())
            && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let end_of_test = self.log_bytes().len();
        let process = self
            .process
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(mut postmaster) = process.take() {
            send(Signal::QUIT, &postmaster);
            let _ = postmaster.wait();
        }
        let log = self.log_bytes();
        let watch = self.watch.get_mut().unwrap_or_else(PoisonError::into_inner);
        watch.interrupted(end_of_test);
        let complaint = watch.check(&log, None);
        // The tree's janitor deletes what cannot be deleted now.
        let _ = fs::remove_dir_all(&self.dir);
        if !thread::panicking() {
            fail(complaint);
        }
    }
}

fn send(signal: Signal, process: &Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    // A process that has gone already needs no signal.
    let _ = kill_process(pid.expect("a process id"), signal);
}

fn exited(process: &mut Child) -> bool {
    process
        .try_wait()
        .expect("ask for the exit status")
        .is_some()
}
