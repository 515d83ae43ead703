//! The file with the settings of a server.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tree::SETTINGS_FILE;

pub(super) fn write_config(dir: &Path, port: u16, settings: &[(String, String)]) {
    let mut text = String::new();
    let socket_dir = dir.display().to_string();
    let own = [
        ("unix_socket_directories", socket_dir.as_str()),
        ("port", &port.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in settings.iter().chain(&own) {
        writeln!(text, "{name} = {}", config_literal(value)).expect("write to a string");
    }
    fs::write(settings_path(dir), text).expect("write the settings");
}

/// The settings of the server in `dir`, without the two that must differ.
pub(super) fn inherited_settings(dir: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(settings_path(dir)).expect("read the settings");
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    lines
        .filter(|(name, _)| !matches!(*name, "port" | "unix_socket_directories"))
        .map(|(name, value)| {
            (
                name.to_owned(),
                value[1..value.len() - 1]
                    .replace("''", "'")
                    .replace("\\\\", "\\"),
            )
        })
        .collect()
}

fn settings_path(dir: &Path) -> PathBuf {
    dir.join("data").join(SETTINGS_FILE)
}

fn config_literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
