use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn caller(number: u8) -> Caller {
    Caller::Address(Ipv4Addr::new(10, 0, 0, number).into())
}

fn load(rates: Rates) -> Load {
    Load::new(rates)
}

/// As many as there is room for.
fn fill(load: &Load, class: Class) -> Vec<Room> {
    std::iter::from_fn(|| load.admit(caller(1), class).ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_worth_more_finds_room_when_what_is_worth_less_does_not() {
    let load = load(Rates { requests: 8, ..Rates::default() });
    let others = fill(&load, Class::Other);
    assert_eq!(others.len(), 4);
    assert_eq!(load.admit(caller(2), Class::Other).unwrap_err().why, Why::Requests);
    let issuing = fill(&load, Class::Issuance);
    assert_eq!(issuing.len(), 2);
    let redeeming = fill(&load, Class::Redemption);
    assert_eq!(redeeming.len(), 2);
    drop(others);
    let again = fill(&load, Class::Redemption);
    assert_eq!(again.len(), 4, "room that is given up is there again");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_too_often_takes_nothing_from_the_others() {
    let load = load(Rates { caller: 10, all: 30, ..Rates::default() });
    for _ in 0..1_000 {
        drop(load.admit(caller(1), Class::Redemption));
    }
    let overload = load.admit(caller(1), Class::Redemption).unwrap_err();
    assert_eq!((overload.why, overload.seconds()), (Why::Caller, 1));
    assert!(overload.wait <= Duration::from_millis(100), "{overload}");
    assert_eq!(fill_of(&load, &caller(2)), 20);
    assert_eq!(fill_of(&load, &caller(3)), 20);
    let overload = load.admit(caller(4), Class::Redemption).unwrap_err();
    assert_eq!(overload.why, Why::All);
    tokio::time::sleep(overload.wait).await;
    drop(load.admit(caller(4), Class::Redemption).unwrap());
}

fn fill_of(load: &Load, caller: &Caller) -> usize {
    (0..100).filter(|_| load.admit(caller.clone(), Class::Redemption).is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn an_identity_has_so_many_credentials_a_second_whoever_asks() {
    let load = load(Rates { identity: 5, ..Rates::default() });
    let [ci, web] = ["spiffe://example.org/ci", "spiffe://example.org/web"].map(|id| id.parse());
    let (ci, web) = (ci.unwrap(), web.unwrap());
    assert_eq!((0..100).filter(|_| load.credential(&ci).is_ok()).count(), 10);
    load.credential(&web).unwrap();
    let overload = load.credential(&ci).unwrap_err();
    assert_eq!(overload.why, Why::Identity);
    tokio::time::sleep(overload.wait).await;
    load.credential(&ci).unwrap();
}

proptest! {
    /// Whatever comes and goes, there is never more at a time than there may be, and nothing is leaked.
    #[test]
    fn room_is_kept_and_given_back(
        steps in prop::collection::vec((0..3_usize, any::<bool>()), 1..200),
        requests in 1..20_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let load = load(Rates { requests, ..Rates::default() });
        let mut held = Vec::new();
        for (class, leaves) in steps {
            let class = [Class::Other, Class::Issuance, Class::Redemption][class];
            if leaves {
                held.pop();
            }
            held.extend(load.admit(caller(1), class));
            prop_assert!(held.len() <= requests);
            prop_assert_eq!(load.0.serving.load(Ordering::Relaxed), held.len());
        }
        held.clear();
        prop_assert!(load.admit(caller(1), Class::Redemption).is_ok());
    }
}
