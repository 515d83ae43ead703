//! What cleans up behind a run, however it ends.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that outlives ours by a moment: when the pipe to it closes, because we dismissed it,
/// exited, panicked or were killed, it ends every process whose program lies in the tree, unmounts what
/// is mounted there and then deletes the tree.
pub(super) struct Janitor {
    process: Child,
}

const JANITOR: &str = r#"
trap '' INT TERM HUP QUIT
cat >/dev/null
ours() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null) in
            "$1"/*) echo "${process#/proc/}" ;;
        esac
    done
}
for signal in QUIT KILL; do
    for pid in $(ours "$1"); do kill -s "$signal" "$pid" 2>/dev/null; done
    for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -n "$(ours "$1")" ] || break 2
        sleep 0.1
    done
done
while read -r device dir rest; do
    case $dir in "$1"/*) umount -l "$dir" ;; esac
done </proc/mounts
rm -rf -- "$1"
"#;

impl Janitor {
    pub(super) fn hire(root: &Path) -> Janitor {
        let process = Command::new("/bin/sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start /bin/sh");
        Janitor { process }
    }

    pub(super) fn dismiss(&mut self) {
        drop(self.process.stdin.take());
        // Nothing is left to do about a janitor that failed.
        let _ = self.process.wait();
    }
}
