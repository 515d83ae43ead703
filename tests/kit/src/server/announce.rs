//! What a server or a database is expected to log. How the log is read, and what needs announcing: see `log`.

use super::handle::Server;
use super::log::fail;

impl Server {
    /// Announces a message of level WARNING or higher whose lines contain `text`: one must be logged before the
    /// server ends, more may be.
    pub fn expect_log(&self, text: &str) {
        self.watch().announce(None, text, true);
    }

    /// The same for a message that may be logged or not, because that depends on time.
    pub fn allow_log(&self, text: &str) {
        self.watch().announce(None, text, false);
    }

    /// Announces a message about a database of this server.
    pub(crate) fn announce_about(&self, database: &str, text: &str, required: bool) {
        self.watch().announce(Some(database), text, required);
    }

    /// Sessions end from here until the server is ready again, because the test wants so.
    pub(super) fn interrupted(&self) {
        let from = self.log_bytes().len();
        self.watch().interrupted(from);
    }

    /// The messages about this database are checked when it goes.
    pub(crate) fn watch_database(&self, name: &str) {
        self.watch().watch_database(name);
    }

    /// Ends the sessions of a database while `drop_it` runs, then fails for what was logged about it, or about no
    /// database of a test, and is not announced.
    #[track_caller]
    pub(crate) fn end_database(&self, name: &str, drop_it: impl FnOnce()) {
        let from = self.log_bytes().len();
        let interruption = self.watch().interrupted(from);
        drop_it();
        let log = self.log_bytes();
        let complaint = {
            let mut watch = self.watch();
            watch.resumed(interruption, log.len());
            watch.check(&log, Some(name))
        };
        fail(complaint);
    }
}
