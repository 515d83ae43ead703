//! What servers log. Every message of level WARNING or higher is one that its test announced, else the test fails.
//!
//! A test need not announce what it is told anyway: the errors that its own sessions get, and that sessions
//! end while the kit stops, crashes or kills something. Messages about a database are checked when its test drops
//! it, all others by whoever comes next and when the server ends. A test that panics already is left alone.

use std::collections::HashMap;

/// The `application_name` of a test's sessions, and of the programs that it runs.
pub(super) const APPLICATION: &str = "e2e";
/// The line of the log that separates a start from the one before.
pub(super) const START_MARK: &str = "---- start ----";
/// Once more in the log for each time that sessions may come again.
pub(super) const READY: &str = "database system is ready to accept";
/// Between bars: what the process is, its database, its application and the SQLSTATE.
pub(super) const LINE_PREFIX: &str = "%m [%p] |%b|%d|%a|%e| ";

const LEVELS: [&str; 4] = ["WARNING", "ERROR", "FATAL", "PANIC"];
/// The lines that follow a message and belong to it.
const FURTHER: [&str; 6] = [
    "DETAIL",
    "HINT",
    "QUERY",
    "CONTEXT",
    "STATEMENT",
    "LOCATION",
];
/// The postmaster logs at level LOG only that a process crashed.
const CRASHED: &str = "was terminated by signal";
/// The server is stopping, starting or recovering.
const NOT_READY: [&str; 2] = ["57P02", "57P03"];
const NO_DATABASE: &str = "3D000";
const TERMINATED: &str = "57P01";
/// A session that waits for a synchronous standby when the postmaster dies prompts once before it goes.
const PROMPT: &str = "backend> ";

const ADVICE: &str = "\
Mend what logs this. If the test means it to happen, announce it before it does, with a part of its line:
`database.expect_log(…)`, or `allow_log` when it depends on time whether it comes. The same methods of the server
announce it for all databases.";

/// What is announced and what has been checked.
#[derive(Default)]
pub(super) struct Watch {
    announcements: Vec<Announcement>,
    interruptions: Vec<Interruption>,
    /// The databases of tests, and how far the messages about each have been checked.
    databases: HashMap<String, usize>,
    /// How far all other messages have been.
    others: usize,
}

struct Announcement {
    /// The one database that is meant, or any.
    database: Option<String>,
    text: String,
    required: bool,
    met: bool,
}

/// The part of the log in which the kit ended sessions.
struct Interruption {
    from: usize,
    /// Unless it lasts until the server is ready again.
    to: Option<usize>,
}

/// A message that needs announcing, or a line that PostgreSQL did not write.
#[derive(Default)]
struct Message {
    offset: usize,
    process: String,
    database: String,
    application: String,
    sqlstate: String,
    level: String,
    /// All of its lines as they are in the log.
    text: String,
}

#[track_caller]
pub(super) fn fail(complaint: Option<String>) {
    if let Some(complaint) = complaint {
        panic!("{complaint}");
    }
}

impl Watch {
    /// Announces a message about this database, or about any; `required`: it must be logged.
    pub(super) fn announce(&mut self, database: Option<&str>, text: &str, required: bool) {
        self.announcements.push(Announcement {
            database: database.map(str::to_owned),
            text: text.to_owned(),
            required,
            met: false,
        });
    }

    /// Sessions end from here on; returns the number of the interruption.
    pub(super) fn interrupted(&mut self, from: usize) -> usize {
        self.interruptions.push(Interruption { from, to: None });
        self.interruptions.len() - 1
    }

    /// The interruption of this number has ended.
    pub(super) fn resumed(&mut self, interruption: usize, to: usize) {
        self.interruptions[interruption].to = Some(to);
    }

    /// The messages about this database are checked when it goes.
    pub(super) fn watch_database(&mut self, name: &str) {
        self.databases.insert(name.to_owned(), 0);
    }

    /// What is wrong with the messages about `database` and about no database of a test; without `database`, with
    /// all that are left.
    pub(super) fn check(&mut self, log: &[u8], database: Option<&str>) -> Option<String> {
        let mut unannounced = String::new();
        for message in parse(log) {
            let about = self.database_of(&message);
            let due = about.is_none() || database.is_none() || about.as_deref() == database;
            let checked = match &about {
                Some(name) => self.databases[name],
                None => self.others,
            };
            let fine = !due
                || message.offset < checked
                || self.is_announced(&message, about.as_deref())
                || is_answer(&message)
                || is_late(&message)
                || self.is_interruption(&message, log);
            if !fine {
                unannounced.push_str(&message.text);
            }
        }
        self.others = log.len();
        if let Some(checked) = database.and_then(|name| self.databases.get_mut(name)) {
            *checked = log.len();
        }
        let mut complaint = String::new();
        if !unannounced.is_empty() {
            complaint =
                format!("the server logged what no test announced:\n{unannounced}{ADVICE}\n");
        }
        self.announcements.retain(|announcement| {
            let due = database.is_none() || announcement.database.as_deref() == database;
            if due && announcement.required && !announcement.met {
                complaint.push_str("the test announced a message that the server did not log: ");
                complaint.push_str(&announcement.text);
                complaint.push('\n');
            }
            !due
        });
        (!complaint.is_empty()).then_some(complaint)
    }

    /// The database of a test that a message is about. Background workers have none in their prefix; a message
    /// that matters names it.
    fn database_of(&self, message: &Message) -> Option<String> {
        let names = |name: &&String| {
            message.database == **name || message.text.contains(&format!("\"{name}\""))
        };
        if message.database.is_empty() {
            self.databases.keys().find(names).cloned()
        } else {
            self.databases
                .contains_key(&message.database)
                .then(|| message.database.clone())
        }
    }

    /// Whether any test announced it, when nothing tells which one it belongs to.
    fn is_announced(&mut self, message: &Message, about: Option<&str>) -> bool {
        let mut announced = false;
        for announcement in &mut self.announcements {
            let meant = about.is_none()
                || announcement.database.is_none()
                || announcement.database.as_deref() == about;
            if meant && message.text.contains(&announcement.text) {
                announcement.met = true;
                announced = true;
            }
        }
        announced
    }

    /// Whether a process ended because the kit wanted so.
    fn is_interruption(&self, message: &Message, log: &[u8]) -> bool {
        let ends = message.sqlstate == TERMINATED
            || message.text.starts_with(PROMPT)
            || message.text.contains(CRASHED);
        ends && self.interruptions.iter().any(|interruption| {
            interruption.from <= message.offset
                && match interruption.to {
                    Some(to) => message.offset < to,
                    None => !contains(&log[interruption.from..message.offset], READY),
                }
        })
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// Whether the message was the answer to the test's own session, which knows it then. An internal error is nothing
/// that a test expects silently.
fn is_answer(message: &Message) -> bool {
    ["ERROR", "FATAL"].contains(&message.level.as_str())
        && message.process == "client backend"
        && message.application == APPLICATION
        && !message.sqlstate.starts_with("XX")
}

/// Whether a process came when the server was not ready, which has a message of its own, or a background worker to
/// a database that was dropped meanwhile.
fn is_late(message: &Message) -> bool {
    let is_worker = message.process != "client backend";
    NOT_READY.contains(&message.sqlstate.as_str()) || is_worker && message.sqlstate == NO_DATABASE
}

/// The messages that need announcing.
fn parse(log: &[u8]) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut open = false;
    let mut end = 0;
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let offset = end;
        end += line.len();
        let line = String::from_utf8_lossy(line);
        let head = head(&line);
        if line.starts_with('\t') || head.is_some_and(|(_, level)| FURTHER.contains(&level)) {
            if let Some(message) = messages.last_mut().filter(|_| open) {
                message.text.push_str(&line);
            }
            continue;
        }
        let message = message(offset, &line, head);
        open = message.is_some();
        messages.extend(message);
    }
    messages
}

/// The prefix and the level of a line that PostgreSQL wrote.
fn head(line: &str) -> Option<(&str, &str)> {
    let (head, _) = line.split_once(":  ")?;
    // Before it has read its configuration, a server writes no prefix.
    let (prefix, level) = head.rsplit_once(' ').unwrap_or(("", head));
    let known = prefix.is_empty() || prefix.contains("] |");
    (known && level.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some((prefix, level))
}

fn message(offset: usize, line: &str, head: Option<(&str, &str)>) -> Option<Message> {
    let text = line.to_owned();
    let Some((prefix, level)) = head else {
        let stray = !line.trim().is_empty() && line.trim_end() != START_MARK;
        return stray.then(|| Message {
            offset,
            text,
            ..Message::default()
        });
    };
    let mut fields = prefix.split('|').skip(1).map(str::to_owned);
    let mut field = || fields.next().unwrap_or_default();
    (LEVELS.contains(&level) || line.contains(CRASHED)).then(|| Message {
        offset,
        process: field(),
        database: field(),
        application: field(),
        sqlstate: field(),
        level: level.to_owned(),
        text,
    })
}
