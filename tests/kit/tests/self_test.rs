//! The kit keeps its own promises. Nothing here needs the extension.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use plugin_webhooks_kit::{
    Ca, Dns, HOST_SCHEMA, Received, Receiver, Records, Reply, RoleOptions, Server, StopMode,
    SystemFiles, Tree, as_user, create_supabase_roles, create_supabase_roles_with, expect_sqlstate,
    sign, verify_signature, wait_until,
};
use rustls::pki_types::ServerName;

const SOON: Duration = Duration::from_secs(10);

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(Tree::without_extension)
}

/// The server of the tests that leave it running.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(tree(), &[("fsync", "off")]))
}

fn post(path: &str, body: &str, extra: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends raw bytes and reads until the receiver closes or `wait` has passed.
fn exchange(receiver: &Receiver, request: &str, wait: Duration) -> String {
    let mut stream = TcpStream::connect(receiver.address()).expect("connect to the receiver");
    stream.set_read_timeout(Some(wait)).expect("set a timeout");
    stream
        .write_all(request.as_bytes())
        .expect("send the request");
    let mut answer = Vec::new();
    // A timeout ends the reading of a connection that stays open.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn exchange_and_close(receiver: &Receiver, path: &str) -> String {
    exchange(receiver, &post(path, "{}", "Connection: close\r\n"), SOON)
}

mod tree_of_our_own {
    use super::*;

    #[test]
    fn programs_find_their_own_tree() {
        let output = tree().program("pg_config").output().expect("run pg_config");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for (name, path) in [
            ("BINDIR", tree().bin_dir().to_owned()),
            ("PKGLIBDIR", tree().library_dir()),
            (
                "SHAREDIR",
                tree()
                    .extension_dir()
                    .parent()
                    .expect("a parent")
                    .to_owned(),
            ),
        ] {
            let line = format!("{name} = {}", path.display());
            assert!(
                text.lines().any(|candidate| candidate == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_server_reads_its_extensions_from_the_tree() {
        let control = "comment = 'only here'\ndefault_version = '1'\n";
        std::fs::write(tree().extension_dir().join("only_here.control"), control)
            .expect("a control file");
        std::fs::write(
            tree().extension_dir().join("only_here--1.sql"),
            "create table only_here ();",
        )
        .expect("a script");
        let database = server().empty_database();
        database
            .client()
            .batch_execute("create extension only_here")
            .expect("create extension");
    }

    #[test]
    fn nothing_that_a_test_writes_reaches_the_system() {
        let before = SystemFiles::now();
        let own = Tree::without_extension();
        for dir in [
            own.bin_dir().to_owned(),
            own.library_dir(),
            own.extension_dir(),
        ] {
            for entry in std::fs::read_dir(&dir).expect("a directory of the tree") {
                let path = entry.expect("an entry").path();
                // A directory can be a link: a file in it is nobody's to write.
                if !path.is_dir() {
                    let real = path.canonicalize().expect("where it lies");
                    assert!(real.starts_with(own.dir()), "{}", real.display());
                    std::fs::write(&path, "written by a test").expect("write in place");
                }
            }
            std::fs::write(dir.join("only_here"), "").expect("write a new file");
        }
        drop(own);
        let none: Vec<String> = Vec::new();
        assert_eq!(before.changes_until(&SystemFiles::now()), none);
    }

    #[test]
    fn a_change_of_the_systems_files_would_be_noticed() {
        let own = Tree::without_extension();
        let pg_config = own.bin_dir().join("pg_config");
        let before = SystemFiles::of(&pg_config);
        let [control, script] =
            ["plpgsql.control", "plpgsql--1.0.sql"].map(|name| own.extension_dir().join(name));
        let added = own.extension_dir().join("added.control");
        std::fs::write(&control, "written by a test").expect("write in place");
        std::fs::remove_file(&script).expect("delete");
        std::fs::write(&added, "").expect("write a new file");
        let line = |word, path: &PathBuf| format!("{word}: {}", path.display());
        let mut changes = before.changes_until(&SystemFiles::of(&pg_config));
        // Its directory has another time, too.
        changes.retain(|change| !change.ends_with("/extension"));
        assert_eq!(
            changes,
            [
                line("deleted", &script),
                line("changed", &control),
                line("added", &added)
            ]
        );
    }

    #[test]
    fn a_dropped_tree_is_deleted() {
        let own = Tree::without_extension();
        let dir = own.dir().to_owned();
        let server = Server::start(&own, &[]);
        drop(own);
        assert!(dir.exists(), "the server still needs it");
        drop(server);
        assert!(!dir.exists());
    }

    #[test]
    fn a_killed_test_leaves_neither_servers_nor_files() {
        let helper = Command::new(std::env::current_exe().expect("this test's program"))
            .args([
                "--ignored",
                "--exact",
                "tree_of_our_own::helper_that_dies",
                "--nocapture",
            ])
            .output()
            .expect("run the helper");
        assert!(!helper.status.success(), "the helper was killed");
        let told = String::from_utf8_lossy(&helper.stdout).into_owned();
        let find = |label| {
            told.lines()
                .find_map(|line| line.strip_prefix(label))
                .expect("what the helper told")
        };
        let (dir, postmaster) = (
            PathBuf::from(find("tree ")),
            PathBuf::from(find("postmaster ")),
        );
        wait_until(SOON, "the killed helper's tree to go", || !dir.exists());
        wait_until(SOON, "the killed helper's server to go", || {
            !postmaster.exists()
        });
    }

    #[test]
    #[ignore = "a_killed_test_leaves_neither_servers_nor_files runs it"]
    fn helper_that_dies() {
        let own = Tree::without_extension();
        let server = Server::start(&own, &[]);
        println!("\ntree {}", own.dir().display());
        println!("postmaster /proc/{}", server.postmaster_pid());
        server.kill_9(i32::try_from(std::process::id()).expect("a process id"));
    }
}

mod server {
    use super::*;

    #[test]
    fn settings_arrive() {
        const TEXT: &str = r"it's a \ test";
        let own = Server::start(
            tree(),
            &[("fsync", "off"), ("work_mem", "5MB"), ("e2e.text", TEXT)],
        );
        let show = "show work_mem; show e2e.text";
        assert_eq!(own.psql("postgres", show).stdout, format!("5MB\n{TEXT}\n"));
        own.alter_system("work_mem", "6MB");
        assert_eq!(own.psql("postgres", show).stdout, format!("6MB\n{TEXT}\n"));
        own.restart();
        assert_eq!(own.psql("postgres", show).stdout, format!("6MB\n{TEXT}\n"));
    }

    #[test]
    fn fsync_is_on_unless_a_test_chooses_otherwise() {
        let own = Server::start(tree(), &[]);
        assert_eq!(own.psql("postgres", "show fsync").stdout, "on\n");
    }

    #[test]
    fn psql_stops_at_the_first_error() {
        let output = server().psql("postgres", "select 1; select 1/0; select 2");
        assert!(!output.success);
        assert_eq!(output.stdout, "1\n");
        assert!(
            output.stderr.contains("division by zero"),
            "{}",
            output.stderr
        );
    }

    #[test]
    fn it_recovers_from_the_death_of_a_backend() {
        let own = Server::start(tree(), &[("fsync", "off")]);
        let mut client = own.connect("postgres");
        let backend: i32 = client
            .query_one("select pg_backend_pid()", &[])
            .expect("a pid")
            .get(0);
        own.kill_9_and_recover(backend);
        assert!(
            client.simple_query("select 1").is_err(),
            "the old session has gone"
        );
        own.connect("postgres")
            .simple_query("select 1")
            .expect("a new session works");
    }

    #[test]
    fn committed_rows_survive_a_crash() {
        let own = Server::start(tree(), &[]);
        own.connect("postgres")
            .batch_execute("create table kept as select 1 as id")
            .expect("commit");
        own.crash();
        own.start_again();
        let row = own
            .connect("postgres")
            .query_one("select id from kept", &[])
            .expect("the row");
        assert_eq!(row.get::<_, i32>(0), 1);
        assert!(
            own.log().contains("automatic recovery in progress")
                || own.log().contains("not properly shut down")
        );
    }

    #[test]
    fn every_stop_mode_stops() {
        let own = Server::start(tree(), &[("fsync", "off")]);
        for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
            own.stop(mode);
            assert!(
                own.try_connect_as("postgres", "postgres").is_err(),
                "{mode:?}"
            );
            own.start_again();
        }
    }

    #[test]
    fn a_standby_follows_and_can_be_promoted() {
        let primary = Server::start(tree(), &[("fsync", "off"), ("work_mem", "5MB")]);
        let standby = primary.standby(&[]);
        primary
            .connect("postgres")
            .batch_execute("create table t as select 7 as n")
            .expect("write");
        let seen = || {
            standby
                .connect("postgres")
                .query_one("select n from t", &[])
                .is_ok()
        };
        wait_until(SOON, "the row on the standby", seen);
        let write = |server: &Server| {
            server
                .connect("postgres")
                .batch_execute("insert into t values (8)")
        };
        expect_sqlstate(write(&standby), "25006");
        standby.promote();
        write(&standby).expect("write after promotion");
        assert_eq!(standby.psql("postgres", "show work_mem").stdout, "5MB\n");
    }

    #[test]
    fn databases_have_names_of_their_own_and_are_dropped() {
        let (one, two) = (server().empty_database(), server().empty_database());
        assert_ne!(one.name(), two.name());
        let name = one.name().to_owned();
        drop(one);
        assert!(server().try_connect_as(&name, "postgres").is_err());
        two.client()
            .simple_query("select 1")
            .expect("the other one is there");
    }
}

mod callers {
    use super::*;

    #[test]
    fn they_are_who_postgrest_says_they_are() {
        let database = server().empty_database();
        create_supabase_roles(&mut database.client());
        create_supabase_roles(&mut database.client());
        let mut session = database.authenticator();
        let claims = r#"{"sub":"00000000-0000-0000-0000-000000000001"}"#;
        let told = as_user(&mut session, "authenticated", claims, |tx| {
            let row = tx.query_one(
                "select current_user::text, current_setting('request.jwt.claims')",
                &[],
            )?;
            Ok((row.get::<_, String>(0), row.get::<_, String>(1)))
        });
        assert_eq!(
            told.expect("the call"),
            ("authenticated".to_owned(), claims.to_owned())
        );
        let after = session.query_one(
            "select current_user::text, current_setting('request.jwt.claims', true)",
            &[],
        );
        let after = after.expect("the session lives on");
        assert_eq!(
            (after.get::<_, String>(0), after.get::<_, Option<String>>(1)),
            ("authenticator".to_owned(), Some(String::new()))
        );
    }

    #[test]
    fn a_failed_call_leaves_nothing() {
        let database = server().empty_database();
        create_supabase_roles(&mut database.client());
        database
            .client()
            .batch_execute("create table t (a int); grant all on t to anon")
            .expect("a table");
        let mut session = database.authenticator();
        let result = as_user(&mut session, "anon", "{}", |tx| {
            tx.batch_execute("insert into t values (1)")?;
            tx.batch_execute("select 1/0")
        });
        expect_sqlstate(result, "22012");
        assert_eq!(database.psql("select count(*) from t").stdout, "0\n");
    }

    #[test]
    fn default_privileges_are_supabases_when_asked_for() {
        let database = server().empty_database();
        let options = RoleOptions {
            default_privileges: true,
            ..RoleOptions::default()
        };
        create_supabase_roles_with(&mut database.client(), options);
        let output = database.psql(
            "create function public.f() returns int language sql as 'select 1';
             revoke all on function public.f() from public;
             select has_function_privilege('anon', 'public.f()', 'execute')",
        );
        assert_eq!(output.stdout, "t\n", "{output:?}");
    }

    #[test]
    fn the_host_schema_works() {
        let database = server().empty_database();
        create_supabase_roles(&mut database.client());
        database
            .client()
            .batch_execute(HOST_SCHEMA)
            .expect("load the host schema");
        let output = database.psql(
            "select app.create_tenant('one') as tenant \\gset
             select app.create_member(:'tenant', 'tenant.admin') as admin \\gset
             select app.create_member(:'tenant') as member \\gset
             select :'tenant' || ' ' || :'admin' || ' ' || :'member'",
        );
        let ids: Vec<&str> = output.stdout.split_whitespace().collect();
        let [tenant, admin, member] = ids[..] else {
            panic!("{output:?}")
        };
        let mut session = database.authenticator();
        let mut setup = |user: &str| {
            let claims = format!(r#"{{"sub":"{user}"}}"#);
            as_user(&mut session, "authenticated", &claims, |tx| {
                let call = format!(
                    "select authz.rpc_setup('{tenant}', 'tenant.admin')::text, authz.get_current_tenant_id()::text"
                );
                let row = tx.query_one(&call, &[])?;
                Ok((row.get::<_, String>(0), row.get::<_, Option<String>>(1)))
            })
        };
        assert_eq!(setup(admin).expect("the admin").0, admin);
        let refused = expect_sqlstate(setup(member), "42501");
        assert!(refused.message().contains("tenant.admin"));
        expect_sqlstate(setup("00000000-0000-0000-0000-000000000001"), "42501");
        let limited = format!("select util.check_rate_limit('o', 'k', 2, 1440, '{admin}', null)");
        assert_eq!(
            database.psql(&format!("{limited}; {limited}")).stdout,
            "t\nt\n"
        );
        expect_sqlstate(database.client().simple_query(&limited), "54000");
        let nobody = limited.replace(&format!("'{admin}'"), "null");
        expect_sqlstate(database.client().simple_query(&nobody), "28000");
    }
}

mod receiver {
    use super::*;

    #[test]
    fn it_keeps_requests_as_they_came() {
        let receiver = Receiver::http();
        let before = Instant::now();
        let answer = exchange(
            &receiver,
            &post(
                "/a?b=c",
                "{\"é\": 1}",
                "X-One: 1\r\nx-Two:  2 \r\nConnection: close\r\n",
            ),
            SOON,
        );
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let requests = receiver.wait_for(1, SOON);
        let request: &Received = &requests[0];
        assert_eq!(
            (
                request.method.as_str(),
                request.target.as_str(),
                request.path()
            ),
            ("POST", "/a?b=c", "/a")
        );
        assert_eq!(request.text(), "{\"é\": 1}");
        let names: Vec<&str> = request
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            ["Host", "X-One", "x-Two", "Connection", "Content-Length"]
        );
        assert_eq!(request.header("X-TWO"), Some("2"));
        assert!(request.arrived >= before);
    }

    #[test]
    fn a_connection_carries_many_requests() {
        let receiver = Receiver::http();
        let chunked = "POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let all = [
            post("/a", "1", ""),
            chunked.to_owned(),
            post("/b", "2", "Connection: close\r\n"),
        ]
        .concat();
        let answers = exchange(&receiver, &all, SOON);
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 3);
        let requests = receiver.wait_for(3, SOON);
        let bodies: Vec<&str> = requests.iter().map(|request| request.text()).collect();
        assert_eq!(bodies, ["1", "abcde", "2"]);
        assert!(
            requests
                .iter()
                .all(|request| request.connection == requests[0].connection)
        );
        assert_eq!(receiver.connections(), 1);
    }

    #[test]
    fn each_path_answers_as_it_was_told() {
        let receiver = Receiver::http();
        receiver
            .answer("/teapot", Reply::Status(418, "short".to_owned()))
            .answer(
                "/moved",
                Reply::Redirect("http://169.254.169.254/".to_owned()),
            )
            .answer("/close", Reply::Close)
            .answer("/raw", Reply::RawBytes(b"not http".to_vec()))
            .answer(
                "/later",
                Reply::Delay(Duration::from_millis(50), Box::new(Reply::ok())),
            )
            .on("/echo", |request| Reply::Full {
                status: 201,
                headers: vec![("X-Method".to_owned(), request.method.clone())],
                body: request.body.clone(),
            });
        let answer = exchange_and_close(&receiver, "/teapot");
        assert!(
            answer.starts_with("HTTP/1.1 418 ") && answer.ends_with("\r\n\r\nshort"),
            "{answer}"
        );
        assert!(
            exchange_and_close(&receiver, "/moved")
                .contains("\r\nLocation: http://169.254.169.254/\r\n")
        );
        assert_eq!(exchange_and_close(&receiver, "/close"), "");
        assert_eq!(exchange_and_close(&receiver, "/raw"), "not http");
        let asked = Instant::now();
        assert!(exchange_and_close(&receiver, "/later").starts_with("HTTP/1.1 200"));
        assert!(asked.elapsed() >= Duration::from_millis(50));
        let answer = exchange_and_close(&receiver, "/echo");
        assert!(
            answer.contains("X-Method: POST") && answer.ends_with("{}"),
            "{answer}"
        );
    }

    #[test]
    fn it_can_be_slow_in_every_way() {
        let receiver = Receiver::http();
        let drip = Reply::Drip {
            head: b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            chunk: b"x".to_vec(),
            every: Duration::from_millis(5),
        };
        receiver.answer("/hang", Reply::Hang).answer("/drip", drip);
        assert_eq!(
            exchange(
                &receiver,
                &post("/hang", "", ""),
                Duration::from_millis(100)
            ),
            ""
        );
        let mut stream = TcpStream::connect(receiver.address()).expect("connect");
        stream
            .write_all(post("/drip", "", "").as_bytes())
            .expect("send");
        let mut some = [0; 25];
        stream.read_exact(&mut some).expect("read what drips");
        assert!(some.ends_with(b"xxxx"));
    }

    #[test]
    fn it_can_reset_a_connection() {
        let receiver = Receiver::http();
        receiver.answer("/", Reply::Reset(b"half".to_vec()));
        let mut stream = TcpStream::connect(receiver.address()).expect("connect to the receiver");
        stream
            .write_all(post("/", "{}", "").as_bytes())
            .expect("send the request");
        let error = stream.read_to_end(&mut Vec::new()).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn it_stops_and_comes_back_on_the_same_port() {
        let receiver = Receiver::http();
        receiver.answer("/hang", Reply::Hang);
        let mut open = TcpStream::connect(receiver.address()).expect("connect");
        open.write_all(post("/hang", "", "").as_bytes())
            .expect("send");
        receiver.wait_for(1, SOON);
        receiver.stop();
        assert_eq!(
            open.read(&mut [0; 8]).unwrap_or(0),
            0,
            "open connections are closed"
        );
        assert!(TcpStream::connect(receiver.address()).is_err());
        receiver.start_again();
        assert!(exchange_and_close(&receiver, "/again").starts_with("HTTP/1.1 200"));
        assert_eq!(receiver.count(), 2);
    }

    #[test]
    fn it_speaks_tls_with_a_certificate_of_the_authority() {
        let ca = Ca::create(tree());
        let receiver = Receiver::https(&ca);
        assert!(receiver.url("/x").starts_with("https://127.0.0.1:"));
        for name in ["localhost", "127.0.0.1"] {
            let answer = tls_exchange(&ca, &receiver, name).expect("a trusted certificate");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        tls_exchange(&Ca::create(tree()), &receiver, "localhost").expect_err("another authority");
        let other = Receiver::https_on(
            &ca,
            "127.0.0.1".parse().expect("an address"),
            &["elsewhere.test"],
        );
        tls_exchange(&ca, &other, "localhost").expect_err("another name");
        assert_eq!((receiver.count(), other.count()), (2, 0));
        assert!(
            std::fs::read_to_string(ca.pem_path())
                .expect("the PEM file")
                .contains("BEGIN CERTIFICATE")
        );
    }

    fn tls_exchange(ca: &Ca, receiver: &Receiver, name: &str) -> std::io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.certificate()).expect("a root certificate");
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(receiver.address())?);
        stream.write_all(post("/tls", "{}", "").as_bytes())?;
        let mut answer = [0; 64];
        let read = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    #[test]
    fn it_keeps_up_with_a_benchmark() {
        const CONNECTIONS: usize = 8;
        const EACH: usize = 2_000;
        let receiver = Receiver::http();
        receiver.count_only();
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(receiver.address()).expect("connect");
                    stream.set_nodelay(true).expect("no delay");
                    let request = post("/bench", &"x".repeat(400), "");
                    let mut answer = [0; 256];
                    for _ in 0..EACH {
                        stream.write_all(request.as_bytes()).expect("send");
                        assert!(stream.read(&mut answer).expect("an answer") > 0);
                    }
                });
            }
        });
        let rate = (CONNECTIONS * EACH) as f64 / started.elapsed().as_secs_f64();
        println!("{rate:.0} requests a second");
        assert_eq!(receiver.count(), CONNECTIONS * EACH);
        assert!(receiver.requests().is_empty());
    }
}

mod dns {
    use super::*;

    /// What a server of our own hears when it looks `name` up, in the order of the answer.
    fn looked_up(dns: &Dns, name: &str) -> Vec<String> {
        let server = Server::builder(tree()).name_server(dns).start();
        let mut client = server.connect("postgres");
        let sql = format!(
            "create temp table found (line text);
             copy found from program 'getent ahosts {name} || true'"
        );
        client.batch_execute(&sql).expect("look the name up");
        let rows = client
            .query(
                "select distinct split_part(line, ' ', 1) from found order by 1",
                &[],
            )
            .expect("the addresses");
        rows.iter().map(|row| row.get(0)).collect()
    }

    #[test]
    fn a_server_believes_it_and_nobody_else() {
        let dns = Dns::start();
        dns.answer("two.test", Records::of(&["127.0.1.1", "::1"]));
        assert_eq!(looked_up(&dns, "two.test"), ["127.0.1.1", "::1"]);
        assert!(dns.lookups("two.test") > 0);
        // Not even /etc/hosts.
        assert!(looked_up(&dns, "localhost").is_empty());
    }
}

mod signature {
    use super::*;

    // RFC 4231, test case 2.
    const TAG: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    const BODY: &[u8] = b"what do ya want for nothing?";

    #[test]
    fn it_is_hmac_sha256_in_lower_case_hex() {
        assert_eq!(sign("Jefe", BODY), TAG);
        assert!(verify_signature("Jefe", BODY, TAG));
    }

    #[test]
    fn anything_else_is_refused() {
        for header in [
            &TAG.to_uppercase(),
            &TAG[..62],
            "",
            "sha256=",
            &format!(" {TAG}"),
            &TAG.replace('5', "6"),
        ] {
            assert!(!verify_signature("Jefe", BODY, header), "{header:?}");
        }
        assert!(!verify_signature("jefe", BODY, TAG));
        assert!(!verify_signature(
            "Jefe",
            b"what do ya want for nothing!",
            TAG
        ));
    }
}

#[test]
#[should_panic(expected = "in vain for: the impossible")]
fn waiting_ends_at_the_deadline() {
    wait_until(Duration::from_millis(20), "the impossible", || false);
}

mod log {
    use super::*;

    const WARN: &str = "do $$ begin raise warning 'odd'; end $$";

    /// What a test is told when `end` drops a server or database.
    fn complaint(end: impl FnOnce()) -> Option<String> {
        let told = catch_unwind(AssertUnwindSafe(end)).err()?;
        Some(*told.downcast::<String>().expect("a message"))
    }

    #[track_caller]
    fn run(client: &mut plugin_webhooks_kit::postgres::Client, sql: &str) {
        client.batch_execute(sql).expect("run a statement");
    }

    #[test]
    fn a_warning_that_nobody_announced_fails_the_test() {
        let database = server().empty_database();
        run(&mut database.client(), WARN);
        let told = complaint(|| drop(database)).expect("a complaint");
        assert!(told.contains("WARNING:  odd"), "{told}");
        assert!(told.contains("expect_log"), "{told}");
    }

    #[test]
    fn an_announced_one_passes() {
        for announce in [
            plugin_webhooks_kit::Database::expect_log,
            plugin_webhooks_kit::Database::allow_log,
        ] {
            let database = server().empty_database();
            announce(&database, "WARNING:  odd");
            run(&mut database.client(), WARN);
            assert_eq!(complaint(|| drop(database)), None);
        }
    }

    #[test]
    fn one_that_was_expected_and_did_not_come_fails_the_test() {
        let database = server().empty_database();
        database.allow_log("may be");
        database.expect_log("must be");
        let told = complaint(|| drop(database)).expect("a complaint");
        assert!(
            told.contains("must be") && !told.contains("may be"),
            "{told}"
        );
    }

    #[test]
    fn each_test_answers_for_its_own_database() {
        let (mine, other) = (server().empty_database(), server().empty_database());
        run(&mut other.client(), WARN);
        mine.allow_log("odd");
        assert_eq!(complaint(|| drop(mine)), None);
        assert!(complaint(|| drop(other)).is_some());
    }

    #[test]
    fn an_error_that_answers_the_test_passes_unless_it_is_an_internal_one() {
        let database = server().empty_database();
        expect_sqlstate(database.client().batch_execute("select 1/0"), "22012");
        assert!(!database.psql("select 1/0").success);
        assert_eq!(complaint(|| drop(database)), None);
        let database = server().empty_database();
        let internal = "do $$ begin raise 'broken' using errcode = 'XX000'; end $$";
        expect_sqlstate(database.client().batch_execute(internal), "XX000");
        let told = complaint(|| drop(database)).expect("a complaint");
        assert!(told.contains("broken"), "{told}");
    }

    #[test]
    fn what_is_left_is_checked_when_the_server_ends() {
        let own = Server::start(tree(), &[("fsync", "off")]);
        run(&mut own.connect("postgres"), WARN);
        let told = complaint(|| drop(own)).expect("a complaint");
        assert!(told.contains("WARNING:  odd"), "{told}");
    }

    #[test]
    fn what_the_kit_stops_kills_and_terminates_passes() {
        let own = Server::start(tree(), &[("fsync", "off")]);
        let session = || {
            let mut client = own.connect("postgres");
            let pid: i32 = client
                .query_one("select pg_backend_pid()", &[])
                .expect("a pid")
                .get(0);
            (client, pid)
        };
        let (_terminated, pid) = session();
        own.terminate(pid);
        let (_killed, pid) = session();
        own.kill_9_and_recover(pid);
        for mode in [StopMode::Fast, StopMode::Immediate] {
            let _stopped = session();
            own.stop(mode);
            own.start_again();
        }
        let _crashed = session();
        own.crash();
        own.start_again();
        assert_eq!(complaint(|| drop(own)), None);
    }

    #[test]
    fn a_process_that_crashes_by_itself_fails_the_test() {
        let own = Server::start(tree(), &[("fsync", "off")]);
        let mut client = own.connect("postgres");
        let pid: i32 = client
            .query_one("select pg_backend_pid()", &[])
            .expect("a pid")
            .get(0);
        let killed = Command::new("kill")
            .args(["-SEGV", &pid.to_string()])
            .status();
        assert!(killed.expect("run kill").success());
        wait_until(SOON, "recovery", || {
            own.log().matches("ready to accept connections").count() == 2
        });
        let told = complaint(|| drop(own)).expect("a complaint");
        assert!(told.contains("terminated by signal 11"), "{told}");
    }
}
