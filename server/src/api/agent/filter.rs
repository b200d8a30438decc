//! What a listing of agents selects, and what it shows.

use claviger_core::selector::Selector;
use claviger_core::time::UnixTime;
use claviger_proto::convert::times;
use claviger_proto::spire::server::agent::v1::{count_agents_request, list_agents_request};
use claviger_proto::spire::types;
use time::{Date, Month, UtcOffset};
use tonic::Status;

use super::super::bundle::keep;
use super::super::malformed;
use super::facts;
use crate::registry::agents::Agent;
use crate::registry::filter::Match;

/// Conditions on an agent; every one that is set must hold.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kind: Option<String>,
    selectors: Option<Match<Selector>>,
    banned: Option<bool>,
    reattestable: Option<bool>,
    expires_before: Option<UnixTime>,
}

impl Filter {
    pub(super) fn holds(&self, agent: &Agent) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == agent.kind)
            && self.selectors.as_ref().is_none_or(|wanted| wanted.holds(&agent.selectors))
            && self.banned.is_none_or(|banned| banned == agent.banned)
            && self.reattestable.is_none_or(|can| can == agent.reattestable)
            && self.expires_before.is_none_or(|end| agent.svid.not_after < end)
    }
}

impl TryFrom<list_agents_request::Filter> for Filter {
    type Error = Status;

    fn try_from(wire: list_agents_request::Filter) -> Result<Self, Status> {
        let expires_before = match wire.by_expires_before.as_str() {
            "" => None,
            text => Some(point_in_time(text).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "filter.by_expires_before: `{}` is not of the form \
                     `2006-01-02 15:04:05 -0700 -07`",
                    text.escape_debug()
                ))
            })?),
        };
        Ok(Self {
            kind: Some(wire.by_attestation_type).filter(|kind| !kind.is_empty()),
            selectors: wire
                .by_selector_match
                .map(|wanted| Match::selectors(wanted, "filter.by_selector_match"))
                .transpose()
                .map_err(|error| malformed(&error))?,
            banned: wire.by_banned,
            reattestable: wire.by_can_reattest,
            expires_before,
        })
    }
}

impl TryFrom<count_agents_request::Filter> for Filter {
    type Error = Status;

    fn try_from(wire: count_agents_request::Filter) -> Result<Self, Status> {
        list_agents_request::Filter {
            by_attestation_type: wire.by_attestation_type,
            by_selector_match: wire.by_selector_match,
            by_banned: wire.by_banned,
            by_can_reattest: wire.by_can_reattest,
            by_expires_before: wire.by_expires_before,
        }
        .try_into()
    }
}

/// Those fields of an agent that the mask selects; all of them without a mask.
pub(super) fn select(agent: &Agent, mask: Option<&types::AgentMask>) -> types::Agent {
    let all = types::AgentMask {
        attestation_type: true,
        x509svid_serial_number: true,
        x509svid_expires_at: true,
        selectors: true,
        banned: true,
        can_reattest: true,
    };
    let mask = mask.unwrap_or(&all);
    types::Agent {
        id: Some((&agent.id).into()),
        attestation_type: keep(mask.attestation_type, agent.kind.clone()),
        x509svid_serial_number: keep(mask.x509svid_serial_number, agent.svid.decimal_serial()),
        x509svid_expires_at: keep(mask.x509svid_expires_at, times::to_wire(agent.svid.not_after)),
        selectors: keep(mask.selectors, facts(&agent.selectors)),
        banned: keep(mask.banned, agent.banned),
        can_reattest: keep(mask.can_reattest, agent.reattestable),
    }
}

/// The time in SPIRE's notation, `2006-01-02 15:04:05 -0700 -07`. The zone's name, which comes last,
/// says nothing that its offset does not.
fn point_in_time(text: &str) -> Option<UnixTime> {
    let [date, clock, zone, _name] = text.splitn(4, ' ').collect::<Vec<_>>().try_into().ok()?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    let [hour, minute, second] = [hour, minute, second].map(|part| u8::try_from(part).ok());
    let time = date.with_hms(hour?, minute?, second?).ok()?.assume_offset(offset(zone)?);
    u64::try_from(time.unix_timestamp()).ok().map(UnixTime::from_secs)
}

/// `+0130` or `-0130`.
fn offset(zone: &str) -> Option<UtcOffset> {
    let hours = zone.get(..3)?.parse().ok()?;
    let minutes: i8 = zone.get(3..).filter(|minutes| minutes.len() == 2)?.parse().ok()?;
    let signed = if zone.starts_with('-') { minutes.checked_neg()? } else { minutes };
    UtcOffset::from_hms(hours, signed, 0).ok()
}

fn numbers(text: &str, between: char) -> Option<[i32; 3]> {
    let numbers: Option<Vec<_>> = text.split(between).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read_as_spires_tools_write_them() {
        let secs = |text| point_in_time(text).map(UnixTime::as_secs);
        assert_eq!(secs("2026-11-21 00:00:00 +0000 +00"), Some(1_795_219_200));
        assert_eq!(secs("2026-11-21 01:30:00 +0130 +0130"), Some(1_795_219_200));
        assert_eq!(secs("2026-11-20 22:30:00 -0130 -0130"), Some(1_795_219_200));
        for bad in [
            "",
            "tomorrow",
            "2026-11-21",
            "2026-13-21 00:00:00 +0000 +00",
            "2026-11-21 24:00:00 +0000 +00",
            "2026-11-21 00:00:00 0000 +00",
            "1969-01-01 00:00:00 +0000 +00",
        ] {
            assert_eq!(point_in_time(bad), None, "{bad}");
        }
    }
}
