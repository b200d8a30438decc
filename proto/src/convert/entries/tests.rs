use super::*;

fn entry() -> Entry {
    Entry {
        id: "e1".parse().unwrap(),
        spiffe_id: "spiffe://example.org/web".parse().unwrap(),
        parent_id: "spiffe://example.org/spire/agent/x".parse().unwrap(),
        selectors: ["unix:uid:1", "unix:gid:1"].map(|text| text.parse().unwrap()).into(),
        x509_svid_ttl: Some(SvidTtl::HOUR),
        jwt_svid_ttl: Some(300.try_into().unwrap()),
        federates_with: ["other.example".parse().unwrap()].into(),
        admin: true,
        downstream: true,
        expires_at: Some(UnixTime::from_secs(1_800_000_000)),
        dns_names: vec!["b.example.org".parse().unwrap(), "a.example.org".parse().unwrap()],
        revision: 3,
        store_svid: true,
        hint: "internal".into(),
        created_at: UnixTime::from_secs(1_795_000_000),
        x509_on_demand: false,
        jwt_jti: false,
    }
}

fn bare() -> Entry {
    Entry {
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: BTreeSet::new(),
        expires_at: None,
        dns_names: Vec::new(),
        hint: String::new(),
        ..entry()
    }
}

#[track_caller]
fn refuses(change: impl FnOnce(&mut types::Entry), message: &str) {
    let mut wire = types::Entry::from(&entry());
    change(&mut wire);
    assert_eq!(Entry::try_from(wire).unwrap_err().to_string(), message);
}

#[test]
fn entries_come_back_as_they_went() {
    for entry in [entry(), bare()] {
        assert_eq!(Entry::try_from(types::Entry::from(&entry)), Ok(entry));
    }
}

#[test]
fn each_field_is_refused_by_its_name() {
    refuses(
        |wire| wire.id = "a/b".into(),
        "id: an entry id has 1 to 255 characters of `A-Z a-z 0-9 . - _`",
    );
    refuses(|wire| wire.spiffe_id = None, "spiffe_id: is missing");
    refuses(|wire| wire.parent_id = None, "parent_id: is missing");
    refuses(
        |wire| wire.parent_id.as_mut().unwrap().trust_domain.clear(),
        "parent_id.trust_domain: a trust domain has 1 to 255 bytes, not 0",
    );
    refuses(
        |wire| wire.selectors[1].value.clear(),
        "selectors[1].value: a selector value has 1 to 4200 bytes, not 0",
    );
    refuses(
        |wire| wire.selectors = vec![wire.selectors[0].clone(); 65],
        "selectors: has 65 elements; at most 64 are allowed",
    );
    refuses(|wire| wire.x509_svid_ttl = -1, "x509_svid_ttl: -1 is negative");
    refuses(
        |wire| wire.x509_svid_ttl = 1,
        "x509_svid_ttl: an SVID lasts 5 to 2592000 seconds, not 1",
    );
    refuses(|wire| wire.jwt_svid_ttl = i32::MIN, "jwt_svid_ttl: -2147483648 is negative");
    refuses(
        |wire| wire.expires_at = -5,
        "expires_at: -5 is no time between the years 1970 and 9999",
    );
    refuses(
        |wire| wire.created_at = i64::MAX,
        "created_at: 9223372036854775807 is no time between the years 1970 and 9999",
    );
    refuses(|wire| wire.revision_number = -1, "revision_number: -1 is negative");
}

#[test]
fn lists_are_bounded_and_do_not_repeat() {
    refuses(
        |wire| wire.federates_with.push("spiffe://other.example".into()),
        "federates_with[1]: `spiffe://other.example` is listed twice",
    );
    refuses(
        |wire| wire.federates_with = vec!["x".into(); 65],
        "federates_with: has 65 elements; at most 64 are allowed",
    );
    refuses(
        |wire| wire.dns_names.push("b.example.org".into()),
        "dns_names[2]: `b.example.org` is listed twice",
    );
    refuses(
        |wire| wire.dns_names[0] = "UPPER".into(),
        "dns_names[0]: a DNS name has at most 253 bytes: lower-case labels of letters, digits and \
         inner hyphens",
    );
    refuses(
        |wire| wire.dns_names = vec!["x".into(); 65],
        "dns_names: has 65 elements; at most 64 are allowed",
    );
}

#[test]
fn settings_without_a_field_of_their_own_are_kept() {
    let set = Entry { x509_on_demand: true, jwt_jti: true, ..entry() };
    let wire = types::Entry::from(&set);
    let attributes = wire.additional_attributes.unwrap();
    assert!(attributes.disable_x509_svid_prefetch && attributes.jwt_svid_include_jti);
    assert_eq!(Entry::try_from(wire), Ok(set));
    let unset = types::Entry {
        additional_attributes: Some(AdditionalAttributes::default()),
        ..types::Entry::from(&entry())
    };
    assert_eq!(Entry::try_from(unset), Ok(entry()));
}

#[test]
fn a_new_entry_takes_its_name_from_its_author_and_its_age_from_the_server() {
    let now = UnixTime::from_secs(9);
    let fresh: EntryId = "fresh".parse().unwrap();
    let named = create(types::Entry::from(&entry()), || fresh.clone(), now).unwrap();
    assert_eq!(named, Entry { revision: 0, created_at: now, ..entry() });

    let unnamed = types::Entry { id: String::new(), ..types::Entry::from(&entry()) };
    assert_eq!(create(unnamed, || fresh.clone(), now).unwrap().id, fresh);
}

#[test]
fn an_update_changes_what_the_mask_selects() {
    let change = types::Entry {
        id: "another".into(),
        hint: "external".into(),
        created_at: 1,
        revision_number: 99,
        ..types::Entry::default()
    };
    let mask = EntryMask {
        hint: true,
        admin: true,
        created_at: true,
        revision_number: true,
        ..EntryMask::default()
    };
    let updated = update(&entry(), change.clone(), Some(&mask)).unwrap();
    let want = Entry { hint: "external".into(), admin: false, revision: 4, ..entry() };
    assert_eq!(updated, want);

    let everything = update(&entry(), change, None).unwrap_err();
    assert_eq!(everything.to_string(), "spiffe_id: is missing");
    let whole = update(&entry(), types::Entry::from(&bare()), None).unwrap();
    assert_eq!(whole, Entry { revision: 4, ..bare() });
}

#[test]
fn an_answer_holds_what_the_mask_selects_and_the_name() {
    let wire = types::Entry::from(&entry());
    assert_eq!(select(wire.clone(), None), wire);
    assert_eq!(select(wire.clone(), Some(&ALL)), wire);
    let mask = EntryMask { hint: true, ..EntryMask::default() };
    let want = types::Entry { id: "e1".into(), hint: "internal".into(), ..types::Entry::default() };
    assert_eq!(select(wire, Some(&mask)), want);
}
