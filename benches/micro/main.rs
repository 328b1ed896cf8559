//! What runs for each session, each check or each scrape, alone and in nanoseconds: pick, first packet, decide, table,
//! metrics, page.
//!
//! To see that a change makes one of them slower, not to compare with anybody: `make bench` does that.

mod admin;
mod control;
mod session;

fn main() {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    session::benches(&mut criterion);
    control::benches(&mut criterion);
    admin::benches(&mut criterion);
    criterion.final_summary();
}
