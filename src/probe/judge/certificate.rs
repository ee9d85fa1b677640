//! A certificate's dates: outside them is bad, and so is too little time left. Pure.

use super::Judgement;

const DAY: i64 = 86_400;

/// From when until when a certificate is valid, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// Valid from.
    pub not_before: i64,
    /// Valid until.
    pub not_after: i64,
}

impl Dates {
    /// Whole days left, rounded down: negative once it has expired.
    #[must_use]
    pub const fn days_left(self, now: i64) -> i64 {
        self.not_after.saturating_sub(now).div_euclid(DAY)
    }

    /// Why it is not valid now.
    #[must_use]
    pub fn fault(self, now: i64) -> Option<String> {
        let days = |seconds: i64| match seconds / DAY {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            n => format!("{n} days"),
        };
        if now > self.not_after {
            Some(format!("the certificate expired {} ago", days(now.saturating_sub(self.not_after))))
        } else if now < self.not_before {
            Some(format!("the certificate is not valid for another {}", days(self.not_before.saturating_sub(now))))
        } else {
            None
        }
    }
}

/// Applies the dates to a judgement; returns the days left.
pub fn apply(dates: Dates, now: i64, min_days_left: Option<u32>, judgement: &mut Judgement) -> i64 {
    let left = dates.days_left(now);
    if let Some(fault) = dates.fault(now) {
        judgement.fail(&fault);
    } else if let Some(least) = min_days_left.filter(|least| left < i64::from(*least)) {
        judgement.fail(&format!("the certificate is valid for {left} more days, expected at least {least}"));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;

    #[test]
    fn dates_are_judged() {
        let dates = Dates { not_before: 10 * DAY, not_after: 20 * DAY };
        let at = |now, least| {
            let mut judgement = Judgement::good("fine");
            let left = apply(dates, now, least, &mut judgement);
            (judgement.outcome, left, judgement.output.to_string())
        };
        assert_eq!(at(15 * DAY, Some(5)), (Outcome::Good, 5, "fine".to_owned()));
        assert_eq!(at(15 * DAY + 1, Some(5)).0, Outcome::Bad);
        assert_eq!(at(20 * DAY, None).0, Outcome::Good, "the last second counts");
        assert_eq!(at(22 * DAY, None), (Outcome::Bad, -2, "the certificate expired 2 days ago".to_owned()));
        assert_eq!(at(9 * DAY, None).2, "the certificate is not valid for another 1 day");
        assert_eq!(at(i64::MIN, None).0, Outcome::Bad);
    }
}
