//! Reading what an API server says about a token.

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

use super::claims::Claims;
use super::names::{Name, ServiceAccount, Uid};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Checks that a review vouches for the token with these `claims`, as one for `audiences`.
pub(super) fn check(
    review: &TokenReviewStatus,
    claims: &Claims,
    audiences: &[String],
) -> Result<(), ReviewError> {
    if review.authenticated != Some(true) {
        // Of the API server's own making, and as long as it likes.
        let why = review.error.as_deref().unwrap_or("no reason given");
        return Err(ReviewError::NotGenuine(why.chars().take(300).collect()));
    }
    // An authenticator that does not know about audiences lets a token for anybody pass.
    let confirmed = review.audiences.as_deref().unwrap_or_default();
    if !confirmed.iter().any(|audience| audiences.contains(audience)) {
        return Err(ReviewError::Audience);
    }
    let user = review.user.as_ref().ok_or(ReviewError::NotAPod)?;
    let username = user.username.as_deref().unwrap_or_default();
    let account = ServiceAccount::of_user(username).map_err(|_other| ReviewError::NotAPod)?;
    let pod: Name = one(user, POD_NAME)?.parse().map_err(|_malformed| ReviewError::NotAPod)?;
    let uid: Uid = one(user, POD_UID)?.parse().map_err(|_malformed| ReviewError::NotAPod)?;
    if account == claims.account && pod == claims.pod.name && uid == claims.pod.uid {
        Ok(())
    } else {
        Err(ReviewError::Another)
    }
}

/// The one value of the extra `key`.
fn one<'a>(user: &'a UserInfo, key: &str) -> Result<&'a str, ReviewError> {
    let values = user.extra.as_ref().and_then(|extra| extra.get(key));
    match values.map(Vec::as_slice) {
        Some([value]) => Ok(value),
        Some(_) | None => Err(ReviewError::NotAPod),
    }
}

/// Why a review does not vouch for a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("the API server does not accept the token: {0}")]
    NotGenuine(String),
    #[error("the API server does not confirm whom the token is meant for")]
    Audience,
    #[error("the API server knows the token as no pod's")]
    NotAPod,
    #[error("the API server knows the token as another one's than it says itself")]
    Another,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::{claims, reviewed, unsigned};
    use super::*;

    /// What is said to the usual review with `value` at the JSON pointer `path`.
    fn with(path: &str, value: Value) -> Result<(), ReviewError> {
        let mut status = reviewed(&["spire-server"]);
        *status.pointer_mut(path).unwrap() = value;
        let status: TokenReviewStatus = serde_json::from_value(status).unwrap();
        let claims = Claims::read(&unsigned(&claims())).unwrap();
        check(&status, &claims, &["spire-server".to_owned()])
    }

    #[test]
    fn a_review_vouches_for_a_token() {
        assert_eq!(with("/authenticated", json!(true)), Ok(()));
        assert_eq!(with("/audiences", json!(["other", "spire-server"])), Ok(()));
    }

    #[test]
    fn anything_less_does_not() {
        let none = "no reason given".to_owned();
        assert_eq!(
            with("/authenticated", json!(false)),
            Err(ReviewError::NotGenuine(none.clone()))
        );
        assert_eq!(with("/authenticated", Value::Null), Err(ReviewError::NotGenuine(none)));
        for audiences in [Value::Null, json!([]), json!(["other"]), json!([""])] {
            assert_eq!(with("/audiences", audiences), Err(ReviewError::Audience));
        }
        for user in ["", "admin", "system:node:agent", "system:serviceaccount:claviger:agent:x"] {
            assert_eq!(with("/user/username", json!(user)), Err(ReviewError::NotAPod), "{user}");
        }
        let other = json!("system:serviceaccount:claviger:other");
        assert_eq!(with("/user/username", other), Err(ReviewError::Another));
        assert_eq!(with("/user/extra", json!({})), Err(ReviewError::NotAPod));
        assert_eq!(with("/user", Value::Null), Err(ReviewError::NotAPod));
        for key in ["pod-name", "pod-uid"] {
            let path = format!("/user/extra/authentication.kubernetes.io~1{key}");
            assert_eq!(with(&path, json!([])), Err(ReviewError::NotAPod));
            assert_eq!(with(&path, json!(["agent-1", "agent-1"])), Err(ReviewError::NotAPod));
            assert_eq!(with(&path, json!([""])), Err(ReviewError::NotAPod));
            assert_eq!(with(&path, json!(["agent-2"])), Err(ReviewError::Another));
        }
    }
}
