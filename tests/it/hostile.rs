//! Hostile inputs: what `make fuzz` looks for with libFuzzer for hours is here played for moments, on any compiler: the
//! seeds as they are, then changes of them.
//!
//! `PILOTFISH_SEED` is the seed of the first change; each has the seed after the one before it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::topology::dice::Dice;
use crate::topology::random::number;

#[path = "../../fuzz/src/lib.rs"]
pub mod target;

/// Changes of the seeds of each target.
const CHANGES: u64 = 3000;
/// No longer than what these are made for; libFuzzer's own limit is the same.
const MOST_BYTES: usize = 4096;

#[test]
fn configurations() {
    play("config", files("config"), |bytes| target::config(bytes, &crate::config::env));
}

#[test]
fn files_of_haproxy() {
    let files = crate::import::fixtures().into_iter().map(|(_, _, text)| text.into_bytes());
    play("import", files.collect(), |bytes| target::import(bytes, &crate::import::env));
}

#[test]
fn answers_of_patroni() {
    play("patroni", files("fuzz/seeds/patroni"), target::patroni);
}

#[test]
fn first_packets() {
    play("first_packet", files("fuzz/seeds/first_packet"), target::first_packet);
}

#[test]
fn proxy_headers() {
    play("proxy_header", files("fuzz/seeds/proxy_header"), target::proxy_header);
}

#[test]
fn requests_to_the_admin_side() {
    play("admin_request", files("fuzz/seeds/admin_request"), target::admin_request);
}

#[test]
fn lines_at_the_runtime_socket() {
    play("runtime_socket", files("fuzz/seeds/runtime_socket"), target::runtime_socket);
}

fn play(name: &str, seeds: Vec<Vec<u8>>, target: fn(&[u8])) {
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|seed| target(seed));
    let first = number("PILOTFISH_SEED").unwrap_or(1);
    for seed in first..first + CHANGES {
        let bytes = changed(&seeds, &mut Dice::new(seed));
        // The panic has printed what is wrong; this says how to have it again.
        if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
            panic!("{name}: PILOTFISH_SEED={seed} plays it again: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// The files of a folder, in their order.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect("a folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

/// A seed with a few changes: bytes turned, taken out, said twice, or brought from another seed.
fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(24)).min(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, bytes[at..end].to_vec().repeat(1 + dice.below(40))).for_each(drop),
            3 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << dice.below(8)),
            4 => bytes[at..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let piece = other[from..(from + dice.below(40)).min(other.len())].to_vec();
                drop(bytes.splice(at..end, piece));
            }
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}
