//! A series as a small picture: the coordinates of an SVG path, and what a screen reader says instead.

use std::fmt::Write;

use super::ring::Fold;

/// Points of a picture: each stands for five seconds of five minutes, or a minute of an hour.
pub const POINTS: usize = 60;
/// The picture's own units, small enough that whole ones will do; it is stretched to the room that there is.
pub const WIDTH: usize = 2 * (POINTS - 1);
pub const HEIGHT: usize = 60;

/// Ready to be drawn; empty paths when nothing is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spark {
    pub line: String,
    /// The same, closed towards the ground.
    pub area: String,
    pub peak: f64,
}

/// Draws a series of up to `span` values, oldest first; one that is shorter begins in the middle of the picture.
pub fn spark(values: impl Iterator<Item = f64>, span: usize, fold: Fold) -> Spark {
    let values: Vec<f64> = values.collect();
    let step = span / POINTS;
    // Cut from the end of time backwards, so that a point does not change when it moves.
    let points: Vec<f64> =
        values.rchunks(step.max(1)).take(POINTS).map(|chunk| fold.over(chunk.iter().copied())).collect();
    let peak = Fold::Greatest.over(points.iter().copied());
    if !peak.is_finite() {
        return Spark::default();
    }
    let scale = if peak > 0.0 { (HEIGHT - 2) as f64 / peak } else { 0.0 };
    let mut picture = Spark { peak, ..Spark::default() };
    let mut run: Vec<(usize, usize)> = Vec::new();
    for (index, &value) in points.iter().enumerate().rev() {
        if value.is_finite() {
            run.push((2 * (POINTS - 1 - index), HEIGHT - 1 - (value * scale).round() as usize));
        } else {
            picture.add(&std::mem::take(&mut run));
        }
    }
    picture.add(&run);
    picture
}

impl Spark {
    /// A run of known values: gaps are left open.
    fn add(&mut self, run: &[(usize, usize)]) {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return };
        let mut command = 'M';
        // Writing to a String cannot fail.
        let _ = write!(self.area, "M{first} {HEIGHT}");
        for (x, y) in run {
            let _ = write!(self.line, "{command}{x} {y}");
            let _ = write!(self.area, "L{x} {y}");
            command = 'L';
        }
        let _ = write!(self.area, "L{last} {HEIGHT}Z");
    }
}
