//! An action that goes on when the test says so.

use std::time::Duration;

use super::*;

const SOON: Duration = Duration::from_secs(30);

/// `held` writes its caller's data into `public.held` and then waits for a lock that the test holds.
pub struct HeldAction {
    holder: RefCell<Client>,
    watcher: RefCell<Client>,
}

impl HeldAction {
    pub const CALL: &str = r#"{"action": "held"}"#;

    #[track_caller]
    pub fn new(partners: &Partners) -> HeldAction {
        let mut holder = partners.admin();
        execute(
            &mut holder,
            "create table public.held (data jsonb);
             create function public.held(tenant uuid, data jsonb) returns jsonb language plpgsql as
             $$ begin
                 insert into public.held values (data);
                 perform pg_catalog.pg_advisory_xact_lock_shared(1);
                 if data ? 'fail' then raise exception 'told to' using errcode = 'TK001'; end if;
                 return data;
             end $$;
             select plugin_webhooks.register_action('held', 'public.held(uuid,jsonb)');
             select pg_advisory_lock(1)",
        );
        HeldAction {
            holder: RefCell::new(holder),
            watcher: RefCell::new(partners.admin()),
        }
    }

    /// Waits until so many are in the action.
    #[track_caller]
    pub fn wait_for_callers(&self, callers: usize) {
        self.wait_for("advisory", callers);
    }

    /// Waits until so many wait for the end of another transaction.
    #[track_caller]
    pub fn wait_for_followers(&self, followers: usize) {
        self.wait_for("transactionid", followers);
    }

    fn wait_for(&self, event: &str, sessions: usize) {
        wait_until(SOON, &format!("{sessions} to wait for {event}"), || {
            let waiting = text(
                &mut self.watcher.borrow_mut(),
                &format!(
                    "select count(*)::text from pg_stat_activity
                     where datname = current_database() and wait_event_type = 'Lock' and wait_event = '{event}'"
                ),
            );
            waiting == sessions.to_string()
        });
    }

    /// Lets all callers go on, also later ones.
    pub fn release(&self) {
        execute(
            &mut self.holder.borrow_mut(),
            "select pg_advisory_unlock(1)",
        );
    }

    /// The data of the calls that ran.
    pub fn ran(&self) -> String {
        text(
            &mut self.watcher.borrow_mut(),
            "select coalesce(string_agg(data::text, ' '), '') from public.held",
        )
    }
}
