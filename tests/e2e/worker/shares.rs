//! What tenants with slow receivers may take from each other: "Fair claims" in docs/architecture.md.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};

use super::*;

const TENANTS: usize = 10;
const INSTALLATIONS: usize = 10;
/// All threads by default, and the part of each of ten tenants.
const THREADS: usize = 64 + 256;
const SHARE: usize = THREADS / TENANTS;

/// What a slow receiver does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Answers 200 when the test says so.
    Held,
    /// Answers 200 after 0.9 s.
    Late,
}

/// Ten tenants with ten installations each, whose receivers are slow.
struct Slow {
    receiver: Receiver,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    released: Mutex<bool>,
    release: Condvar,
    /// By tenant, how many requests it has out, and how many it had at most.
    out: Mutex<HashMap<String, (usize, usize)>>,
}

impl State {
    fn serve(&self, path: &str, kind: Kind) -> Reply {
        self.count(path, 1);
        match kind {
            Kind::Held => {
                let released = self.released.lock().expect("no panic");
                let released = self.release.wait_while(released, |released| !*released);
                drop(released.expect("no panic"));
            }
            Kind::Late => thread::sleep(Duration::from_millis(900)),
        }
        self.count(path, -1);
        Reply::ok()
    }

    fn count(&self, path: &str, more: isize) {
        let mut out = self.out.lock().expect("no panic");
        let (now, most) = out.entry(path.to_owned()).or_default();
        *now = now.saturating_add_signed(more);
        *most = (*most).max(*now);
    }

    fn total(&self) -> usize {
        let out = self.out.lock().expect("no panic");
        out.values().map(|(now, _)| now).sum()
    }

    fn most_of_a_tenant(&self) -> usize {
        let out = self.out.lock().expect("no panic");
        out.values().map(|(_, most)| *most).max().unwrap_or(0)
    }

    fn release(&self) {
        *self.released.lock().expect("no panic") = true;
        self.release.notify_all();
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.state.release();
    }
}

impl Slow {
    /// Installation n of each tenant has a receiver of kind `kind(n)`, and `rows` due deliveries.
    fn start(client: &mut Client, rows: i32, kind: impl Fn(usize) -> Kind) -> Slow {
        let (receiver, state) = (Receiver::http(), Arc::new(State::default()));
        for tenant in 0..TENANTS {
            for (path, kind) in [("held", Kind::Held), ("late", Kind::Late)] {
                let state = Arc::clone(&state);
                receiver.on(&format!("/{path}/{tenant}"), move |request| {
                    let tenant = request.path().rsplit('/').next().unwrap_or_default();
                    state.serve(tenant, kind)
                });
            }
        }
        for n in 0..INSTALLATIONS {
            let path = match kind(n) {
                Kind::Held => "held",
                Kind::Late => "late",
            };
            let install = format!(
                r#"with plugin as (
                     insert into int.plugins (key, name) values ('slow_{n}', 'slow') returning id),
                 installation as (
                     insert into int.plugin_installations (tenant_id, plugin_id, config)
                     select lpad(t::text, 32, '0')::uuid, plugin.id,
                            jsonb_build_object('webhook_url', '{url}/' || t, 'timeout_ms', 120000)
                     from plugin, generate_series(0, {TENANTS} - 1) as t returning id)
                 insert into int.plugin_webhook_subscriptions
                     (plugin_installation_id, table_schema, table_name, operations)
                 select id, 'public', 'items', '{{INSERT}}' from installation"#,
                url = receiver.url(&format!("/{path}")),
            );
            execute(client, &install);
        }
        let insert = format!(
            "insert into items (tenant_id, title)
             select lpad(t::text, 32, '0')::uuid, 'item'
             from generate_series(1, {rows}) as n, generate_series(0, {TENANTS} - 1) as t"
        );
        execute(client, &insert);
        Slow { receiver, state }
    }

    fn assert_shares(&self) {
        let most = self.state.most_of_a_tenant();
        // The receiver counts a request for a moment after it has answered it.
        assert!(
            most <= SHARE + SHARE / 8,
            "one tenant held {most} threads at once"
        );
    }
}

/// The neighbour's changes arrive one by one while deliveries of the others wait.
#[track_caller]
fn assert_served(client: &mut Client, neighbour: &Tenant<'_>, receiver: &Receiver, slow: &Slow) {
    for n in 1..=20 {
        let before = receiver.count();
        neighbour.insert_items(client, 2);
        receiver.wait_for(before + 2, SOON);
        let waiting: bool = value(
            client,
            "select exists (select from int.plugin_delivery_queue where status = 'pending' and lease_expires_at is null
                            and event_type like '%items%' and next_attempt_at <= clock_timestamp())",
        );
        assert!(waiting, "at change {n} the others had nothing left to send");
    }
    slow.assert_shares();
}

fn a_neighbour_is_served(rows: i32, kind: impl Fn(usize) -> Kind) {
    let own = builder().preloaded().start();
    let (database, receiver) = (project_with_items(&own), Receiver::http());
    let neighbour = Tenant::with_items_to(&database, &receiver.url("/"));
    let mut client = database.client();
    wait_for_worker(&mut client);
    let slow = Slow::start(&mut client, rows, kind);
    // At once, while nothing is known of the receivers, and when they hold all they may.
    assert_served(&mut client, &neighbour, &receiver, &slow);
    wait_until(SOON, "the others to hold what they may", || {
        slow.state.total() >= THREADS / 4
    });
    assert_served(&mut client, &neighbour, &receiver, &slow);
    // And when those have come back and others are out.
    let answered = slow.receiver.count();
    slow.state.release();
    wait_until(SOON, "the others to be answered", || {
        slow.receiver.count() >= answered + THREADS
    });
    *slow.state.released.lock().expect("no panic") = false;
    assert_served(&mut client, &neighbour, &receiver, &slow);
}

/// Deliveries of tens of megabytes each, whose receiver keeps them until the test says so.
#[test]
fn a_neighbour_is_served_beside_huge_payloads_to_a_slow_receiver() {
    let own = builder().preloaded().start();
    let database = project_with_items(&own);
    let [slow, receiver] = [(); 2].map(|()| Receiver::http());
    let state = Arc::new(State::default());
    let serve = Arc::clone(&state);
    slow.on("/", move |_| serve.serve("huge", Kind::Held));
    let mut client = database.client();
    wait_for_worker(&mut client);
    let huge = Tenant::with_items_to(&database, &slow.url("/"));
    let neighbour = Tenant::with_items_to(&database, &receiver.url("/"));
    let payloads = |mebibytes: &str| {
        format!(
            "begin;
             insert into items (tenant_id, title)
             select '{}', 'huge' from unnest('{{{mebibytes}}}'::int[]);
             update int.plugin_delivery_queue q set payload = jsonb_build_object('x', repeat('x', size << 20))
             from (select id, row_number() over (order by id) as n from int.plugin_delivery_queue
                   where status = 'pending' and plugin_installation_id = '{}') p
             join unnest('{{{mebibytes}}}'::int[]) with ordinality as s (size, n) using (n)
             where q.id = p.id;
             commit",
            huge.id, huge.installation
        )
    };
    execute(&mut client, &payloads("20,30,7,7,7,7,7,7,7,7"));
    wait_until(SOON, "the huge ones to be out", || state.total() >= 2);
    for n in 1..=5 {
        neighbour.insert_items(&mut client, 1);
        receiver.wait_for(n, SOON);
    }
    let requests = slow.requests();
    let alone = requests
        .iter()
        .filter(|request| request.body.len() > 8 << 20);
    assert!(alone.count() <= 1, "two were out that go alone");
    // All of them go in the end.
    state.release();
    huge.wait_delivered(&mut client, 4 * SOON);
    assert_eq!(slow.count(), 10);
}

#[test]
fn a_neighbour_is_served_beside_100_installations_that_answer_200_very_late() {
    a_neighbour_is_served(200, |_| Kind::Held);
}

#[test]
fn a_neighbour_is_served_beside_100_installations_with_a_backlog_and_a_slow_receiver() {
    a_neighbour_is_served(200, |_| Kind::Late);
}

#[test]
fn a_neighbour_is_served_beside_both_kinds_of_slow_receivers() {
    a_neighbour_is_served(200, |n| if n % 2 == 0 { Kind::Held } else { Kind::Late });
}
