//! A series of numbers with a fixed memory: the newest in full, the older ones folded.
//!
//! 300 values as they came and 240 that each stand for 15 of them: 2.2 KiB, whatever happens.

use std::collections::VecDeque;

/// Values kept as they came: five minutes of seconds.
pub const FINE: usize = 300;
/// Folded values kept: an hour of quarter minutes.
pub const COARSE: usize = 240;
/// Values folded into one.
pub const FOLDED: usize = 15;

/// What one value says of the many that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// For states: a peak must not be lost.
    Greatest,
    /// For rates.
    Mean,
    /// For counts.
    Sum,
}

/// The newest values of one quantity; NaN is "not known".
#[derive(Debug)]
pub struct Series {
    fold: Fold,
    fine: VecDeque<f32>,
    coarse: VecDeque<f32>,
    pushed: usize,
}

impl Series {
    pub fn new(fold: Fold) -> Series {
        let (fine, coarse) = (VecDeque::with_capacity(FINE), VecDeque::with_capacity(COARSE));
        Series { fold, fine, coarse, pushed: 0 }
    }

    pub fn push(&mut self, value: f64) {
        push(&mut self.fine, FINE, value);
        self.pushed += 1;
        if self.pushed.is_multiple_of(FOLDED) {
            let folded = self.fold.over(self.fine().skip(self.fine.len() - FOLDED));
            push(&mut self.coarse, COARSE, folded);
        }
    }

    /// Oldest first, at most [`FINE`].
    pub fn fine(&self) -> impl Iterator<Item = f64> {
        self.fine.iter().map(|&value| f64::from(value))
    }

    /// Oldest first, at most [`COARSE`].
    pub fn coarse(&self) -> impl Iterator<Item = f64> {
        self.coarse.iter().map(|&value| f64::from(value))
    }

    /// The value that was pushed so many before the newest.
    pub fn ago(&self, steps: usize) -> Option<f64> {
        let index = self.fine.len().checked_sub(steps + 1)?;
        self.fine.get(index).map(|&value| f64::from(value))
    }
}

fn push(ring: &mut VecDeque<f32>, most: usize, value: f64) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(value as f32);
}

impl Fold {
    /// One value for many; unknown ones do not count, and NaN comes of nothing known.
    pub fn over(self, values: impl Iterator<Item = f64>) -> f64 {
        let (mut count, mut total, mut greatest) = (0.0, 0.0, f64::NAN);
        for value in values.filter(|value| value.is_finite()) {
            count += 1.0;
            total += value;
            greatest = value.max(greatest);
        }
        match self {
            _ if count == 0.0 => f64::NAN,
            Fold::Greatest => greatest,
            Fold::Mean => total / count,
            Fold::Sum => total,
        }
    }
}
