//! Which techniques of MITRE ATLAS an event looks like, as of version 5.6.

use claviger_core::decision::Action;

use super::notice::Kind;

/// Valid Accounts: somebody uses credentials that are genuine for what they were not given for.
const VALID_ACCOUNTS: &str = "AML.T0012";

/// AI Agent Tool Invocation.
const TOOL_INVOCATION: &str = "AML.T0053";

/// Use Alternate Authentication Material: Application Access Token.
const ACCESS_TOKEN: &str = "AML.T0091.000";

/// What `event` looks like, if `action` was wanted.
pub(super) const fn techniques(event: Kind, action: Option<&Action>) -> &'static [&'static str] {
    match (event, action) {
        (
            Kind::Denied
            | Kind::Observed
            | Kind::UnexpectedPath
            | Kind::RateAnomaly
            | Kind::RepeatedDenials,
            Some(Action::Call(_)),
        ) => &[TOOL_INVOCATION],
        (Kind::Denied | Kind::UnexpectedPath | Kind::RepeatedDenials, _) => &[VALID_ACCOUNTS],
        (Kind::Replayed, _) => &[ACCESS_TOKEN],
        (
            Kind::Observed
            | Kind::RateAnomaly
            | Kind::Quarantined
            | Kind::QuarantineLifted
            | Kind::RiskChanged
            | Kind::ApprovalGiven
            | Kind::ApprovalRefused
            | Kind::PolicyLoaded
            | Kind::PolicyRefused,
            _,
        ) => &[],
    }
}
