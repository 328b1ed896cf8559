//! Who sends how much where, as ribbons from clients to pools to members.
//!
//! Pure: a cluster's view goes in, shapes come out. The width of a ribbon is its share of the traffic, so that "all
//! reads go to the leader" is seen and not deduced. Where there are sessions but next to no traffic, sessions count.

use super::view::{ClusterView, PoolView};

/// Height of one label, and the room around a ribbon's end; the page's stylesheet has the same number.
pub const ROW: usize = 64;
/// All traffic together is so wide.
const WIDEST: f64 = 40.0;
/// What flows at all can be seen.
const THINNEST: f64 = 1.5;
/// Bytes per second in all, below which sessions say more: keepalives and port checks are no traffic.
const STILL: f64 = 1024.0;
/// Ribbons are drawn in a box so wide and stretched to the room that there is.
pub const WIDTH: usize = 100;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    pub height: usize,
    /// What the widths measure: `bytes` or `sessions`.
    pub measure: &'static str,
    pub clients: usize,
    /// From the clients to each pool.
    pub to_pools: Vec<Ribbon>,
    /// From pools to members.
    pub to_members: Vec<Ribbon>,
    /// All of it in words.
    pub told: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Ribbon {
    pub from: String,
    pub to: String,
    /// The kind of the pool: `primary` or `replicas`.
    pub kind: &'static str,
    /// An SVG path; of a ribbon that carries nothing, a line.
    pub path: String,
    pub is_empty: bool,
    pub sessions: u64,
    pub bytes_per_s: f64,
}

/// One ribbon before it is drawn: indices of its ends, and what it carries.
struct Link<'a> {
    pool: usize,
    member: usize,
    view: &'a PoolView,
    sessions: u64,
    bytes_per_s: f64,
}

/// Lays out a cluster's traffic.
pub fn flow(cluster: &ClusterView) -> Flow {
    let rows = cluster.members.len().max(cluster.pools.len()).max(1);
    let height = rows * ROW;
    let links = links(cluster);
    let total: f64 = links.iter().map(|link| link.bytes_per_s).sum();
    let by_bytes = total >= STILL;
    let weigh = |sessions: u64, bytes: f64| if by_bytes { bytes } else { sessions as f64 };
    let whole: f64 = links.iter().map(|link| weigh(link.sessions, link.bytes_per_s)).sum();
    let width = |link: &Link| match weigh(link.sessions, link.bytes_per_s) {
        weight if weight > 0.0 => (weight / whole * WIDEST).max(THINNEST),
        _ if link.sessions > 0 => THINNEST,
        _ => 0.0,
    };
    let widths: Vec<f64> = links.iter().map(width).collect();
    let middle = |index: usize, count: usize| height as f64 * (index as f64 + 0.5) / count.max(1) as f64;
    let sum_where = |wanted: &dyn Fn(&Link) -> bool| -> f64 {
        links.iter().zip(&widths).filter(|(link, _)| wanted(link)).map(|(_, width)| width).sum()
    };
    let mut flow = Flow {
        height,
        measure: if by_bytes { "bytes" } else { "sessions" },
        clients: cluster.pools.iter().map(|pool| pool.clients).sum(),
        ..Flow::default()
    };
    let mut at_clients = middle(0, 1) - sum_where(&|_| true) / 2.0;
    for (index, pool) in cluster.pools.iter().enumerate() {
        let wide = sum_where(&|link| link.pool == index);
        let at = middle(index, cluster.pools.len());
        let path = path((at_clients, at - wide / 2.0), wide, middle(0, 1), at);
        at_clients += wide;
        let (sessions, bytes) = (pool.sessions, pool.bytes_in_per_s + pool.bytes_out_per_s);
        flow.to_pools.push(ribbon("clients", &pool.name, pool, path, wide, sessions, bytes));
    }
    let mut at_pool: Vec<f64> = (0..cluster.pools.len())
        .map(|index| middle(index, cluster.pools.len()) - sum_where(&|link| link.pool == index) / 2.0)
        .collect();
    let mut at_member: Vec<f64> = (0..cluster.members.len())
        .map(|index| middle(index, cluster.members.len()) - sum_where(&|link| link.member == index) / 2.0)
        .collect();
    for (link, wide) in links.iter().zip(widths.iter().copied()) {
        let ends = (at_pool[link.pool], at_member[link.member]);
        let (from, to) = (middle(link.pool, cluster.pools.len()), middle(link.member, cluster.members.len()));
        let path = path(ends, wide, from, to);
        at_pool[link.pool] += wide;
        at_member[link.member] += wide;
        let to = &cluster.members[link.member].name;
        flow.to_members.push(ribbon(
            &link.view.name,
            to,
            link.view,
            path,
            wide,
            link.sessions,
            link.bytes_per_s,
        ));
    }
    flow.told = told(&flow);
    flow
}

/// What carries sessions, and what would: a pool's ways to whom it routes.
fn links(cluster: &ClusterView) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    for (pool, view) in cluster.pools.iter().enumerate() {
        for (member, target) in cluster.members.iter().enumerate() {
            let counts = view.members.iter().find(|counts| counts.name == target.name);
            let sessions = counts.map_or(0, |counts| counts.sessions);
            let bytes_per_s = counts.map_or(0.0, |counts| counts.bytes_in_per_s + counts.bytes_out_per_s);
            // Without either, a rate is only what was: the old leader's, just after a failover.
            if sessions > 0 || view.routable.contains(&target.name) {
                links.push(Link { pool, member, view, sessions, bytes_per_s });
            }
        }
    }
    links
}

/// A band whose upper edge runs from `ends.0` on the left to `ends.1` on the right; without width, a line from the
/// middle of one label to the middle of the other.
fn path(ends: (f64, f64), wide: f64, from: f64, to: f64) -> String {
    let half = WIDTH / 2;
    if wide == 0.0 {
        return format!("M0 {from:.1}C{half} {from:.1} {half} {to:.1} {WIDTH} {to:.1}");
    }
    let (left, right) = ends;
    let (low_left, low_right) = (left + wide, right + wide);
    format!(
        "M0 {left:.1}C{half} {left:.1} {half} {right:.1} {WIDTH} {right:.1}V{low_right:.1}C{half} {low_right:.1} {half} {low_left:.1} 0 {low_left:.1}Z"
    )
}

fn ribbon(
    from: &str,
    to: &str,
    pool: &PoolView,
    path: String,
    wide: f64,
    sessions: u64,
    bytes_per_s: f64,
) -> Ribbon {
    let (from, to) = (from.to_owned(), to.to_owned());
    Ribbon { from, to, kind: pool.kind, path, is_empty: wide == 0.0, sessions, bytes_per_s }
}

fn told(flow: &Flow) -> String {
    let busy = flow.to_members.iter().filter(|ribbon| !ribbon.is_empty);
    let words = busy.map(|ribbon| {
        let Ribbon { from, to, sessions, bytes_per_s, .. } = ribbon;
        let rate = super::figures::bytes(*bytes_per_s as u64);
        format!("{from} to {to}: {sessions} sessions, {rate} a second")
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "Nothing flows.".to_owned() } else { format!("{}.", words.join("; ")) }
}
