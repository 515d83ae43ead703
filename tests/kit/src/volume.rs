//! A small file system in memory, to stage a full disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BALLAST: &str = "ballast";

/// A mounted file system of a few megabytes. Unmounted when it is dropped, or by the tree's janitor.
pub struct Volume {
    dir: PathBuf,
}

impl Volume {
    /// Mounts an empty volume at `dir`; `None` when whoever runs the tests may not mount.
    pub fn mount(dir: &Path, megabytes: u32) -> Option<Volume> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=0700"))
            .arg("plugin-webhooks-test")
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Volume {
                dir: dir.to_owned(),
            })
    }

    /// Writes until no byte is left.
    pub fn fill(&self) {
        let mut ballast = File::create(self.dir.join(BALLAST)).expect("create the ballast");
        for size in [1 << 20, 1 << 12] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives the space back that [`Volume::fill`] took.
    pub fn make_room(&self) {
        fs::remove_file(self.dir.join(BALLAST)).expect("remove the ballast");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a process may still have a file of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
