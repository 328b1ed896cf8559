//! What the configuration says of listeners and connections, in the words of the data plane.

use crate::config::{self, Network};
use crate::proxy::listener::{ListenAddress, ListenOptions};
use crate::proxy::{Access, IdleLimits, Keepalive, Networks, TcpOptions};

pub(super) fn tcp(tcp: &config::Tcp) -> TcpOptions {
    let keepalive = |config::Keepalive { idle, interval, count }| Keepalive { idle, interval, count };
    TcpOptions { keepalive: tcp.keepalive.map(keepalive), user_timeout: tcp.user_timeout }
}

pub(super) fn idle(limits: &config::IdleTimeouts) -> IdleLimits {
    let config::IdleTimeouts { client, server, tunnel } = *limits;
    IdleLimits { client, backend: server, tunnel }
}

pub(super) fn listen_options(listen: &config::Listen, tcp: TcpOptions) -> ListenOptions {
    let address = address(&listen.address);
    ListenOptions { address, free_bind: listen.free_bind, mode: listen.new_mode(), tcp }
}

pub(super) fn address(address: &config::ListenAddress) -> ListenAddress {
    match address {
        config::ListenAddress::Ip(address) => ListenAddress::Ip(*address),
        config::ListenAddress::Unix(path) => ListenAddress::Unix(path.clone()),
    }
}

pub(super) fn access(listen: &config::Listen) -> Access {
    Access { allow: listen.allow.as_deref().map(networks), trusted: networks(&listen.accept_proxy) }
}

fn networks(list: &[Network]) -> Networks {
    let ip = list.iter().filter_map(|network| match network {
        Network::Ip(network) => Some(*network),
        Network::Unix => None,
    });
    Networks { ip: ip.collect(), unix: list.contains(&Network::Unix) }
}
