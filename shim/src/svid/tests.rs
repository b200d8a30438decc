use rcgen::PKCS_ECDSA_P384_SHA384;

use super::fixture::{Agent, Authority, clock, late};
use super::*;

const WEB: &str = "spiffe://example.org/web";

async fn why(agent: &Agent) -> NoSvid {
    agent.svids.current().await.unwrap_err()
}

#[tokio::test]
async fn what_the_agent_says_last_counts() {
    let ca = Authority::new("example.org");
    let agent = Agent::new(ca.says(WEB, 200));
    let first = agent.svids.current().await.unwrap();
    assert_eq!(first.id().to_string(), WEB);
    agent.say(ca.says("spiffe://example.org/db", 201));
    assert_eq!(agent.svids.current().await.unwrap().id().path(), "/db");
    assert_eq!(first.id().path(), "/web");
}

#[tokio::test(start_paused = true)]
async fn the_first_handshake_waits_for_the_agents_first_word_but_not_for_ever() {
    let ca = Authority::new("example.org");
    let agent = Agent::silent(None, Profile::default(), clock());
    assert_eq!(why(&agent).await, NoSvid::Silent);
    let saying = async { agent.say(ca.says(WEB, 200)) };
    let (own, ()) = tokio::join!(agent.svids.current(), saying);
    assert_eq!(own.unwrap().id().path(), "/web");
    agent.svids.ready().await;
}

#[tokio::test]
async fn who_is_nobody_any_more_has_no_svid() {
    let ca = Authority::new("example.org");
    let agent = Agent::new(ca.says(WEB, 200));
    agent.withdraw();
    assert_eq!(why(&agent).await, NoSvid::Nobody);
    agent.say(ca.says(WEB, 201));
    agent.svids.current().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_away_withdraws_nothing() {
    let agent = Agent::new(Authority::new("example.org").says(WEB, 200));
    agent.follower.ended(Err(tonic::Status::unavailable("gone")));
    agent.follower.ended(Ok(()));
    agent.svids.current().await.unwrap();
}

#[tokio::test]
async fn an_svid_that_is_over_is_not_used() {
    let agent = Agent::silent(None, Profile::default(), late());
    agent.say(Authority::new("example.org").says(WEB, 200));
    assert_eq!(why(&agent).await, NoSvid::Expired);
}

#[tokio::test]
async fn it_is_the_identity_that_was_asked_for() {
    let ca = Authority::new("example.org");
    let agent = Agent::silent(Some(WEB), Profile::default(), clock());
    let mut both = ca.says("spiffe://example.org/db", 200);
    agent.say(both.clone());
    assert_eq!(why(&agent).await, NoSvid::NotThis(WEB.parse().unwrap()));
    both.svids.extend(ca.says(WEB, 201).svids);
    agent.say(both);
    assert_eq!(agent.svids.current().await.unwrap().id().path(), "/web");
}

#[tokio::test]
async fn what_is_malformed_changes_nothing() {
    let (ca, other) = (Authority::new("example.org"), Authority::new("example.org"));
    let agent = Agent::new(ca.says(WEB, 200));
    let (good, another) = (ca.says(WEB, 201), other.says("spiffe://example.org/db", 201));
    let broken = |change: &dyn Fn(&mut claviger_proto::workload::X509svidResponse)| {
        let mut says = good.clone();
        change(&mut says);
        agent.say(says);
    };
    broken(&|says| says.svids[0].x509_svid = "junk".into());
    broken(&|says| says.svids[0].x509_svid_key = another.svids[0].x509_svid_key.clone());
    broken(&|says| says.svids[0].spiffe_id = "spiffe://example.org/db".to_owned());
    broken(&|says| says.svids[0].bundle = says.svids[0].x509_svid.clone());
    broken(&|says| says.crl = vec!["junk".into()]);
    let own = agent.svids.current().await.unwrap();
    assert_eq!(own.id().path(), "/web");
}

#[tokio::test]
async fn a_profile_is_held_against_our_own_key() {
    let weak = Agent::within(Profile::Cnsa2, Authority::new("example.org").says(WEB, 200));
    assert_eq!(why(&weak).await, NoSvid::Profile(WEB.parse().unwrap()));
    let ca = Authority::with("example.org", &PKCS_ECDSA_P384_SHA384);
    let strong = Agent::within(Profile::Cnsa2, ca.says(WEB, 200));
    strong.svids.current().await.unwrap();
}
