//! How often an address may fail to log in.
//!
//! A bucket for each address: a failure takes one out, time fills it. Whoever has emptied it is not listened to until
//! there is one in it again, not even with the right password, so that guessing tells nothing in the meantime.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures in a row before an address has to wait: somebody who looks for the right password, not a machine.
const MOST_FAILURES: u32 = 10;
/// One more failure is allowed after this long: 14 400 guesses a day at most.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses remembered; of more, the one that failed longest ago is forgotten.
const MOST_ADDRESSES: usize = 4096;

#[derive(Debug, Default)]
pub struct Throttle {
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: u32,
    /// The failure that was forgiven last, or the first one.
    since: Instant,
}

impl Throttle {
    /// How long this address has to wait before it is listened to; `None`: not at all.
    pub fn wait(&mut self, now: Instant, address: IpAddr) -> Option<Duration> {
        let bucket = self.settled(now, key(address))?;
        let passed = now.saturating_duration_since(bucket.since);
        (bucket.failures >= MOST_FAILURES).then(|| REFILL.saturating_sub(passed))
    }

    pub fn failed(&mut self, now: Instant, address: IpAddr) {
        let key = key(address);
        let bucket = self.settled(now, key).unwrap_or(Bucket { failures: 0, since: now });
        if self.buckets.len() >= MOST_ADDRESSES && !self.buckets.contains_key(&key) {
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.since).map(|(key, _)| *key);
            oldest.map(|oldest| self.buckets.remove(&oldest));
        }
        self.buckets.insert(key, Bucket { failures: bucket.failures + 1, ..bucket });
    }

    /// Takes back one failure, of a login that counted as wrong until it was looked at.
    pub fn was_right(&mut self, now: Instant, address: IpAddr) {
        let key = key(address);
        let Some(bucket) = self.settled(now, key) else { return };
        match bucket.failures {
            0 | 1 => drop(self.buckets.remove(&key)),
            failures => drop(self.buckets.insert(key, Bucket { failures: failures - 1, ..bucket })),
        }
    }

    /// The bucket with what time has filled in.
    fn settled(&mut self, now: Instant, key: IpAddr) -> Option<Bucket> {
        let bucket = self.buckets.get_mut(&key)?;
        let passed = now.saturating_duration_since(bucket.since);
        let forgiven = u32::try_from(passed.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if forgiven >= bucket.failures {
            self.buckets.remove(&key);
            return None;
        }
        bucket.failures -= forgiven;
        bucket.since += REFILL * forgiven;
        Some(*bucket)
    }
}

/// Who has one IPv6 address has all of its network, 64 bits of it.
pub(super) fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_few_and_forgiven_one_by_one() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        let [guesser, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for _ in 0..MOST_FAILURES {
            assert_eq!(throttle.wait(start, guesser), None);
            throttle.failed(start, guesser);
        }
        assert_eq!(throttle.wait(start, guesser), Some(REFILL));
        assert_eq!(throttle.wait(start, other), None);
        assert_eq!(throttle.wait(start + REFILL, guesser), None);
        throttle.failed(start + REFILL, guesser);
        assert_eq!(throttle.wait(start + REFILL, guesser), Some(REFILL));
        let later = start + REFILL * (MOST_FAILURES + 1);
        assert_eq!(throttle.wait(later, guesser), None);
        assert!(throttle.buckets.is_empty(), "{throttle:?}");
    }

    #[test]
    fn a_right_login_takes_back_its_own_failure_alone() {
        let (now, mut throttle) = (Instant::now(), Throttle::default());
        let guesser = "192.0.2.1".parse().unwrap();
        throttle.was_right(now, guesser);
        for right in [true, false].repeat(MOST_FAILURES as usize) {
            assert_eq!(throttle.wait(now, guesser), None);
            throttle.failed(now, guesser);
            if right {
                throttle.was_right(now, guesser);
            }
        }
        assert_eq!(throttle.wait(now, guesser), Some(REFILL));
        (0..MOST_FAILURES).for_each(|_| throttle.was_right(now, guesser));
        assert!(throttle.buckets.is_empty(), "{throttle:?}");
    }

    #[test]
    fn a_network_of_addresses_is_one_and_very_many_cost_no_memory() {
        let (now, mut throttle) = (Instant::now(), Throttle::default());
        for host in 0..MOST_FAILURES {
            throttle.failed(now, format!("2001:db8::{host}").parse().unwrap());
        }
        assert!(throttle.wait(now, "2001:db8::ffff".parse().unwrap()).is_some());
        assert!(throttle.wait(now, "2001:db8:0:1::1".parse().unwrap()).is_none());
        for host in 0..2 * MOST_ADDRESSES as u32 {
            throttle.failed(now, IpAddr::V4(host.into()));
        }
        assert_eq!(throttle.buckets.len(), MOST_ADDRESSES);
    }
}
