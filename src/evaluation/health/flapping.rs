//! Flapping (design section 5): 20 weighted results, 30 % in, 25 % out. What flapping does to a state is left to `Track`.

/// How many results count.
const LENGTH: u32 = 20;
/// 0 = the last 20 results.
const MASK: u32 = (1 << LENGTH) - 1;
/// Weights grow in a line from 0.8 (oldest) to 1.2 (newest), as Icinga's do; scaled by 190 they are whole numbers.
const OLDEST_WEIGHT: u32 = 152;
const WEIGHT_STEP: u32 = 4;
const TOTAL_WEIGHT: u32 = 190 * LENGTH;
/// Flapping begins at this share of changes.
const IN_PERCENT: u32 = 30;
/// Flapping ends below this share of changes.
const OUT_PERCENT: u32 = 25;

/// Which of the last 20 results differed from the one before. Results that never came count as unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Bit 0 is the newest; set where the result changed.
    changes: u32,
    flapping: bool,
}

impl History {
    /// From the stored bits (bit 0 the newest) and mark.
    #[must_use]
    pub const fn restore(changes: u32, flapping: bool) -> Self {
        Self { changes: changes & MASK, flapping }
    }

    /// The bits, newest in bit 0.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.changes
    }

    /// Whether it flaps.
    #[must_use]
    pub const fn flapping(self) -> bool {
        self.flapping
    }

    /// Adds `missing` results that never came (unchanged), then one that came.
    pub fn push(&mut self, missing: u32, changed: bool) {
        let shifted = if missing >= LENGTH { 0 } else { self.changes << missing };
        self.changes = ((shifted << 1) | u32::from(changed)) & MASK;
        let share = self.weight() * 100;
        self.flapping =
            if self.flapping { share >= OUT_PERCENT * TOTAL_WEIGHT } else { share >= IN_PERCENT * TOTAL_WEIGHT };
    }

    /// Share of changed results, weighted, in percent, rounded down.
    #[must_use]
    pub fn percent(self) -> u32 {
        self.weight() * 100 / TOTAL_WEIGHT
    }

    fn weight(self) -> u32 {
        (0..LENGTH)
            .filter(|age| self.changes >> age & 1 == 1)
            .map(|age| OLDEST_WEIGHT + WEIGHT_STEP * (LENGTH - 1 - age))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_the_newest_is_heaviest() {
        assert_eq!(History::restore(MASK, false).weight(), TOTAL_WEIGHT);
        assert_eq!(History::restore(1, false).weight(), 228, "1.2");
        assert_eq!(History::restore(1 << 19, false).weight(), 152, "0.8");
    }

    #[test]
    fn thirty_percent_in_twenty_five_out() {
        let mut history = History::default();
        let mut came_in = 0;
        for i in 1..=20 {
            history.push(0, true);
            if history.flapping() && came_in == 0 {
                came_in = i;
            }
        }
        // Six newest changes weigh 228+224+…+208 = 1308 of 3800 = 34 %; five weigh 1100 = 28 %.
        assert_eq!(came_in, 6);
        let mut quiet = 0;
        while history.flapping() {
            history.push(0, false);
            quiet += 1;
        }
        // The oldest n of 20 weigh 152+156+…; below 950 of 3800 with five left (800), six weigh 972.
        assert_eq!(quiet, 15);
    }

    #[test]
    fn missing_results_count_as_unchanged() {
        let mut history = History::restore(MASK, true);
        history.push(19, false);
        assert_eq!(history.bits(), 0);
        assert!(!history.flapping());
        let mut history = History::restore(1, false);
        history.push(u32::MAX, true);
        assert_eq!(history.bits(), 1);
    }
}
