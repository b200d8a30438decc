//! Points in time, for people.

use jiff::Timestamp;

/// `2026-11-21T10:00:00Z`; what is no time is shown as the number it is.
pub(crate) fn show(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// The same, for a number without a sign.
pub(crate) fn show_unsigned(seconds: u64) -> String {
    i64::try_from(seconds).map_or_else(|_| seconds.to_string(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        assert_eq!(show(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(show(i64::MAX), i64::MAX.to_string());
    }
}
