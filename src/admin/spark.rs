//! A series as a small picture: the coordinates of an SVG path, and what a screen reader says instead.

use super::ring::Fold;

/// Points of a picture: each stands for five seconds of five minutes, or a minute of an hour.
pub const POINTS: usize = 60;
/// The picture's own units; it is stretched to the room that there is.
pub const WIDTH: usize = 120;
pub const HEIGHT: usize = 30;

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
    let mut run: Vec<(f64, f64)> = Vec::new();
    for (index, &value) in points.iter().enumerate().rev() {
        if value.is_finite() {
            let x = (POINTS - 1 - index) as f64 * WIDTH as f64 / (POINTS - 1) as f64;
            run.push((x, (HEIGHT - 1) as f64 - value * scale));
        } else {
            picture.add(&std::mem::take(&mut run));
        }
    }
    picture.add(&run);
    picture
}

impl Spark {
    /// A run of known values: gaps are left open.
    fn add(&mut self, run: &[(f64, f64)]) {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return };
        let mut command = 'M';
        self.area.push_str(&format!("M{first:.0} {HEIGHT}"));
        for (x, y) in run {
            self.line.push_str(&format!("{command}{x:.0} {y:.1}"));
            self.area.push_str(&format!("L{x:.0} {y:.1}"));
            command = 'L';
        }
        self.area.push_str(&format!("L{last:.0} {HEIGHT}Z"));
    }
}
