use proptest::prelude::*;

use super::*;

fn id(name: &str) -> SpiffeId {
    format!("spiffe://example.org/{name}").parse().unwrap()
}

fn look(anomalies: &Anomalies, source: &str, outcome: Outcome, now: u64) -> Vec<Anomaly> {
    let (source, now) = (id(source), UnixTime::from_secs(now));
    anomalies.look(Seen { source: &source, target: None, outcome, now }, || true)
}

fn reach(anomalies: &Anomalies, target: &str, outcome: Outcome, registered: bool) -> bool {
    let (source, target) = (id("web"), id(target));
    let seen =
        Seen { source: &source, target: Some(&target), outcome, now: UnixTime::from_secs(0) };
    anomalies.look(seen, || registered).contains(&Anomaly::UnexpectedPath)
}

#[test]
fn a_path_is_unexpected_until_a_policy_permits_it() {
    let anomalies = Anomalies::default();
    assert!(reach(&anomalies, "db", Outcome::Denied, true));
    assert!(reach(&anomalies, "db", Outcome::Observed, true));
    assert!(!reach(&anomalies, "nobody", Outcome::Denied, false));
    assert!(!reach(&anomalies, "db", Outcome::Withheld, true));
    assert!(!reach(&anomalies, "db", Outcome::Permitted, true));
    assert!(!reach(&anomalies, "db", Outcome::Denied, true));
    assert!(reach(&anomalies, "cache", Outcome::Denied, true));
}

#[test]
fn more_than_ten_denials_of_the_last_hundred_are_told_once_a_minute() {
    let anomalies = Anomalies::default();
    for _ in 0..10 {
        assert_eq!(look(&anomalies, "a", Outcome::Denied, 0), []);
    }
    let told = Anomaly::RepeatedDenials { denied: 11 };
    assert_eq!(look(&anomalies, "a", Outcome::Denied, 1), [told]);
    assert_eq!(look(&anomalies, "a", Outcome::Denied, 59), []);
    assert_eq!(look(&anomalies, "a", Outcome::Permitted, 60), []);
    let told = Anomaly::RepeatedDenials { denied: 13 };
    assert_eq!(look(&anomalies, "a", Outcome::Withheld, 61), [told]);
    for _ in 0..100 {
        assert_eq!(look(&anomalies, "a", Outcome::Permitted, 120), []);
    }
    assert_eq!(look(&anomalies, "a", Outcome::Denied, 180), []);
}

/// With one window for all, 10,000 decisions of others would push every denial out of it.
#[test]
fn noise_flood_evasion_is_caught() {
    let anomalies = Anomalies::default();
    let mut told = Vec::new();
    for round in 0..11 {
        told.extend(look(&anomalies, "thief", Outcome::Denied, 0));
        for noise in 0..1_000 {
            look(&anomalies, &format!("noise-{}", noise % 7), Outcome::Permitted, round);
        }
    }
    assert_eq!(told, [Anomaly::RepeatedDenials { denied: 11 }]);
}

#[test]
fn as_many_principals_as_there_can_be_do_not_push_out_one_that_is_denied() {
    let anomalies = Anomalies::default();
    for _ in 0..10 {
        look(&anomalies, "thief", Outcome::Denied, 0);
    }
    for noise in 0..2 * MAX_SOURCES {
        look(&anomalies, &format!("noise-{noise}"), Outcome::Permitted, 1);
    }
    assert!(anomalies.0.lock().unwrap().sources.len() <= MAX_SOURCES);
    let told = Anomaly::RepeatedDenials { denied: 11 };
    assert_eq!(look(&anomalies, "thief", Outcome::Denied, 2), [told]);
}

#[test]
fn a_rate_stands_out_against_the_principals_own_past() {
    let anomalies = Anomalies::default();
    let minute = |source: &str, number: u64, times: u32| -> Vec<Anomaly> {
        let outcome = Outcome::Permitted;
        (0..times).flat_map(|_| look(&anomalies, source, outcome, 60 * number)).collect()
    };
    for number in 0..10 {
        assert_eq!(minute("busy", number, 1_000), []);
        assert_eq!(minute("calm", number, 20), []);
    }
    assert_eq!(minute("busy", 10, 3_000), []);
    assert_eq!(minute("calm", 10, 60), []);
    assert_eq!(minute("calm", 11, 100), [Anomaly::Rate { times: 73, usual: 24 }]);
    // Of one that is not known yet, nothing is unusual.
    assert_eq!(minute("new", 0, 5_000), []);
    // What is rare may come in handfuls.
    for number in 0..5 {
        minute("rare", number, 1);
    }
    assert_eq!(minute("rare", 5, MIN_TIMES), []);
    assert_eq!(minute("rare", 6, MIN_TIMES + 1).len(), 1);
}

proptest! {
    /// However decisions of several principals mix, each is told what it would be told alone.
    #[test]
    fn nobody_changes_what_is_told_of_others(
        decisions in prop::collection::vec((0_u8..4, any::<bool>(), 0_u64..3), 0..2_000),
    ) {
        let mixed = Anomalies::default();
        let alone: Vec<_> = (0..4).map(|_| Anomalies::default()).collect();
        let mut now = 0;
        for (source, denied, seconds) in decisions {
            now += seconds;
            let outcome = if denied { Outcome::Denied } else { Outcome::Permitted };
            let told = look(&mixed, &source.to_string(), outcome, now);
            prop_assert_eq!(
                told,
                look(&alone[usize::from(source)], &source.to_string(), outcome, now)
            );
        }
    }
}
