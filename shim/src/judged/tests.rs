use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::backend::Session;
use crate::fixture::{identity, psk};

/// A TLS stack that claims whatever it is told to, and writes a last flight.
#[derive(Debug)]
struct Claims(Outcome);

#[async_trait]
impl Backend for Claims {
    async fn handshake(
        &self,
        _role: Role,
        _identity: WireIdentity,
        _psk: &Psk,
        io: &mut dyn Io,
    ) -> Result<Box<dyn Handshake>, HandshakeError> {
        io.write_all(b"finished").await.unwrap();
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl Handshake for Claims {
    fn outcome(&self) -> Result<Outcome, HandshakeError> {
        Ok(self.0.clone())
    }

    fn open(self: Box<Self>, _io: Box<dyn Io>) -> Box<dyn Session> {
        panic!("nobody should open this")
    }
}

/// What the peer receives if the stack claims `outcome`, and the judgement.
async fn judge(outcome: Outcome) -> (String, Result<Judged, HandshakeError>) {
    let (mut near, mut far) = duplex(64);
    let key = psk(1);
    let stack = Claims(outcome);
    let judged = Judged::shake_hands(&stack, Role::Client, (identity(1), &key), &mut far).await;
    drop(far);
    let mut sent = String::new();
    near.read_to_string(&mut sent).await.unwrap();
    (sent, judged)
}

fn sound() -> Outcome {
    Outcome {
        tls13: true,
        identity: identity(1).to_string().into_bytes(),
        group: Some("x25519".to_owned()),
        suite: "TLS_AES_128_GCM_SHA256".to_owned(),
    }
}

#[tokio::test]
async fn a_sound_handshake_is_finished() {
    let (sent, judged) = judge(sound()).await;
    assert_eq!(sent, "finished");
    assert_eq!(judged.unwrap().group, "x25519");
}

#[tokio::test]
async fn any_other_handshake_is_not() {
    let other = identity(2).to_string().into_bytes();
    for outcome in [
        Outcome { tls13: false, ..sound() },
        Outcome { identity: Vec::new(), ..sound() },
        Outcome { identity: other, ..sound() },
        Outcome { group: None, ..sound() },
    ] {
        let (sent, judged) = judge(outcome.clone()).await;
        assert!(matches!(judged, Err(HandshakeError::Unauthenticated)), "{outcome:?}");
        assert_eq!(sent, "", "{outcome:?}");
    }
}
