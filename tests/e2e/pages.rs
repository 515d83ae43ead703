//! Every command in the pages about life in a real database, in their order, on a server where they make
//! sense. Blocks of other languages than sql, sh and conf are not commands.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Receiver, Server, TAKE_OVER_WARNINGS, Tree, create_supabase_roles, execute, load_former_system,
    value, wait_until,
};

use crate::traffic::{BUSINESS, READ_AND_WRITE, Traffic};

const SOON: Duration = Duration::from_secs(20);
const CREATE: &str = "create extension plugin_webhooks";

/// A server with a database `app`, and a directory to work in.
struct Site {
    server: Server,
    dir: PathBuf,
}

impl Site {
    fn new() -> Site {
        Site::in_tree(Tree::shared())
    }

    /// In a tree of one's own, to add files to.
    fn in_tree(tree: &Tree) -> Site {
        let server = Server::preloaded(
            tree,
            &[
                ("fsync", "off"),
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ],
        );
        execute(
            &mut server.connect("postgres"),
            "create database app template template0",
        );
        let dir = tree.dir().join(format!("pages-{}", server.port()));
        fs::create_dir(&dir).expect("a directory");
        Site { server, dir }
    }

    fn app(&self) -> Client {
        self.server.connect("app")
    }

    /// The former system in `app`.
    fn with_former_system(self, receiver: &Receiver) -> Site {
        load_former_system(&mut self.app(), receiver.url("").trim_end_matches('/'));
        for warning in TAKE_OVER_WARNINGS {
            self.server.allow_log(warning);
        }
        self
    }

    /// An application of the former system that goes on meanwhile.
    fn traffic(&self) -> Traffic {
        self.server.allow_log("canceling autovacuum task");
        execute(&mut self.app(), BUSINESS);
        Traffic::start(|| self.app(), &READ_AND_WRITE)
    }

    fn add_file(&self, name: &str, text: &str) {
        let path = self.server.tree().extension_dir().join(name);
        fs::write(path, text).expect("a file beside those of the extension");
    }

    /// Runs a page's commands.
    #[track_caller]
    fn follow(&self, page: &str) {
        for (language, text) in blocks(page) {
            match language.as_str() {
                "sql" => {
                    let output = self.server.psql("app", &text);
                    assert!(output.success, "{text}\n{}", output.stderr);
                }
                "sh" => self.shell(&text),
                "conf" => {
                    for line in text.lines() {
                        let (name, value) = line.split_once('=').expect("a setting");
                        self.server
                            .alter_system(name.trim(), value.trim().trim_matches('\''));
                    }
                }
                // What a statement prints.
                "" => {}
                other => panic!("no rule for a block of {other}"),
            }
        }
    }

    #[track_caller]
    fn shell(&self, text: &str) {
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.server.tree().bin_dir().display().to_string();
        let output = Command::new("/bin/sh")
            .args(["-e", "-c", text])
            .current_dir(&self.dir)
            .env("PATH", format!("{bin}:{path}"))
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.server.port().to_string())
            .env("PGUSER", "postgres")
            .output()
            .expect("run sh");
        assert!(
            output.status.success(),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Language and text of each fenced block.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language.to_owned(), text.join("\n")));
        }
    }
    assert!(!blocks.is_empty());
    blocks
}

fn paused(client: &mut Client) -> Option<String> {
    value(client, "select paused_because from plugin_webhooks.health")
}

/// A stand-in for pg_net that owns what the fixture made.
fn site_with_pg_net() -> Site {
    let site = Site::in_tree(&Tree::from_environment());
    for (name, text) in [
        ("pg_net.control", "default_version = '1'\n"),
        (
            "pg_net--1.sql",
            "alter extension pg_net add schema net; alter extension pg_net add table net._http_response;
             alter extension pg_net add sequence net.http_request_queue_id_seq;
             alter extension pg_net add function net.http_post;",
        ),
    ] {
        site.add_file(name, text);
    }
    let site = site.with_former_system(&Receiver::http());
    execute(&mut site.app(), "create extension pg_net");
    site
}

#[test]
fn taking_over() {
    let site = site_with_pg_net();
    let mut app = site.app();
    let traffic = site.traffic();
    site.follow(include_str!("../../docs/take-over.md"));
    traffic.end();
    assert_eq!(paused(&mut app), None);
    assert!(value::<bool>(
        &mut app,
        "select to_regnamespace('net') is null"
    ));
    let disabled: i64 = value(
        &mut app,
        "select count(*) from int.plugin_installations where status = 'disabled'",
    );
    assert_eq!(disabled, 9);
}

#[test]
fn going_back() {
    let site = site_with_pg_net();
    let mut app = site.app();
    execute(&mut app, CREATE);
    let oldest = "select array_agg(id order by id) from audit.entity_changes where id <= 50";
    let changes: Vec<i64> = value(&mut app, oldest);
    let traffic = site.traffic();
    site.follow(include_str!("../../docs/going-back.md"));
    traffic.end();
    assert_eq!(
        value::<Vec<i64>>(&mut app, oldest)[..changes.len()],
        changes
    );
    assert!(value::<bool>(
        &mut app,
        "select exists (select from pg_extension where extname = 'plugin_webhooks')"
    ));
}

#[test]
fn dump_and_restore() {
    let site = Site::new().with_former_system(&Receiver::http());
    site.server
        .allow_log("deliveries of database \"app_copy\" are paused");
    site.server
        .allow_log("deliveries of database \"app_new\" are paused");
    execute(&mut site.app(), CREATE);
    site.follow(include_str!("../../docs/dump-and-restore.md"));
    let mut copy = site.server.connect("app_copy");
    assert_eq!(paused(&mut copy), None);
    let owner: String = value(
        &mut copy,
        "select relowner::regrole::text from pg_class where oid = 'int.plugins'::regclass",
    );
    assert_eq!(owner, "legacy_owner");
    let indexes = "select count(*) from pg_indexes where schemaname in ('int', 'audit')";
    assert_eq!(
        value::<i64>(&mut copy, indexes),
        value::<i64>(&mut site.app(), indexes)
    );
}

#[test]
fn clones_and_failover() {
    let site = Site::new();
    site.server
        .allow_log("are paused: the data belongs to site");
    let mut app = site.app();
    create_supabase_roles(&mut app);
    execute(
        &mut app,
        &format!("{CREATE}; select public.rpc_register_plugin('desk', 'Desk')"),
    );
    site.follow(include_str!("../../docs/clones-and-failover.md"));
    let recorded: String = value(&mut app, "select site from plugin_webhooks.instance");
    assert_eq!(recorded, "production");
    wait_until(SOON, "the site to be active", || {
        paused(&mut site.app()).is_none()
    });
}

#[test]
fn upgrade() {
    let site = Site::in_tree(&Tree::from_environment());
    let first = include_str!("../../sql/released/plugin_webhooks--0.1.0.sql");
    site.add_file("plugin_webhooks--0.1.0.sql", first);
    let mut app = site.app();
    execute(&mut app, &format!("{CREATE} version '0.1.0'"));
    site.follow(include_str!("../../docs/upgrade.md"));
    let version: String = value(
        &mut app,
        "select extversion from pg_extension where extname = 'plugin_webhooks'",
    );
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}
