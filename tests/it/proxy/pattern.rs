//! A stream of bytes that is the same every time, and in which no stretch looks like its neighbour: a byte lost,
//! doubled or moved shows at once.

use std::sync::LazyLock;

use tokio::io::AsyncReadExt;

use super::peer::Peer;
use super::within;

/// A prime, so that no buffer size is a multiple of it.
const PERIOD: usize = 65_521;
/// Longest stretch looked at in one go.
pub const STRETCH: usize = 256 * 1024;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let period: Vec<u8> = (0..PERIOD).map(|_| byte()).collect();
    period.iter().copied().cycle().take(PERIOD + STRETCH).collect()
});

/// A place in the stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pattern {
    position: usize,
}

impl Pattern {
    pub fn position(self) -> usize {
        self.position
    }

    /// The next `count` bytes, at most [`STRETCH`].
    pub fn next(self, count: usize) -> &'static [u8] {
        let start = self.position % PERIOD;
        &BYTES[start..start + count.min(STRETCH)]
    }

    pub fn advance(&mut self, count: usize) {
        self.position += count;
    }

    /// Takes `bytes` for what comes next.
    pub fn check(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(STRETCH) {
            assert!(piece == self.next(piece.len()), "another stream from byte {} on", self.position);
            self.advance(piece.len());
        }
    }
}

impl Peer {
    /// Sends the pattern from its beginning.
    pub async fn say_pattern(&mut self, bytes: usize) {
        let mut pattern = Pattern::default();
        while pattern.position() < bytes {
            let piece = pattern.next(bytes - pattern.position());
            self.say(piece).await;
            pattern.advance(piece.len());
        }
    }

    /// Hears so much of the pattern from its beginning.
    pub async fn hear_pattern(&mut self, bytes: usize) {
        let mut pattern = Pattern::default();
        let mut buffer = vec![0; STRETCH];
        while pattern.position() < bytes {
            let room = STRETCH.min(bytes - pattern.position());
            let read = within("more of the pattern", self.stream.read(&mut buffer[..room])).await;
            let read = read.expect("no reset");
            assert!(read > 0, "the stream ended after {} of {bytes} bytes", pattern.position());
            pattern.check(&buffer[..read]);
        }
    }
}
