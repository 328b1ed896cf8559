//! The effective configuration as YAML that reads back as the same.

use super::value::{show_duration, show_size};
use super::{
    Admin, AdminTls, Auth, Cluster, Config, Limits, OpenSessions, Patroni, Primary, Replicas, Require,
    RuntimeSocket, Secret, User, Word,
};
use super::{listen, transport};
use std::fmt::{Formatter, Result};

/// With its quotes.
const LONGEST_PLAIN_KEY: usize = 1024;

/// Everything, with the defaults filled in. What only shows at run time is a comment.
pub fn config(config: &Config, f: &mut Formatter<'_>) -> Result {
    writeln!(f, "clusters:")?;
    config.clusters.iter().try_for_each(|shown| cluster(shown, f))?;
    admin(&config.admin, f)?;
    let auto = |number: Option<usize>| number.map_or("auto".into(), |number| number.to_string());
    writeln!(f, "workers: {}", auto(config.workers))?;
    writeln!(f, "max_sessions: {}", auto(config.max_sessions))?;
    writeln!(f, "drain_timeout: {}", show_duration(config.drain_timeout))?;
    writeln!(f, "upgrade_timeout: {}", show_duration(config.upgrade_timeout))?;
    writeln!(f, "log:\n  format: {}\n  level: {}", config.log.format.word(), config.log.level.word())
}

fn admin(admin: &Admin, f: &mut Formatter<'_>) -> Result {
    if admin.listen.is_none() && admin.socket.is_none() && admin.haproxy_socket.is_none() {
        return writeln!(f, "admin: off");
    }
    writeln!(f, "admin:")?;
    match admin.listen {
        Some(address) => writeln!(f, "  listen: \"{address}\"")?,
        None => writeln!(f, "  listen: off")?,
    }
    match &admin.socket {
        Some(path) => writeln!(f, "  socket: {}", quoted(&path.to_string_lossy()))?,
        None => writeln!(f, "  socket: off")?,
    }
    match &admin.haproxy_socket {
        Some(RuntimeSocket { path, level, mode }) => {
            writeln!(f, "  haproxy_socket:\n    path: {}", quoted(&path.to_string_lossy()))?;
            writeln!(f, "    level: {}", level.word())?;
            match mode {
                Some(mode) => writeln!(f, "    mode: \"{mode:04o}\"")?,
                None => writeln!(f, "    # mode: \"0660\", or that of the socket that is passed")?,
            }
        }
        None => writeln!(f, "  haproxy_socket: off")?,
    }
    if !admin.allowed_hosts.is_empty() {
        let hosts: Vec<String> = admin.allowed_hosts.iter().map(|host| quoted(host)).collect();
        writeln!(f, "  allowed_hosts: [{}]", hosts.join(", "))?;
    }
    match admin.users.is_empty() {
        true => writeln!(f, "  # users: none, so whoever reaches listen is a viewer")?,
        false => writeln!(f, "  users:")?,
    }
    admin.users.iter().try_for_each(|shown| user(shown, f))?;
    let Some(AdminTls { cert, key, client_ca }) = &admin.tls else { return Ok(()) };
    writeln!(f, "  tls:")?;
    for (name, file) in [("cert", Some(cert)), ("key", Some(key)), ("client_ca", client_ca.as_ref())] {
        if let Some(file) = file {
            writeln!(f, "    {name}: {}", quoted(&file.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn user(user: &User, f: &mut Formatter<'_>) -> Result {
    writeln!(f, "    - name: {}\n      role: {}", quoted(&user.name), user.role.word())?;
    for (key, secret) in [("password", &user.password), ("token", &user.token)] {
        match secret {
            Some(Secret::File(path)) => {
                writeln!(f, "      {key}: {}", quoted(&format!("file:{}", path.display())))?;
            }
            Some(Secret::Env(name)) => writeln!(f, "      {key}: {}", quoted(&format!("env:{name}")))?,
            Some(Secret::Hash(_)) => writeln!(f, "      # {key}: a hash, which is not shown")?,
            None => {}
        }
    }
    Ok(())
}

fn cluster(cluster: &Cluster, f: &mut Formatter<'_>) -> Result {
    match &cluster.name {
        Some(name) => writeln!(f, "  - name: {}\n    patroni:", quoted(name))?,
        None => writeln!(f, "  # name: the scope that Patroni tells\n  - patroni:")?,
    }
    patroni(&cluster.patroni, f)?;
    match &cluster.primary {
        Some(pool) => primary(pool, f)?,
        None => writeln!(f, "    primary: off")?,
    }
    match &cluster.replicas[..] {
        [] => writeln!(f, "    replicas: off")?,
        [pool] => {
            writeln!(f, "    replicas:")?;
            replicas(pool, "      ", f)?;
        }
        pools => {
            writeln!(f, "    replicas:")?;
            for pool in pools {
                writeln!(f, "      -")?;
                replicas(pool, "        ", f)?;
            }
        }
    }
    writeln!(f, "    protocol: {}", cluster.protocol.word())?;
    writeln!(f, "    connect_timeout: {}", show_duration(cluster.connect_timeout))?;
    transport::show(&cluster.idle, &cluster.tcp, f)
}

fn patroni(patroni: &Patroni, f: &mut Formatter<'_>) -> Result {
    writeln!(f, "      endpoints:")?;
    for endpoint in &patroni.endpoints {
        writeln!(f, "        - \"{endpoint}\"")?;
    }
    writeln!(f, "      interval: {}", show_duration(patroni.interval))?;
    writeln!(f, "      fast_interval: {}", show_duration(patroni.fast_interval))?;
    writeln!(f, "      timeout: {}", show_duration(patroni.timeout))?;
    match patroni.leader_grace {
        Some(grace) => writeln!(f, "      leader_grace: {}", show_duration(grace))?,
        None => writeln!(f, "      # leader_grace: the cluster's ttl, or 30s while that is not known")?,
    }
    writeln!(f, "      fall: {}\n      rise: {}", patroni.fall, patroni.rise)?;
    if let Some(tls) = &patroni.tls {
        writeln!(f, "      tls:")?;
        for (key, file) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
            if let Some(file) = file {
                writeln!(f, "        {key}: {}", quoted(&file.to_string_lossy()))?;
            }
        }
        if let Some(name) = &tls.server_name {
            writeln!(f, "        server_name: {}", quoted(name))?;
        }
        writeln!(f, "        verify: {}", tls.verify.word())?;
    }
    let Some(Auth { username, password }) = &patroni.auth else { return Ok(()) };
    writeln!(f, "      auth:\n        username: {}", quoted(username))?;
    match password {
        Secret::File(path) => writeln!(f, "        password_file: {}", quoted(&path.to_string_lossy())),
        Secret::Env(name) => writeln!(f, "        password_env: {}", quoted(name)),
        // Not read here: the password itself is needed.
        Secret::Hash(_) => Ok(()),
    }
}

fn primary(pool: &Primary, f: &mut Formatter<'_>) -> Result {
    writeln!(f, "    primary:\n      name: {}", quoted(&pool.name))?;
    writeln!(f, "      listen: {}", listen::show(&pool.listen))?;
    writeln!(f, "      hold: {}\n      max_held: {}", show_duration(pool.hold), pool.max_held)?;
    writeln!(f, "      send_proxy: {}", pool.send_proxy.word())?;
    limits(pool.port, &pool.limits, "      ", f)
}

/// The keys that every pool has, each after `indent`.
fn limits(port: Option<u16>, limits: &Limits, indent: &str, f: &mut Formatter<'_>) -> Result {
    let port = port.map_or("auto".into(), |port| port.to_string());
    writeln!(f, "{indent}port: {port}")?;
    for (key, limit) in [
        ("max_sessions", limits.max_sessions),
        ("max_sessions_per_member", limits.max_sessions_per_member),
        ("max_sessions_per_client", limits.max_sessions_per_client),
    ] {
        let limit = limit.map_or("off".into(), |limit| limit.to_string());
        writeln!(f, "{indent}{key}: {limit}")?;
    }
    let queue_timeout = show_duration(limits.queue_timeout);
    writeln!(f, "{indent}queue_timeout: {queue_timeout}\n{indent}max_queued: {}", limits.max_queued)
}

/// The keys of a pool of readers, each after `indent`.
fn replicas(pool: &Replicas, indent: &str, f: &mut Formatter<'_>) -> Result {
    let mut line = |text: String| writeln!(f, "{indent}{text}");
    line(format!("name: {}", quoted(&pool.name)))?;
    line(format!("listen: {}", listen::show(&pool.listen)))?;
    line(format!("balance: {}", pool.balance.word()))?;
    match pool.max_lag {
        Some(bytes) => line(format!("max_lag: {}", show_size(bytes)))?,
        None => line("# max_lag: no limit".into())?,
    }
    line(format!("fallback: {}", pool.fallback.word()))?;
    line(format!("include_primary: {}", pool.include_primary))?;
    let Require { sync, tags } = &pool.require;
    let sync: Vec<&str> = sync.iter().map(|state| state.word()).collect();
    let sync = if sync.is_empty() { "any".into() } else { format!("[{}]", sync.join(", ")) };
    let tag = |(tag, value): &(String, String)| format!("{}: {}", key(tag), quoted(value));
    let tags: Vec<String> = tags.iter().map(tag).collect();
    line("require:".into())?;
    line(format!("  sync: {sync}"))?;
    line(format!("  tags: {{{}}}", tags.join(", ")))?;
    let weight = |(member, weight): &(String, u16)| format!("{}: {weight}", key(member));
    let weights: Vec<String> = pool.weights.iter().map(weight).collect();
    line(format!("weights: {{{}}}", weights.join(", ")))?;
    line(format!("weight_tag: {}", pool.weight_tag.as_ref().map_or("off".into(), |tag| quoted(tag))))?;
    match &pool.zone {
        Some(zone) => line(format!("zone: {}", quoted(zone)))?,
        None => line("# zone: none comes first".into())?,
    }
    line(format!("zone_tag: {}", quoted(&pool.zone_tag)))?;
    line(format!("slow_start: {}", show_duration(pool.slow_start)))?;
    let OpenSessions { promoted, lagging, noloadbalance, drained, gone } = &pool.open_sessions;
    line("open_sessions:".into())?;
    for (cause, fate) in [
        ("promoted", promoted),
        ("lagging", lagging),
        ("noloadbalance", noloadbalance),
        ("drained", drained),
        ("gone", gone),
    ] {
        line(format!("  {cause}: {}", fate.word()))?;
    }
    line(format!("hold: {}", show_duration(pool.hold)))?;
    line(format!("max_held: {}", pool.max_held))?;
    line(format!("send_proxy: {}", pool.send_proxy.word()))?;
    limits(pool.port, &pool.limits, indent, f)
}

/// Text as a key within `{}`: without a question mark before it, one has 1024 characters at most (YAML 1.2.2, 7.4.2).
fn key(text: &str) -> String {
    let quoted = quoted(text);
    if quoted.chars().count() > LONGEST_PLAIN_KEY { format!("? {quoted}") } else { quoted }
}

/// Text in YAML's double quotes, out of reach of `${VAR}`.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}
