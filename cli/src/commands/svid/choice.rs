//! Which of the process's identities is meant.

use clap::Args;
use claviger_core::id::SpiffeId;
use claviger_proto::workload::X509svidResponse;

/// Which of the process's identities is meant; all of them if nothing is said.
#[derive(Args, Debug, Default)]
pub(super) struct Choice {
    /// Only this identity; all of this process's if not given
    #[arg(long, alias = "spiffeID", value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Only the identity that has this hint
    #[arg(long, value_name = "WORD")]
    hint: Option<String>,
}

/// The process has other identities than the one that was asked for.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("none of this process's identities is the one asked for: it has {}", .has.join(", "))]
pub(super) struct NoneFits {
    has: Vec<String>,
}

impl Choice {
    /// Leaves in `response` only what was asked for, which is at least one identity.
    pub(super) fn narrow(
        &self,
        mut response: X509svidResponse,
    ) -> Result<X509svidResponse, NoneFits> {
        let name = |id: &String, hint: &str| match hint {
            "" => id.clone(),
            hint => format!("{id} (hint {hint})"),
        };
        let has = response.svids.iter().map(|svid| name(&svid.spiffe_id, &svid.hint)).collect();
        response.svids.retain(|svid| {
            self.spiffe_id.as_ref().is_none_or(|id| id.to_string() == svid.spiffe_id)
                && self.hint.as_ref().is_none_or(|hint| *hint == svid.hint)
        });
        if response.svids.is_empty() { Err(NoneFits { has }) } else { Ok(response) }
    }
}

#[cfg(test)]
mod tests {
    use claviger_proto::workload::X509svid;

    use super::*;

    fn response() -> X509svidResponse {
        let svid = |name: &str, hint: &str| X509svid {
            spiffe_id: format!("spiffe://a.org/{name}"),
            hint: hint.into(),
            ..X509svid::default()
        };
        X509svidResponse {
            svids: vec![svid("web", ""), svid("db", "backend")],
            ..X509svidResponse::default()
        }
    }

    fn names(choice: &Choice) -> Result<Vec<String>, NoneFits> {
        let narrowed = choice.narrow(response())?;
        Ok(narrowed.svids.into_iter().map(|svid| svid.spiffe_id).collect())
    }

    #[test]
    fn all_are_meant_unless_one_is_named() {
        let (web, db) = ("spiffe://a.org/web", "spiffe://a.org/db");
        assert_eq!(names(&Choice::default()).unwrap(), [web, db]);
        let by_id = Choice { spiffe_id: Some(db.parse().unwrap()), hint: None };
        assert_eq!(names(&by_id).unwrap(), [db]);
        let by_hint = Choice { spiffe_id: None, hint: Some("backend".into()) };
        assert_eq!(names(&by_hint).unwrap(), [db]);
    }

    #[test]
    fn who_asks_for_an_identity_that_is_not_there_learns_which_are() {
        let both =
            Choice { spiffe_id: "spiffe://a.org/web".parse().ok(), hint: Some("backend".into()) };
        assert_eq!(
            names(&both).unwrap_err().to_string(),
            "none of this process's identities is the one asked for: it has spiffe://a.org/web, \
             spiffe://a.org/db (hint backend)"
        );
    }
}
