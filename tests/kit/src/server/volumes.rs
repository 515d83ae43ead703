//! Parts of a server on small volumes of their own.

use std::fs;
use std::process::Command;

use super::handle::Server;
use super::process::StopMode;
use crate::sql::{describe, quote_ident, quote_literal};
use crate::tree::run;
use crate::volume::Volume;

impl Server {
    /// Restarts the server with its WAL on a volume of its own; `None`, and nothing happens, when
    /// whoever runs the tests may not mount.
    pub fn move_wal_to_volume(&self, megabytes: u32) -> Option<Volume> {
        self.stop(StopMode::Fast);
        let wal = self.data_dir().join("pg_wal");
        let old = self.0.dir.join("old_wal");
        fs::rename(&wal, &old).expect("move the WAL away");
        fs::create_dir(&wal).expect("an empty directory");
        let volume = Volume::mount(&wal, megabytes);
        if volume.is_some() {
            self.0.tree.give_to_servers(&wal);
            run(Command::new("cp").arg("-aT").arg(&old).arg(&wal));
        } else {
            fs::remove_dir(&wal).expect("remove the empty directory");
            fs::rename(&old, &wal).expect("move the WAL back");
        }
        self.start_again();
        volume
    }

    /// Creates a tablespace on a volume of its own; `None` when whoever runs the tests may not mount.
    pub fn tablespace_on_volume(&self, name: &str, megabytes: u32) -> Option<Volume> {
        let dir = self.0.dir.join(name);
        fs::create_dir(&dir).expect("a directory for the tablespace");
        let volume = Volume::mount(&dir, megabytes)?;
        self.0.tree.give_to_servers(&dir);
        let sql = format!(
            "create tablespace {} location {}",
            quote_ident(name),
            quote_literal(&dir.display().to_string())
        );
        let mut client = self.connect("postgres");
        client
            .batch_execute(&sql)
            .unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
        Some(volume)
    }
}
