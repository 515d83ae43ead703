//! What a sender is started with. Plain values: whoever reads settings fills them in.

use std::time::Duration;

use crate::address_policy::AllowedNetworks;

/// What a [`Sender`](super::Sender) is started with.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Most sender threads, at least 1: the number of deliveries in flight at once. They start when
    /// they are needed and leave when they are idle.
    pub threads: usize,
    /// Networks that deliveries may reach although they are not public.
    pub allowed_networks: AllowedNetworks,
    /// Whether failures quote receivers at opened addresses that are not public.
    pub show_internal_bodies: bool,
    /// PEM text of certificates that are trusted in addition to Mozilla's roots.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// Longest time to look the host name up, and then again to connect including TLS. The timeout
    /// of the endpoint bounds the whole attempt as well.
    pub connect_timeout: Duration,
    /// The end of an attempt that took longer is not announced: whoever wants its outcome looks for it.
    pub announced_within: Duration,
}
