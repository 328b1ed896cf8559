//! A gigabyte each way, and not a byte of it lost, doubled or moved.
//!
//! The rows are a function of their numbers. So nobody holds them: what comes back is compared with what was sent by
//! making that once more.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Instant;

use crate::balancer::Balancer;
use crate::cluster::Cluster;
use crate::program::Program;
use crate::wait::tell;

const ROWS: u64 = 1_000_000;
const ROW_BYTES: usize = 1_074;
const BUFFER_BYTES: usize = 1 << 18;

/// The rows in COPY's text format.
struct Rows {
    /// Pieces of this are what the rows consist of.
    letters: Vec<u8>,
    line: Vec<u8>,
}

impl Rows {
    fn new() -> Rows {
        let letter = |place: u64| b"abcdefghijklmnopqrstuvwxyz0123456789"[(scatter(place) % 36) as usize];
        Rows { letters: (0..65_536).map(letter).collect(), line: Vec::new() }
    }

    fn row(&mut self, number: u64) -> &[u8] {
        self.line.clear();
        write!(self.line, "{number:07}\t").expect("a line in memory");
        let payload = ROW_BYTES - self.line.len() - 1;
        let from = (scatter(number) % (self.letters.len() - payload) as u64) as usize;
        self.line.extend_from_slice(&self.letters[from..from + payload]);
        self.line.push(b'\n');
        &self.line
    }
}

/// Any two numbers give unlike ones.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

/// A table that goes when the test does.
struct Table<'a>(&'a Cluster, &'a Balancer);

impl<'a> Table<'a> {
    /// Unlogged, so that the gigabyte stays on one node.
    fn make(cluster: &'a Cluster, balancer: &'a Balancer) -> Table<'a> {
        let psql = Program::psql(cluster, balancer.primary(), "disable");
        psql.arguments(["-c", "CREATE UNLOGGED TABLE bulk (n text, payload text)"]).succeeds();
        Table(cluster, balancer)
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let psql = Program::psql(self.0, self.1.primary(), "disable").arguments(["-c", "DROP TABLE bulk"]);
        // A failed test tells of itself.
        let _ = psql.output();
    }
}

/// A program whose output is read while it runs.
struct Stream {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Stream {
    fn of(program: Program) -> Stream {
        let mut child = program.command().stdout(Stdio::piped()).spawn().expect("a program that starts");
        let output = BufReader::with_capacity(BUFFER_BYTES, child.stdout.take().expect("piped"));
        Stream { child, output }
    }

    /// The next line into `line`; `false` at the end. The random key that a dump locks psql with is passed over.
    fn next(&mut self, line: &mut Vec<u8>) -> bool {
        loop {
            line.clear();
            self.output.read_until(b'\n', line).expect("output that can be read");
            if !line.starts_with(b"\\restrict ") && !line.starts_with(b"\\unrestrict ") {
                return !line.is_empty();
            }
        }
    }

    fn succeeds(mut self) {
        assert!(self.child.wait().expect("our child").success());
    }
}

/// A child that a failed test leaves behind has nobody to write to.
impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy_in(cluster: &Cluster, balancer: &Balancer) {
    let psql =
        Program::psql(cluster, balancer.primary(), "require").arguments(["-q", "-c", "COPY bulk FROM STDIN"]);
    let mut child = psql.command().stdin(Stdio::piped()).spawn().expect("a psql that starts");
    let mut rows = Rows::new();
    let mut input = BufWriter::with_capacity(BUFFER_BYTES, child.stdin.take().expect("piped"));
    for number in 0..ROWS {
        input.write_all(rows.row(number)).expect("a psql that takes rows");
    }
    input.flush().expect("a psql that takes rows");
    drop(input);
    assert!(child.wait().expect("our child").success());
}

fn copy_out(cluster: &Cluster, balancer: &Balancer) {
    // In the order in which the rows were put in, wherever an earlier reader has stopped.
    let in_order = "SET synchronize_seqscans = off";
    let psql = Program::psql(cluster, balancer.primary(), "disable").arguments(["-q", "-c", in_order]);
    let mut stream = Stream::of(psql.arguments(["-c", "COPY bulk TO STDOUT"]));
    let mut rows = Rows::new();
    let mut line = vec![0; ROW_BYTES];
    for number in 0..ROWS {
        stream.output.read_exact(&mut line).expect("as many rows as were sent");
        assert!(line == rows.row(number), "row {number} came back as {}", String::from_utf8_lossy(&line));
    }
    assert!(!stream.next(&mut line), "more than was sent: {}", String::from_utf8_lossy(&line));
    stream.succeeds();
}

#[test]
fn a_gigabyte_in_over_tls_and_out_again_without() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let _table = Table::make(cluster, &balancer);
    let begun = Instant::now();
    copy_in(cluster, &balancer);
    let took_in = begun.elapsed();
    copy_out(cluster, &balancer);
    tell("COPY of 1 GB", &[("in over TLS", took_in), ("out", begun.elapsed() - took_in)]);

    let primary = balancer.pool("primary");
    let bytes = ROWS * ROW_BYTES as u64;
    for direction in ["bytes_in", "bytes_out"] {
        assert!(primary[direction].as_u64() > Some(bytes), "{primary}");
    }
}

#[test]
fn a_dump_through_the_replica_port_equals_a_direct_one() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let leader = cluster.leader();
    Program::new(cluster, "pgbench", balancer.primary(), "disable")
        .arguments(["-i", "-q", "-s", "4"])
        .succeeds();
    cluster.wait_replicated(&leader, &balancer.readers());

    let dump = |address, mode| {
        Stream::of(Program::new(cluster, "pg_dump", address, mode).arguments(["-t", "pgbench*"]))
    };
    let mut direct = dump(cluster.address_of(&leader), "disable");
    let mut through = dump(balancer.replicas(), "require");
    let (mut expected, mut line, mut lines) = (Vec::new(), Vec::new(), 0);
    while direct.next(&mut expected) {
        assert!(through.next(&mut line), "the dump through pilotfish ends early, after {lines} lines");
        assert_eq!(String::from_utf8_lossy(&line), String::from_utf8_lossy(&expected), "after {lines} lines");
        lines += 1;
    }
    assert!(!through.next(&mut line) && lines > 400_000, "{lines} lines, then {line:?}");
    direct.succeeds();
    through.succeeds();
    Program::new(cluster, "pgbench", balancer.primary(), "disable")
        .arguments(["-i", "-q", "-I", "d"])
        .succeeds();
}
