//! The operating-system user that servers run as: `postgres` when the tests run as root, because
//! PostgreSQL refuses to run as root, else whoever runs the tests.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// User and group to switch to, when that is not who we are already.
    switch_to: Option<(u32, u32)>,
}

impl Account {
    pub(crate) fn of_servers() -> Account {
        let switch_to = rustix::process::geteuid().is_root().then(|| {
            postgres_user().expect(
                "root runs the tests, but there is no user `postgres` to run servers as: \
                 install PostgreSQL's server package",
            )
        });
        Account { switch_to }
    }

    /// A command that runs as this user, free of what the environment would change about PostgreSQL.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = clean_command(program);
        if let Some((uid, gid)) = self.switch_to {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Lets `command`, which runs as us, go on as `program` and this user.
    pub(crate) fn switch(&self, command: &mut Command, program: &Path) {
        if let Some((uid, gid)) = self.switch_to {
            command.args(["setpriv", "--clear-groups"]);
            command.arg(format!("--reuid={uid}"));
            command.arg(format!("--regid={gid}"));
        }
        command.arg(program);
    }

    pub(crate) fn own(&self, path: &Path) {
        if let Some((uid, gid)) = self.switch_to {
            chown(path, Some(uid), Some(gid))
                .unwrap_or_else(|error| panic!("cannot give {} away: {error}", path.display()));
        }
    }
}

/// A command without libpq's variables, without a locale of its own and without Rust's backtraces,
/// which pgrx would put into the DETAIL of every error.
pub(crate) fn clean_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("PG") || name.starts_with("RUST_") || name.starts_with("LC_") {
            command.env_remove(name.as_ref());
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

fn postgres_user() -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let entry = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = entry.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
