//! `show servers state` and `show servers conn`: the members of each pool, in HAProxy's lists for programs.
//! (Source: management.txt, and `srv_dump_…` of HAProxy 2.6.)

use super::super::view::{MemberView, StatusView};
use super::field::Field;
use super::row::{Object, Row};
use super::rows::{Proxy, proxies};

const STATE_HEADING: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
    srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
    srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port \
    srv_check_addr srv_agent_addr srv_agent_port\n";
const CONN_HEADING: &str = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb \
    safe_nb idle_lim idle_cur idle_per_thr[1]\n";

/// `None`: there is no proxy of that name.
pub fn state(status: &StatusView, rows: &[Row], proxy: Option<&str>) -> Option<String> {
    list(status, rows, proxy, STATE_HEADING, state_line)
}

/// `None`: there is no proxy of that name.
pub fn conn(status: &StatusView, rows: &[Row], proxy: Option<&str>) -> Option<String> {
    list(status, rows, proxy, CONN_HEADING, conn_line)
}

type Line = fn(&Proxy<'_>, &MemberView, &Row) -> String;

fn list(
    status: &StatusView,
    rows: &[Row],
    wanted: Option<&str>,
    heading: &str,
    line: Line,
) -> Option<String> {
    let mut text = heading.to_owned();
    let mut found = wanted.is_none();
    for proxy in proxies(status).iter().filter(|proxy| wanted.is_none_or(|wanted| proxy.name == wanted)) {
        found = true;
        let servers = rows.iter().filter(|row| {
            row.object == Object::Server && row.number_in(Field::Iid) == i64::try_from(proxy.number).ok()
        });
        for row in servers {
            let name = row.text_in(Field::Svname);
            let member = proxy.cluster.members.iter().find(|member| member.name == name);
            text.extend(member.map(|member| line(proxy, member, row)));
        }
    }
    found.then_some(text)
}

fn state_line(proxy: &Proxy<'_>, member: &MemberView, row: &Row) -> String {
    let status = row.text_in(Field::Status);
    let up = status.starts_with("UP") || status.starts_with("DRAIN");
    // SRV_ST_RUNNING or SRV_ST_STOPPED; SRV_ADMF_FMAINT or SRV_ADMF_FDRAIN.
    let (running, wish) = (
        if up { 2 } else { 0 },
        match member.admin {
            "maint" => 1,
            "drain" => 8,
            _ => 0,
        },
    );
    let (weight, initial_weight) = proxy.weights(&member.name);
    // CHK_RES_PASSED, CHK_RES_FAILED or CHK_RES_UNKNOWN; CHK_ST_CONFIGURED and ENABLED, PAUSED in maintenance.
    let check = row.text_in(Field::CheckStatus);
    let result = match check {
        "" | "INI" => 0,
        "L7OK" => 3,
        _ => 2,
    };
    let checking = if member.admin == "maint" { 14 } else { 6 };
    let (address, port) = dialled(proxy, member);
    let since = row.number_in(Field::Lastchg).unwrap_or(0);
    format!(
        "{iid} {backend} {sid} {name} {address} {running} {wish} {weight} {initial_weight} {since} {check} {result} {health} \
         {checking} 0 0 0 {fqdn} {port} - 0 {check_port} - - 0\n",
        iid = proxy.number,
        backend = proxy.name,
        sid = row.number_in(Field::Sid).unwrap_or(0),
        name = member.name,
        check = check_number(check),
        health = u8::from(up),
        fqdn = if member.host.parse::<std::net::IpAddr>().is_ok() { "-" } else { &member.host },
        check_port = api_port(&member.api),
    )
}

fn conn_line(proxy: &Proxy<'_>, member: &MemberView, row: &Row) -> String {
    let (address, port) = dialled(proxy, member);
    let figure = |field| row.number_in(field).unwrap_or(0);
    // No connection is kept for later, so there is nothing idle and nothing to purge.
    format!(
        "{backend}/{name} {iid}/{sid} {address} {port} - 0 {current} {most} {most} 0 0 -1 0 0\n",
        backend = proxy.name,
        name = member.name,
        iid = proxy.number,
        sid = figure(Field::Sid),
        current = figure(Field::Scur),
        most = figure(Field::Smax),
    )
}

/// Where the pool dials it; PostgreSQL's own port while its name has not resolved.
fn dialled(proxy: &Proxy<'_>, member: &MemberView) -> (String, u16) {
    let counts = proxy.pool.members.iter().find(|counts| counts.name == member.name);
    let address = counts.and_then(|counts| counts.addresses.first());
    address
        .map_or_else(|| ("-".to_owned(), member.port), |address| (address.ip().to_string(), address.port()))
}

fn api_port(api: &str) -> u16 {
    api.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}

/// HAProxy's number of a check's outcome (`enum healthcheck_status`).
fn check_number(status: &str) -> u8 {
    match status {
        "INI" => 1,
        "SOCKERR" => 5,
        "L4CON" => 8,
        "L6RSP" => 11,
        "L7TOUT" => 12,
        "L7RSP" => 13,
        "L7OK" => 15,
        "L7STS" => 17,
        _ => 0,
    }
}
