//! Owns name resolution for the sender: within the deadline, judged by the address policy, and
//! the only source of the addresses that are dialled. Never connects.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use ureq::{
    Timeout,
    config::Config,
    http::{Uri, uri::Scheme},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use super::{
    deadline::{deadline, time_left},
    pool::{Limits, Pool, lock, no_panic, wait},
};
use crate::address_policy::{self, AllowedNetworks};

/// How long an answer is used, so that traffic over kept connections asks once in a while only.
const KEEP_FOUND: Duration = Duration::from_secs(5);
/// How long a failure is used: it answers those who waited for the same lookup.
const KEEP_FAILED: Duration = Duration::from_secs(1);
/// Answers in the cache beyond which stale ones are thrown out.
const CACHE_SIZE: usize = 1024;
/// A lookup thread without work leaves after this time.
const MAX_IDLE: Duration = Duration::from_secs(10);

/// Resolves host names and lets only addresses pass that the policy allows.
pub(super) struct PolicyResolver {
    allowed: AllowedNetworks,
    lookups: Lookups,
}

impl PolicyResolver {
    /// `max_threads`: lookups that may run at once. A lookup that outlives its deadline keeps its
    /// thread until the system's resolver gives up.
    pub(super) fn new(allowed: AllowedNetworks, max_threads: usize) -> Self {
        Self::with_lookup(allowed, max_threads, system_lookup)
    }

    fn with_lookup(
        allowed: AllowedNetworks,
        max_threads: usize,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            allowed,
            lookups: Lookups::new(max_threads, lookup),
        }
    }
}

impl fmt::Debug for PolicyResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyResolver").finish_non_exhaustive()
    }
}

impl Resolver for PolicyResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let plain_http = uri.scheme() != Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if plain_http { 80 } else { 443 });
        let host = bare_host(uri);
        let addresses = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => match self.lookups.addresses(host, deadline(timeout)) {
                Some(answer) => answer.ok_or(ureq::Error::HostNotFound)?,
                // Also when it is the whole attempt whose time is over: this is what it waited for.
                None => return Err(ureq::Error::Timeout(Timeout::Resolve)),
            },
        };
        let mut checked = self.empty();
        for (n, ip) in addresses.iter().map(IpAddr::to_canonical).enumerate() {
            let target = SocketAddr::new(ip, port);
            // Also those that do not fit: one denied address denies the attempt.
            address_policy::check(target, plain_http, &self.allowed)
                .map_err(|denied| ureq::Error::Other(Box::new(denied)))?;
            if n < 16 {
                checked.push(target);
            }
        }
        if checked.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(checked)
    }
}

/// The host without the brackets of an IPv6 address.
pub(super) fn bare_host(uri: &Uri) -> &str {
    uri.host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
}

fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in (host, 0).to_socket_addrs()? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

/// Lookups that run in threads of their own, because getaddrinfo knows no deadline. Requests for
/// the same host share one lookup.
struct Lookups {
    answers: Arc<Answers>,
    pool: Pool<String>,
}

#[derive(Default)]
struct Answers {
    hosts: Mutex<HashMap<String, Host>>,
    answered: Condvar,
}

enum Host {
    /// Queued or running.
    Asked,
    Answered {
        /// `None`: the host has no address.
        addresses: Option<Vec<IpAddr>>,
        until: Instant,
    },
}

impl Lookups {
    fn new(
        max_threads: usize,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        let limits = Limits {
            name: "webhook-lookup",
            max_threads,
            max_idle: MAX_IDLE,
        };
        let answers = Arc::<Answers>::default();
        let found = Arc::clone(&answers);
        let pool = Pool::new(limits, move |host: String| {
            let addresses = no_panic(|| lookup(&host)).and_then(Result::ok);
            found.answer(host, addresses);
        });
        Self { answers, pool }
    }

    /// The addresses of `host`, `Some(None)` when it has none, `None` when the deadline passed.
    fn addresses(&self, host: &str, deadline: Instant) -> Option<Option<Vec<IpAddr>>> {
        let mut hosts = lock(&self.answers.hosts);
        loop {
            match hosts.get(host) {
                Some(Host::Answered { addresses, until }) if Instant::now() < *until => {
                    return Some(addresses.clone());
                }
                Some(Host::Asked) => {}
                // Without any thread it is asked again when another lookup ends, or never.
                _ => match self.pool.submit(host.to_owned()) {
                    Ok(()) => {
                        hosts.insert(host.to_owned(), Host::Asked);
                    }
                    Err(_) => {
                        hosts.remove(host);
                    }
                },
            }
            let left = time_left(deadline).ok()?;
            hosts = wait(&self.answers.answered, hosts, left);
        }
    }
}

impl Answers {
    fn answer(&self, host: String, addresses: Option<Vec<IpAddr>>) {
        let mut hosts = lock(&self.hosts);
        let now = Instant::now();
        if hosts.len() >= CACHE_SIZE {
            hosts.retain(|_, host| match host {
                Host::Asked => true,
                Host::Answered { until, .. } => now < *until,
            });
        }
        let keep = if addresses.is_some() {
            KEEP_FOUND
        } else {
            KEEP_FAILED
        };
        let until = now + keep;
        hosts.insert(host, Host::Answered { addresses, until });
        drop(hosts);
        self.answered.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use ureq::Error;

    use super::*;
    use crate::address_policy::Denied;

    type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

    fn resolver(allowed: &str, lookup: Lookup) -> PolicyResolver {
        PolicyResolver::with_lookup(AllowedNetworks::parse(allowed).unwrap(), 4, lookup)
    }

    fn resolve(
        resolver: &PolicyResolver,
        url: &str,
        timeout: Duration,
    ) -> Result<Vec<SocketAddr>, Error> {
        let timeout = NextTimeout {
            after: timeout.into(),
            ..NextTimeout::default()
        };
        let found = resolver.resolve(&url.parse().unwrap(), &Config::default(), timeout)?;
        Ok(found.to_vec())
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn denied(result: Result<Vec<SocketAddr>, Error>) -> Denied {
        match result {
            Err(Error::Other(error)) => *error.downcast().unwrap(),
            other => panic!("not denied: {other:?}"),
        }
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn gives_exactly_the_checked_addresses_with_the_port_of_the_url() {
        let resolver = resolver("", |_| Ok(ips(&["8.8.8.8", "::ffff:9.9.9.9", "2600::1"])));
        let found = resolve(&resolver, "https://name.example/", SECOND).unwrap();
        let expected = ["8.8.8.8:443", "9.9.9.9:443", "[2600::1]:443"];
        assert_eq!(found, expected.map(|a| a.parse().unwrap()));
        let found = resolve(&resolver, "https://name.example:8443/", SECOND).unwrap();
        assert_eq!(found[0].port(), 8443);
    }

    #[test]
    fn literals_are_judged_without_a_lookup() {
        let resolver = resolver("10.0.0.0/8", |_| unreachable!());
        let found = resolve(&resolver, "http://10.1.2.3/", SECOND).unwrap();
        assert_eq!(found, ["10.1.2.3:80".parse().unwrap()]);
        let found = resolve(&resolver, "https://[2600::1]/", SECOND).unwrap();
        assert_eq!(found, ["[2600::1]:443".parse().unwrap()]);
        for url in ["https://127.0.0.1/", "https://[::1]/", "https://[fd00::1]/"] {
            assert_eq!(denied(resolve(&resolver, url, SECOND)), Denied::NotPublic);
        }
        let plain = resolve(&resolver, "http://8.8.8.8/", SECOND);
        assert_eq!(denied(plain), Denied::PlainHttp);
    }

    #[test]
    fn one_denied_address_among_public_ones_denies() {
        let first = resolver("", |_| Ok(ips(&["10.0.0.1", "8.8.8.8"])));
        let last = resolver("", |_| Ok(ips(&["8.8.8.8", "127.0.0.1"])));
        let far = resolver("", |_| {
            let mut many = vec![IpAddr::from([8, 8, 8, 8]); 40];
            many.push([10, 0, 0, 1].into());
            Ok(many)
        });
        for resolver in [first, last, far] {
            let result = resolve(&resolver, "https://name.example/", SECOND);
            assert_eq!(denied(result), Denied::NotPublic);
        }
    }

    #[test]
    fn more_addresses_than_fit_are_cut() {
        let resolver = resolver("", |_| Ok((0..40).map(|n| [8, 8, 8, n].into()).collect()));
        let found = resolve(&resolver, "https://name.example/", SECOND).unwrap();
        assert_eq!(found.len(), 16);
    }

    #[test]
    fn no_address_and_a_failed_or_panicking_lookup_mean_not_found() {
        let lookups: [Lookup; 3] = [
            |_| Ok(Vec::new()),
            |_| Err(io::ErrorKind::Other.into()),
            |_| panic!("a test's panic"),
        ];
        for lookup in lookups {
            let resolver = resolver("", lookup);
            for _ in 0..2 {
                let result = resolve(&resolver, "https://name.example/", SECOND);
                assert!(matches!(result, Err(Error::HostNotFound)), "{result:?}");
            }
        }
    }

    #[test]
    fn a_frozen_lookup_ends_at_the_deadline_and_stops_no_other_host() {
        let resolver = resolver("", |host| {
            if host.starts_with("frozen") {
                loop {
                    thread::park();
                }
            }
            Ok(ips(&["8.8.8.8"]))
        });
        for _ in 0..3 {
            let start = Instant::now();
            let result = resolve(
                &resolver,
                "https://frozen.example/",
                Duration::from_millis(100),
            );
            assert!(matches!(result, Err(Error::Timeout(Timeout::Resolve))));
            assert!(start.elapsed() < SECOND);
        }
        // The repeated questions share one lookup: three of the four threads are left.
        assert_eq!(resolver.lookups.pool.threads().0, 1);
        resolve(&resolver, "https://name.example/", SECOND).unwrap();
    }

    #[test]
    fn asks_once_for_many_and_remembers_for_a_while() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let resolver = resolver("", |_| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(50));
            Ok(ips(&["8.8.8.8"]))
        });
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| resolve(&resolver, "https://name.example/", SECOND).unwrap());
            }
        });
        resolve(&resolver, "https://name.example/", SECOND).unwrap();
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_cache_stays_small() {
        let answers = Answers::default();
        let past = Instant::now();
        for n in 0..3 * CACHE_SIZE {
            answers.answer(format!("host{n}"), None);
            for host in lock(&answers.hosts).values_mut() {
                if n % CACHE_SIZE == CACHE_SIZE - 1
                    && let Host::Answered { until, .. } = host
                {
                    *until = past;
                }
            }
        }
        assert!(lock(&answers.hosts).len() <= CACHE_SIZE);
    }
}
