//! The embedded secret store: the key in its file, the plaintext nowhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Receiver, Server, Tree, as_user, assert_signed, count, create_supabase_roles,
    execute, expect_sqlstate, quote_ident, quote_literal, shared_server, sign, text, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
/// Found nowhere but where it was put.
const PLAINTEXT: &str = "pl41ntext-0f-th3-s3cr3t";

/// A server of one's own: the key file belongs to the whole server.
fn server_with(settings: &[(&str, &str)]) -> Server {
    Server::builder(Tree::shared())
        .preloaded()
        .setting("fsync", "off")
        .setting("plugin_webhooks.allowed_networks", "127.0.0.0/8")
        .settings(settings)
        .start()
}

fn server() -> Server {
    server_with(&[])
}

fn key_file(server: &Server) -> PathBuf {
    server.data_dir().join("plugin_webhooks.key")
}

fn create(name: &str) -> String {
    format!("select plugin_webhooks.create_secret('{PLAINTEXT}', '{name}')")
}

/// An installation that signs with the secret `signing`; inserts into `public.things` go to `url`.
#[track_caller]
fn install(client: &mut Client, url: &str) -> String {
    let config = quote_literal(&format!(r#"{{"webhook_url": "{url}"}}"#));
    execute(
        client,
        "create table public.things (id int generated always as identity primary key, tenant_id uuid);
         select audit.track('public.things');
         select public.rpc_register_plugin('demo', 'Demo');",
    );
    let installation = text(
        client,
        &format!("select public.rpc_install_plugin('{TENANT}', 'demo', 'signing', {config})::text"),
    );
    execute(
        client,
        &format!(
            "select public.rpc_upsert_plugin_webhook_subscription('{TENANT}', '{installation}', 'public', 'things', \
            '{{INSERT}}')"
        ),
    );
    installation
}

fn resolve(installation: &str) -> String {
    format!("select int.resolve_installation_signing_secret('{installation}')")
}

#[track_caller]
fn insert_thing(client: &mut Client) {
    execute(
        client,
        &format!("insert into public.things (tenant_id) values ('{TENANT}')"),
    );
}

mod the_key_file {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("the key file").mode() & 0o7777
    }

    #[test]
    fn appears_with_the_first_secret_and_only_the_server_reads_it() {
        let server = server();
        let path = key_file(&server);
        let database = server.database();
        assert!(!path.exists(), "not before it is needed");
        execute(&mut database.client(), &create("signing"));
        assert_eq!(mode(&path), 0o600);
        let data = fs::metadata(server.data_dir()).expect("the data directory");
        assert_eq!(fs::metadata(&path).expect("the key file").uid(), data.uid());
        let key = fs::read_to_string(&path).expect("the key");
        assert_eq!(key.trim().len(), 64);
        assert!(key.trim().bytes().all(|byte| byte.is_ascii_hexdigit()));
        execute(&mut database.client(), &create("another"));
        assert_eq!(fs::read_to_string(&path).expect("the key"), key);
    }

    #[test]
    fn of_two_first_secrets_at_once_is_one() {
        let server = server();
        let database = server.database();
        let sessions: Vec<Client> = (0..8).map(|_| database.client()).collect();
        thread::scope(|scope| {
            for (number, mut session) in sessions.into_iter().enumerate() {
                scope.spawn(move || execute(&mut session, &create(&format!("secret {number}"))));
            }
        });
        let mut client = database.client();
        assert_eq!(
            count(
                &mut client,
                "select count(distinct key_id) from plugin_webhooks.secret_names"
            ),
            1
        );
        let drafts: Vec<_> = fs::read_dir(server.data_dir())
            .expect("the data directory")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("plugin_webhooks.key"))
            .collect();
        assert_eq!(drafts, ["plugin_webhooks.key"]);
    }

    #[test]
    fn is_used_again_after_a_restart() {
        let server = server();
        let database = server.database();
        let receiver = Receiver::http();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, &receiver.url("/"));
        let key = fs::read(key_file(&server)).expect("the key");
        server.restart();
        let mut client = database.client();
        assert_eq!(text(&mut client, &resolve(&installation)), PLAINTEXT);
        assert_eq!(fs::read(key_file(&server)).expect("the key"), key);
        insert_thing(&mut client);
        assert_signed(&receiver.wait_for(1, SOON)[0], PLAINTEXT);
    }

    #[test]
    fn that_is_lost_is_not_replaced_while_secrets_need_it() {
        let server = server();
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, "https://receiver.invalid/");
        let path = key_file(&server);
        let kept = path.with_extension("kept");
        fs::rename(&path, &kept).expect("lose the key");
        for sql in [
            resolve(&installation),
            create("another"),
            format!(
                "select plugin_webhooks.update_secret(id, '{PLAINTEXT}') from plugin_webhooks.secret_names"
            ),
        ] {
            let error = expect_sqlstate(client.batch_execute(&sql), "55000");
            assert!(
                error.message().contains(&path.display().to_string()),
                "{}",
                error.message()
            );
            assert!(
                error.message().contains("does not exist"),
                "{}",
                error.message()
            );
            assert!(error.hint().is_some_and(|hint| hint.contains("Restore")));
            assert!(!path.exists(), "{sql} made a new key");
        }
        fs::rename(&kept, &path).expect("find the key");
        assert_eq!(text(&mut client, &resolve(&installation)), PLAINTEXT);

        fs::remove_file(&path).expect("lose the key for good");
        execute(
            &mut client,
            "select plugin_webhooks.delete_secret(id) from plugin_webhooks.secret_names",
        );
        execute(&mut client, &create("signing"));
        assert_eq!(text(&mut client, &resolve(&installation)), PLAINTEXT);
    }

    #[test]
    fn of_other_secrets_is_told_apart() {
        let server = server();
        let database = server.database();
        create_supabase_roles(&mut database.client());
        execute(
            &mut database.client(),
            "select plugin_webhooks.grant_to_roles()",
        );
        let receiver = Receiver::http();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, &receiver.url("/"));
        let right = fs::read(key_file(&server)).expect("the key");
        database.expect_log("its signing secret cannot be read");
        fs::write(key_file(&server), "5".repeat(64)).expect("another key");

        let error = expect_sqlstate(client.query_one(&resolve(&installation), &[]), "55000");
        assert!(error.message().contains("signing"), "{}", error.message());
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("another key"))
        );

        let signature = sign(PLAINTEXT, b"{}");
        let call = as_user(&mut database.authenticator(), "anon", "{}", |tx| {
            tx.query(
                "select public.rpc_plugin_ingest_webhook('demo', $1::text::uuid, '{}', $2)",
                &[&installation, &signature],
            )
        });
        // Which secret, and why, is told in the server log alone.
        expect_sqlstate(call, "28000");

        insert_thing(&mut client);
        wait_until(SOON, "a failed attempt", || {
            count(
                &mut client,
                "select count(*) from int.plugin_delivery_queue where attempts = 1 and last_error like '%secret%'",
            ) == 1
        });
        assert_eq!(receiver.count(), 0, "nothing leaves unsigned by accident");

        fs::write(key_file(&server), right).expect("the right key");
        assert_eq!(text(&mut client, &resolve(&installation)), PLAINTEXT);
    }

    #[test]
    fn open_to_others_is_refused() {
        let server = server();
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, "https://receiver.invalid/");
        for open in [0o644, 0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(key_file(&server), Permissions::from_mode(open)).expect("chmod");
            for sql in [resolve(&installation), create("another")] {
                let error = expect_sqlstate(client.batch_execute(&sql), "55000");
                assert!(error.message().contains("open to other users"), "{open:o}");
                assert!(error.hint().is_some_and(|hint| hint.contains("600")));
            }
        }
        fs::set_permissions(key_file(&server), Permissions::from_mode(0o400)).expect("chmod");
        assert_eq!(text(&mut client, &resolve(&installation)), PLAINTEXT);
    }

    #[test]
    fn of_wrong_form_is_refused_without_telling_its_content() {
        let server = server();
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        for content in ["", "feedface", &"zz".repeat(32), &"ab".repeat(33)] {
            fs::write(key_file(&server), content).expect("write");
            let error = expect_sqlstate(client.batch_execute(&create("another")), "55000");
            assert!(error.message().contains("does not hold a key"));
            assert!(
                error
                    .hint()
                    .is_some_and(|hint| hint.contains("64 hex digits"))
            );
            assert!(content.is_empty() || !format!("{error:?}").contains(content));
        }
        fs::remove_file(key_file(&server)).expect("remove");
        fs::create_dir(key_file(&server)).expect("a directory in its place");
        expect_sqlstate(client.batch_execute(&create("another")), "55000");
    }

    #[test]
    fn lies_where_the_setting_says() {
        let elsewhere = Tree::shared().dir().join("elsewhere.key");
        let server = server_with(&[(
            "plugin_webhooks.secret_key_file",
            elsewhere.to_str().expect("a path in UTF-8"),
        )]);
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, "https://receiver.invalid/");
        assert_eq!(mode(&elsewhere), 0o600);
        assert!(!key_file(&server).exists());

        let key = fs::read(&elsewhere).expect("the key");
        fs::rename(&elsewhere, server.data_dir().join("moved.key")).expect("move the key");
        server.alter_system("plugin_webhooks.secret_key_file", "moved.key");
        assert_eq!(
            text(&mut database.client(), &resolve(&installation)),
            PLAINTEXT
        );
        assert_eq!(
            fs::read(server.data_dir().join("moved.key")).expect("the key"),
            key
        );

        server.alter_system(
            "plugin_webhooks.secret_key_file",
            "/no/such/directory/plugin_webhooks.key",
        );
        let fresh = server.database();
        let error = expect_sqlstate(fresh.client().batch_execute(&create("signing")), "55000");
        assert!(
            error
                .message()
                .contains("/no/such/directory/plugin_webhooks.key")
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn is_in_no_table_and_no_dump() {
        let server = server();
        let database = server.database();
        execute(&mut database.client(), &create("signing"));
        let key = fs::read_to_string(key_file(&server)).expect("the key");
        let dump = dump(&database);
        assert!(dump.contains("signing"), "the secrets travel with the dump");
        assert!(!dump.contains(key.trim()));
        assert!(!dump.contains(PLAINTEXT));
    }
}

#[track_caller]
fn dump(database: &Database) -> String {
    let mut pg_dump = database.server().program("pg_dump");
    let output = pg_dump.arg(database.name()).output().expect("run pg_dump");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("a dump in UTF-8")
}

mod the_plaintext {
    use super::*;

    /// What is left of `text` once the lines with this marker are found in it.
    #[track_caller]
    fn assert_absent(place: &str, text: &str) {
        if let Some(line) = text.lines().find(|line| line.contains(PLAINTEXT)) {
            panic!("{place} shows the secret: {line}");
        }
    }

    #[test]
    fn is_back_after_a_restore() {
        let server = server();
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, "https://receiver.invalid/");
        let restored = server.empty_database();
        restored.allow_log("are paused: ");
        let output = restored.psql(&dump(&database));
        assert!(output.success, "{}", output.stderr);
        assert_eq!(
            text(&mut restored.client(), &resolve(&installation)),
            PLAINTEXT
        );
    }

    #[test]
    fn is_in_no_table_or_view() {
        let database = shared_server().database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        install(&mut client, "https://receiver.invalid/");
        insert_thing(&mut client);
        let rows = client
            .query(
                "select c.oid::regclass::text from pg_class c
                 where c.relkind in ('r', 'v') and c.relnamespace in
                     ('int'::regnamespace, 'audit'::regnamespace, 'plugin_webhooks'::regnamespace, \
                     'public'::regnamespace)",
                &[],
            )
            .expect("the relations");
        assert!(rows.len() > 12);
        for row in rows {
            let relation: String = row.get(0);
            let content = text(
                &mut client,
                &format!("select coalesce(string_agg(r::text, E'\\n'), '') from {relation} r"),
            );
            assert_absent(&relation, &content);
        }
        let hex: String = PLAINTEXT
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let stored = text(
            &mut client,
            "select encode(ciphertext, 'hex') from plugin_webhooks.secrets",
        );
        assert!(!stored.contains(&hex));
    }

    /// Another session holds the name, so that the call waits for as long as we look.
    #[test]
    fn is_not_in_pg_stat_activity_while_and_after_the_call() {
        let database = shared_server().database();
        let mut first = database.client();
        let mut holder = first.transaction().expect("begin");
        holder
            .batch_execute("select plugin_webhooks.create_secret('something else', 'taken')")
            .expect("hold the name");
        let mut second = database.client();
        let pid: i32 = second
            .query_one("select pg_backend_pid()", &[])
            .expect("a pid")
            .get(0);
        let mut watcher = database.client();
        let mut seen = |what: &str| -> (String, Option<String>) {
            let row = watcher.query_one(
                "select query, wait_event_type from pg_stat_activity where pid = $1",
                &[&pid],
            );
            let row = row.expect(what);
            (row.get(0), row.get(1))
        };
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                let result = second.batch_execute(&create("taken"));
                (second, result)
            });
            wait_until(SOON, "the call to wait for the name", || {
                seen("the call").1.as_deref() == Some("Lock")
            });
            let (query, _) = seen("the call");
            assert_absent("pg_stat_activity", &query);
            assert!(query.contains("hidden"), "{query}");
            holder.commit().expect("commit");
            let (_still_connected, result) = call.join().expect("the call");
            expect_sqlstate(result, "23505");
            let (query, _) = seen("the session afterwards");
            assert_absent("pg_stat_activity", &query);
        });
        // Other tests write secrets into the log of this server.
        let log = database.server().log();
        let ours = log.lines().filter(|line| line.contains(database.name()));
        assert_absent("the server's log", &ours.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn is_not_in_the_log_of_a_failed_call() {
        let server = server_with(&[
            ("log_min_error_statement", "debug5"),
            ("log_error_verbosity", "verbose"),
            ("log_min_messages", "info"),
            ("log_lock_waits", "on"),
            ("deadlock_timeout", "20ms"),
        ]);
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let id = text(
            &mut client,
            "select id::text from plugin_webhooks.secret_names",
        );
        for (sqlstate, sql) in [
            ("23505", create("signing")),
            ("23514", create("  ")),
            (
                "23514",
                format!("select plugin_webhooks.create_secret('{PLAINTEXT}', null)"),
            ),
            (
                "P0001",
                format!("select plugin_webhooks.update_secret(gen_random_uuid(), '{PLAINTEXT}')"),
            ),
            (
                "23514",
                format!("select plugin_webhooks.update_secret('{id}', '{PLAINTEXT}', '')"),
            ),
        ] {
            let error = expect_sqlstate(client.batch_execute(&sql), sqlstate);
            assert_absent(
                "the client's error",
                &format!(
                    "{} {:?} {:?}",
                    error.message(),
                    error.detail(),
                    error.where_()
                ),
            );
        }
        let refused = client.query(
            "select plugin_webhooks.create_secret($1, 'signing')",
            &[&PLAINTEXT],
        );
        expect_sqlstate(refused, "23505");

        fs::set_permissions(key_file(&server), Permissions::from_mode(0o644)).expect("chmod");
        expect_sqlstate(client.batch_execute(&create("another")), "55000");
        fs::set_permissions(key_file(&server), Permissions::from_mode(0o600)).expect("chmod");

        let mut other = database.client();
        let mut holder = other.transaction().expect("begin");
        holder
            .batch_execute("select plugin_webhooks.create_secret('something else', 'taken')")
            .expect("hold the name");
        execute(&mut client, "set lock_timeout = '300ms'");
        expect_sqlstate(client.batch_execute(&create("taken")), "55P03");
        holder.rollback().expect("rollback");

        let log = server.log();
        assert!(log.contains("STATEMENT:"), "statements are logged");
        assert!(log.contains("still waiting for"), "waits are logged");
        assert_absent("the server's log", &log);
    }

    #[test]
    fn is_not_in_the_log_when_a_function_passes_it_on() {
        let server = server();
        let database = server.database();
        let mut client = database.client();
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('something else', 'signing');
             create function public.store(secret text) returns uuid language plpgsql
                 as $$ begin return plugin_webhooks.create_secret(secret, 'signing'); end $$",
        );
        let sql = format!("select public.store('{PLAINTEXT}')");
        expect_sqlstate(client.batch_execute(&sql), "23505");
        assert_absent("the server's log", &server.log());
    }

    #[test]
    fn is_not_in_the_log_of_a_session_that_goes_on() {
        let server = server_with(&[("log_min_error_statement", "debug5")]);
        let database = server.database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        expect_sqlstate(client.batch_execute("select 1/0"), "22012");
        let log = server.log();
        assert!(
            log.contains("STATEMENT:  select 1/0"),
            "other statements show"
        );
        assert_absent("the server's log", &log);
        let pid = "select query from pg_stat_activity where pid = pg_backend_pid()";
        assert_eq!(text(&mut client, pid), pid);
    }
}

mod a_secret {
    use super::*;

    #[test]
    fn that_is_rotated_signs_the_next_delivery() {
        let database = shared_server().database();
        let receiver = Receiver::http();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        install(&mut client, &receiver.url("/"));
        insert_thing(&mut client);
        assert_signed(&receiver.wait_for(1, SOON)[0], PLAINTEXT);
        for (arrived, secret) in [(2, "rotated"), (3, "rotated again: ä€😀")] {
            execute(
                &mut client,
                &format!(
                    "select plugin_webhooks.update_secret(id, '{secret}')
                     from plugin_webhooks.secret_names where name = 'signing'"
                ),
            );
            insert_thing(&mut client);
            assert_signed(&receiver.wait_for(arrived, SOON)[arrived - 1], secret);
        }
    }

    /// The worker's transaction may have begun before the rotation whose deliveries it claims.
    #[test]
    fn that_is_rotated_while_the_worker_looks_signs_what_it_sends_then() {
        let database = shared_server().database();
        let receiver = Receiver::http();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        install(&mut client, &receiver.url("/"));
        // The worker waits after it has begun, in the middle of its claim.
        execute(
            &mut client,
            "create function public.wait_for_the_test() returns trigger language plpgsql as
                 'begin perform pg_advisory_xact_lock_shared(1); return null; end';
             create trigger waits before update on int.plugin_delivery_queue
                 for each statement execute function public.wait_for_the_test();",
        );
        let mut holder = database.client();
        execute(&mut holder, "begin; select pg_advisory_xact_lock(1)");
        insert_thing(&mut client);
        wait_until(SOON, "the worker to wait in the middle of a look", || {
            count(
                &mut client,
                "select count(*) from pg_locks where not granted and locktype = 'advisory'
                 and database = (select oid from pg_database where datname = current_database())",
            ) == 1
        });
        execute(
            &mut client,
            "select plugin_webhooks.update_secret(id, 'rotated') from plugin_webhooks.secret_names",
        );
        insert_thing(&mut client);
        execute(&mut holder, "rollback");
        for request in receiver.wait_for(2, SOON) {
            assert_signed(&request, "rotated");
        }
    }

    #[test]
    fn that_is_rolled_back_was_never_there() {
        let database = shared_server().database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, "https://receiver.invalid/");
        execute(
            &mut client,
            "begin;
             select plugin_webhooks.update_secret(id, 'never') from plugin_webhooks.secret_names;
             rollback;",
        );
        assert_eq!(text(&mut client, &resolve(&installation)), PLAINTEXT);
    }

    #[test]
    fn that_is_deleted_leaves_deliveries_unsigned_and_a_warning() {
        let server = server();
        let database = server.database();
        let receiver = Receiver::http();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, &receiver.url("/"));
        insert_thing(&mut client);
        receiver.wait_for(1, SOON);
        let warned = || {
            server
                .log()
                .lines()
                .any(|line| line.contains("WARNING") && line.contains(&installation))
        };
        assert!(!warned());
        database.expect_log("secret_ref resolves to no secret");
        execute(
            &mut client,
            "select plugin_webhooks.delete_secret(id) from plugin_webhooks.secret_names",
        );
        insert_thing(&mut client);
        let requests = receiver.wait_for(2, SOON);
        assert_eq!(requests[1].header("X-Plugin-Signature"), None);
        wait_until(SOON, "a WARNING that names the installation", warned);

        execute(&mut client, &create("signing"));
        insert_thing(&mut client);
        assert_signed(&receiver.wait_for(3, SOON)[2], PLAINTEXT);
    }

    #[test]
    fn that_never_was_asked_for_is_not_missed() {
        let server = server();
        let database = server.database();
        let receiver = Receiver::http();
        let mut client = database.client();
        let installation = install(&mut client, &receiver.url("/"));
        execute(
            &mut client,
            &format!(
                "select public.rpc_update_plugin_installation('{TENANT}', '{installation}', p_secret_ref => '')"
            ),
        );
        insert_thing(&mut client);
        let request = &receiver.wait_for(1, SOON)[0];
        assert_eq!(request.header("X-Plugin-Signature"), None);
        wait_until(SOON, "the outcome", || {
            count(
                &mut client,
                "select count(*) from int.plugin_delivery_queue where status = 'delivered'",
            ) == 1
        });
        let log = server.log();
        let misleading = log
            .lines()
            .find(|line| line.contains("secret_ref resolves"));
        assert_eq!(misleading, None, "there is no secret_ref to resolve");
    }

    #[test]
    fn moved_to_another_row_does_not_open() {
        let database = shared_server().database();
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('something else', 'other');
             update plugin_webhooks.secrets s set nonce = o.nonce, ciphertext = o.ciphertext
             from plugin_webhooks.secrets o where s.name = 'signing' and o.name = 'other'",
        );
        let installation = install(&mut client, "https://receiver.invalid/");
        expect_sqlstate(client.query_one(&resolve(&installation), &[]), "55000");
    }

    #[test]
    fn is_reached_by_nobody_but_the_owner() {
        let database = shared_server().database_with(|client| {
            create_supabase_roles(client);
            execute(
                client,
                "do $$ begin create role secret_keeper; exception when duplicate_object then null; end $$",
            );
        });
        let mut client = database.client();
        execute(&mut client, &create("signing"));
        let installation = install(&mut client, "https://receiver.invalid/");
        for role in ["anon", "authenticated", "service_role"] {
            for sql in [
                // PostgreSQL logs a call that it refuses before the function can hide anything.
                "select plugin_webhooks.create_secret('another one', 'another')".to_owned(),
                resolve(&installation),
                "select * from plugin_webhooks.secrets".to_owned(),
                "select * from plugin_webhooks.secret_names".to_owned(),
            ] {
                let refused = as_user(&mut database.authenticator(), role, "{}", |tx| {
                    tx.batch_execute(&sql)
                });
                expect_sqlstate(refused, "42501");
            }
        }
        // An operator may be let in by hand, without the right to read anything back.
        execute(
            &mut client,
            &format!(
                "grant usage on schema plugin_webhooks to {keeper};
                 grant execute on function plugin_webhooks.create_secret(text, text, text, uuid, text) to {keeper};
                 set role {keeper}",
                keeper = quote_ident("secret_keeper")
            ),
        );
        execute(&mut client, &create("kept"));
        expect_sqlstate(
            client.batch_execute("select * from plugin_webhooks.secrets"),
            "42501",
        );
    }
}
