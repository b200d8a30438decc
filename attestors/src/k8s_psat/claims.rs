//! What a token says about itself, before anybody has vouched for it.

use claviger_core::jose::compact::{Compact, CompactError};
use claviger_core::time::UnixTime;
use serde::Deserialize;

use super::names::{Name, ServiceAccount, Uid};

/// The claims of a token that is bound to a pod. Unverified: anybody can write them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    /// Which cluster says it made the token.
    pub issuer: String,
    /// Whom it is meant for.
    pub audiences: Vec<String>,
    /// When it begins to hold.
    pub not_before: Option<UnixTime>,
    /// When it ends.
    pub expires_at: UnixTime,
    /// Whose it is.
    pub account: ServiceAccount,
    /// The pod that it was made for, and ends with.
    pub pod: Reference,
    /// The node of that pod; from Kubernetes 1.30 on.
    pub node: Option<Reference>,
}

/// One object, and not another of the same name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Reference {
    /// Its name.
    pub name: Name,
    /// Its uid.
    pub uid: Uid,
}

#[derive(Deserialize)]
struct Payload {
    iss: String,
    aud: OneOrMany,
    exp: u64,
    nbf: Option<u64>,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Private,
}

/// The claims that Kubernetes adds.
#[derive(Deserialize)]
struct Private {
    namespace: Name,
    serviceaccount: Reference,
    pod: Option<Reference>,
    node: Option<Reference>,
}

/// RFC 7519 §4.1.3: an audience of one may be a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Claims {
    /// The claims of the compact JWS `token`. Its signature is not looked at.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] if they are not those of a token that is bound to a pod.
    pub fn read(token: &str) -> Result<Self, ClaimsError> {
        Self::of(&Compact::parse_foreign(token)?)
    }

    fn of(token: &Compact<'_>) -> Result<Self, ClaimsError> {
        // What the parser says about them would show a stranger's words to the operator.
        let payload: Payload =
            serde_json::from_slice(&token.payload).map_err(|_detail| ClaimsError::Payload)?;
        let Private { namespace, serviceaccount, pod, node } = payload.kubernetes;
        let account = ServiceAccount { namespace, name: serviceaccount.name };
        if ServiceAccount::of_user(&payload.sub).as_ref() != Ok(&account) {
            return Err(ClaimsError::Subject);
        }
        let audiences = match payload.aud {
            OneOrMany::One(audience) => vec![audience],
            OneOrMany::Many(audiences) => audiences,
        };
        Ok(Self {
            issuer: payload.iss,
            audiences,
            not_before: payload.nbf.map(UnixTime::from_secs),
            expires_at: UnixTime::from_secs(payload.exp),
            account,
            pod: pod.ok_or(ClaimsError::Unbound)?,
            node,
        })
    }
}

/// Why a string is no token that is bound to a pod.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClaimsError {
    /// It is no token.
    #[error("it is no service-account token")]
    Token(#[from] CompactError),
    /// Its payload is not that of a bound service-account token.
    #[error("its payload is not that of a projected service-account token")]
    Payload,
    /// Its subject is another than the service account that it names.
    #[error("its subject is not the service account that it names")]
    Subject,
    /// It is bound to no pod.
    #[error("it is not bound to a pod; mount one as a projected volume")]
    Unbound,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::{claims, unsigned};
    use super::*;

    /// The error for the usual claims with the member at `path` replaced, or removed.
    fn with(path: &[&str], value: Option<Value>) -> ClaimsError {
        let mut claims = claims();
        let (last, parents) = path.split_last().unwrap();
        let parent = parents.iter().fold(&mut claims, |object, key| &mut object[*key]);
        match value {
            Some(value) => parent[*last] = value,
            None => drop(parent.as_object_mut().unwrap().remove(*last)),
        }
        Claims::read(&unsigned(&claims)).unwrap_err()
    }

    #[test]
    fn claims_of_a_bound_token_are_read() {
        let read = Claims::read(&unsigned(&claims())).unwrap();
        assert_eq!(read.issuer, "https://kube.example.org");
        assert_eq!(read.audiences, ["spire-server"]);
        assert_eq!(read.account.to_string(), "claviger:agent");
        assert_eq!((read.pod.name.as_str(), read.pod.uid.as_str()), ("agent-1", "pod-uid-1"));
        assert_eq!(read.node.unwrap().name.as_str(), "node-1");
        assert_eq!(read.expires_at.since(read.not_before.unwrap()).as_secs(), 600);
    }

    #[test]
    fn an_old_cluster_does_not_say_which_node() {
        let mut old = claims();
        old["kubernetes.io"].as_object_mut().unwrap().remove("node");
        old["aud"] = json!("spire-server");
        let read = Claims::read(&unsigned(&old)).unwrap();
        assert_eq!((read.node, read.audiences), (None, vec!["spire-server".to_owned()]));
    }

    #[test]
    fn other_tokens_are_refused() {
        let kubernetes = "kubernetes.io";
        assert_eq!(with(&[kubernetes, "pod"], None), ClaimsError::Unbound);
        assert_eq!(with(&[kubernetes], None), ClaimsError::Payload);
        assert_eq!(with(&["exp"], None), ClaimsError::Payload);
        assert_eq!(with(&["exp"], Some(json!(-1))), ClaimsError::Payload);
        assert_eq!(with(&["aud"], None), ClaimsError::Payload);
        let other = json!("system:serviceaccount:claviger:other");
        assert_eq!(with(&["sub"], Some(other)), ClaimsError::Subject);
        assert_eq!(with(&[kubernetes, "namespace"], Some(json!("../kube"))), ClaimsError::Payload);
        assert_eq!(
            with(&[kubernetes, "pod", "name"], Some(json!("a/log?x="))),
            ClaimsError::Payload
        );
        assert!(matches!(Claims::read("opaque"), Err(ClaimsError::Token(CompactError::Parts))));
        let long = "t".repeat(20_000);
        assert!(matches!(Claims::read(&long), Err(ClaimsError::Token(CompactError::Length))));
    }
}
