//! What was carried over the last minute.

/// The minute is kept in pieces of this many milliseconds.
const PIECE_MS: i64 = 5_000;
const PIECES: usize = 12;

/// Rows and bytes of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    /// Piece number (time divided by the length of a piece), rows, bytes; one slot for each number modulo [`PIECES`].
    pieces: [(i64, u64, u64); PIECES],
}

impl Rate {
    /// Counts what was done until now.
    pub fn add(&mut self, now_ms: i64, rows: u64, bytes: u64) {
        let number = now_ms.div_euclid(PIECE_MS);
        let slot = usize::try_from(number.rem_euclid(i64::try_from(PIECES).unwrap_or(1))).unwrap_or(0);
        if let Some(piece) = self.pieces.get_mut(slot) {
            if piece.0 != number {
                *piece = (number, 0, 0);
            }
            piece.1 = piece.1.saturating_add(rows);
            piece.2 = piece.2.saturating_add(bytes);
        }
    }

    /// Rows and bytes per second over the last minute.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "rates are for people")]
    pub fn per_second(&self, now_ms: i64) -> (f64, f64) {
        let now = now_ms.div_euclid(PIECE_MS);
        let oldest = now - i64::try_from(PIECES).unwrap_or(0);
        let (rows, bytes) = self
            .pieces
            .iter()
            .filter(|(number, ..)| *number > oldest && *number <= now)
            .fold((0_u64, 0_u64), |sum, piece| {
                (sum.0.saturating_add(piece.1), sum.1.saturating_add(piece.2))
            });
        (rows as f64 / 60.0, bytes as f64 / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_counts() {
        let start = 1_700_000_000_000;
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(start), (0.0, 0.0));
        rate.add(start, 600, 6_000);
        rate.add(start + 30_000, 600, 6_000);
        assert_eq!(rate.per_second(start + 30_000), (20.0, 200.0));
        assert_eq!(rate.per_second(start + 59_000), (20.0, 200.0));
        assert_eq!(rate.per_second(start + 61_000), (10.0, 100.0));
        rate.add(start + 61_000, 60, 60);
        assert_eq!(rate.per_second(start + 61_000), (11.0, 101.0));
        assert_eq!(rate.per_second(start + 600_000), (0.0, 0.0));
    }
}
