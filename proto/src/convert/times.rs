//! Points in time: whole seconds since the Unix epoch, signed on the wire.

use claviger_core::time::UnixTime;

use super::Problem;

/// The time on the wire.
///
/// # Errors
///
/// [`Problem::Time`] if it lies before 1970 or after 9999.
pub fn time(wire: i64) -> Result<UnixTime, Problem> {
    match u64::try_from(wire).map(UnixTime::from_secs) {
        Ok(time) if time <= UnixTime::MAX => Ok(time),
        Ok(_) | Err(_) => Err(Problem::Time(wire)),
    }
}

/// The end on the wire, where 0 stands for never.
///
/// # Errors
///
/// [`Problem::Time`] if it lies before 1970 or after 9999.
pub fn end(wire: i64) -> Result<Option<UnixTime>, Problem> {
    if wire == 0 { Ok(None) } else { time(wire).map(Some) }
}

/// `time` for the wire; what lies after 9999 is the end of 9999.
#[must_use]
pub fn to_wire(time: UnixTime) -> i64 {
    i64::try_from(time.min(UnixTime::MAX).as_secs()).unwrap_or(i64::MAX)
}

/// `end` for the wire. An end in second 0 is sent as second 1, which is as long ago: 0 would say
/// that it never ends.
#[must_use]
pub fn end_to_wire(end: Option<UnixTime>) -> i64 {
    end.map_or(0, |time| to_wire(time).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: i64 = 253_402_300_799;

    #[test]
    fn times_come_back_as_they_went() {
        for secs in [0, 1, 1_795_000_000, LAST] {
            assert_eq!(time(secs).map(to_wire), Ok(secs));
            assert_eq!(end(secs).map(end_to_wire), Ok(secs));
        }
        assert_eq!(end(0), Ok(None));
    }

    #[test]
    fn what_no_certificate_can_name_is_refused() {
        for secs in [-1, i64::MIN, LAST + 1, i64::MAX] {
            assert_eq!(time(secs), Err(Problem::Time(secs)));
            assert_eq!(end(secs), Err(Problem::Time(secs)));
        }
    }

    #[test]
    fn an_end_never_turns_into_never() {
        assert_eq!(end_to_wire(Some(UnixTime::from_secs(0))), 1);
        assert_eq!(end_to_wire(Some(UnixTime::from_secs(u64::MAX))), LAST);
    }
}
