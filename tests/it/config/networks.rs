//! Networks as they are written, and as clients are compared with them.

use super::parse;

/// Clients are known by their IPv4 addresses, whichever way these come.
#[test]
fn a_network_of_mapped_addresses_is_the_ipv4_one() {
    for (written, meant) in [
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
        ("fd00::1", "fd00::1/128"),
    ] {
        let listen = format!("{{address: \":5000\", allow: [\"{written}\"], accept_proxy: [\"{written}\"]}}");
        let config = parse(&format!("clusters: [{{patroni: [a], primary: {{listen: [{listen}]}}}}]\n"));
        let listen = &config.clusters[0].primary.as_ref().expect("a pool").listen[0];
        let shown: Vec<String> =
            listen.allow.iter().flatten().chain(&listen.accept_proxy).map(ToString::to_string).collect();
        assert_eq!(shown, [meant, meant], "{written}");
    }
}
