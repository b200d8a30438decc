//! Programs without an agent whose identity is in quarantine.

use claviger_core::grant::Requester;
use claviger_core::standing::Risk;
use http::StatusCode;
use serde_json::json;

use super::world::{Evidence, World};
use super::{CI, STORE, csr};
use crate::standings::Change;

async fn change(world: &World, id: &str, change: Change) {
    let (id, reason) = (id.parse().unwrap(), "test".parse().unwrap());
    let standings = &world.shared.storage.standings;
    let changed = standings.change(&id, change, reason, Requester::Server).await;
    assert!(changed.unwrap().record().is_some());
}

#[tokio::test]
async fn evidence_earns_nothing_in_quarantine_and_is_fresh_after_it() {
    let world = World::start().await;
    let asked = |path: &'static str| match path {
        "/v1/svid/x509" => json!({ "csr": csr().1 }),
        "/v1/svid/jwt" => json!({ "audience": ["x"] }),
        _ => json!({ "peer": STORE, "purpose": "upload" }),
    };
    let mut tokens = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"].into_iter();
    let mut status = async |path| {
        let token = tokens.next().unwrap();
        world.post(path, &Evidence::of(token), asked(path)).await.status
    };
    let paths = ["/v1/svid/x509", "/v1/svid/jwt", "/v1/psk"];
    for path in paths {
        assert_eq!(status(path).await, StatusCode::OK, "{path}");
    }
    change(&world, CI, Change::Quarantine).await;
    for path in paths {
        assert_eq!(status(path).await, StatusCode::FORBIDDEN, "{path}");
    }
    change(&world, CI, Change::Lift).await;
    change(&world, CI, Change::Risk(Risk::MAX)).await;
    for path in paths {
        assert_eq!(status(path).await, StatusCode::OK, "{path}: direct evidence is fresh");
    }
    change(&world, STORE, Change::Quarantine).await;
    assert_eq!(status("/v1/psk").await, StatusCode::FORBIDDEN, "nobody dials it either");
}
