//! A series as a small picture: the coordinates of an SVG path, and what a screen reader says instead.

use std::fmt::Write;

use super::ring::Fold;

/// What a picture is drawn on, in whole units of its own: pictures are most of what a page has to send, and few points
/// and small numbers are less of it.
#[derive(Debug, Clone, Copy)]
pub struct Canvas {
    pub points: usize,
    /// From one point to the next.
    pub step: usize,
    pub height: usize,
}

/// Beside a pool, stretched to the room that there is. A point stands for ten seconds of five minutes, or two minutes of
/// an hour.
pub const WIDE: Canvas = Canvas { points: 30, step: 2, height: 40 };
/// In a table, in pixels: 72 by 20. A point stands for twelve seconds of five minutes.
pub const SMALL: Canvas = Canvas { points: 25, step: 3, height: 20 };

/// Ready to be drawn; an empty path when nothing is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spark {
    /// Line and area in one: each run of known values stands on the ground. It is a unit wider on each side than its
    /// points, so that one alone is seen, and the edges of a whole one lie outside of the picture.
    pub path: String,
    pub peak: f64,
}

/// Draws a series of up to `span` values, oldest first; one that is shorter begins in the middle of the picture.
pub fn spark(values: impl Iterator<Item = f64>, span: usize, canvas: Canvas, fold: Fold) -> Spark {
    let values: Vec<f64> = values.collect();
    let Canvas { points: most, step, height } = canvas;
    let each = span / most;
    // Cut from the end of time backwards, so that a point does not change when it moves.
    let points: Vec<f64> =
        values.rchunks(each.max(1)).take(most).map(|chunk| fold.over(chunk.iter().copied())).collect();
    let peak = Fold::Greatest.over(points.iter().copied());
    if !peak.is_finite() {
        return Spark::default();
    }
    let scale = if peak > 0.0 { (height - 2) as f64 / peak } else { 0.0 };
    let mut picture = Spark { peak, ..Spark::default() };
    let mut run: Vec<(isize, isize)> = Vec::new();
    for (index, &value) in points.iter().enumerate().rev() {
        if value.is_finite() {
            let (x, y) = (step * (most - 1 - index), height - 1 - (value * scale).round() as usize);
            run.push((x as isize, y as isize));
        } else {
            picture.add(&std::mem::take(&mut run), canvas);
        }
    }
    picture.add(&run, canvas);
    picture
}

impl Spark {
    /// A run of known values: gaps are left open.
    fn add(&mut self, run: &[(isize, isize)], Canvas { step, height, .. }: Canvas) {
        let Some((x, y)) = run.first() else { return };
        // Writing to a String cannot fail.
        let _ = write!(self.path, "M{} {height}V{y}h1", x - 1);
        let mut command = 'l';
        for pair in run.windows(2) {
            // How far up or down is mostly a shorter number than where; a minus separates as well as a space.
            let by = pair[1].1 - pair[0].1;
            let _ = write!(self.path, "{command}{step}{}{by}", if by < 0 { "" } else { " " });
            command = ' ';
        }
        let _ = write!(self.path, "h1V{height}");
    }
}
