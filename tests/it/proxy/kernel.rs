//! What the kernel shows of a connection.

use std::time::Duration;

/// One end of a connection. (Source: proc(5), `/proc/net/tcp`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// It has ended, and its address is kept for a while.
    pub is_kept: bool,
    /// When the other end will be asked whether it is still there.
    pub asked_in: Option<Duration>,
}

/// The end that has the first port, as long as there is one.
pub fn connection(local: u16, remote: u16) -> Option<Connection> {
    let connections = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's list");
    connections.lines().find_map(|line| parse(line, local, remote))
}

fn parse(line: &str, local: u16, remote: u16) -> Option<Connection> {
    const TIME_WAIT: &str = "06";
    /// The timer that runs, of several, is that of keepalive.
    const KEEPALIVE: &str = "02";
    /// A jiffy, as all that the kernel shows to programs counts them.
    const JIFFY: Duration = Duration::from_millis(10);
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
    if (port(), port()) != (Some(local), Some(remote)) {
        return None;
    }
    let is_kept = fields.next()? == TIME_WAIT;
    let (timer, due) = fields.nth(1)?.split_once(':')?;
    let due = JIFFY * u32::from_str_radix(due, 16).ok()?;
    Some(Connection { is_kept, asked_in: (timer == KEEPALIVE).then_some(due) })
}

#[test]
fn a_line_of_the_kernels_list() {
    let line = "   3: 0100007F:1F90 0100007F:C350 01 00000000:00000000 02:0000012C 00000000     0        0 7";
    let asked_in = Some(Duration::from_secs(3));
    assert_eq!(parse(line, 8080, 50_000), Some(Connection { is_kept: false, asked_in }));
    assert_eq!(parse(line, 50_000, 8080), None);
    let over = line.replace(" 01 ", " 06 ").replace(" 02:", " 03:");
    assert_eq!(parse(&over, 8080, 50_000), Some(Connection { is_kept: true, asked_in: None }));
}
