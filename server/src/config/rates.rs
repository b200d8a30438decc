//! `[limits.rates]`.

use claviger_runtime::settings::Section;

/// How often may be asked in a second, and how much at a time. For a moment it may be twice as often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rates {
    /// Requests at a time.
    pub requests: usize,
    /// Requests of all callers, per second.
    pub all: u32,
    /// Requests of one agent, of another identity that calls, or of one address, per second.
    pub caller: u32,
    /// Credentials for one identity, per second.
    pub identity: u32,
}

impl Default for Rates {
    /// Far above what two processors can do, so that what is refused by default is a runaway.
    fn default() -> Self {
        Self { requests: 1_024, all: 40_000, caller: 10_000, identity: 2_000 }
    }
}

/// Reads `[limits.rates]`, beside which stands how many `requests` there may be at a time.
pub(super) fn read(section: &mut Section<'_>, requests: usize) -> Rates {
    let default = Rates { requests, ..Rates::default() };
    let mut rate = |key: &'static str, default: u32| {
        let rate = section.value::<u32>(key).unwrap_or(default);
        if rate == 0 {
            section.problem(key, &rate, "allow at least one in a second");
        }
        rate
    };
    Rates {
        all: rate("all", default.all),
        caller: rate("caller", default.caller),
        identity: rate("identity", default.identity),
        ..default
    }
}
