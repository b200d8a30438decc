use proptest::prelude::*;

use super::sample::{
    CERT_WITH_EXTERN_PSK, EARLY_DATA, PSK_KEY_EXCHANGE_MODES, SIGNATURE_ALGORITHMS,
    SUPPORTED_VERSIONS, Sample, records, sha256, vector,
};
use super::*;

const IDENTITY: WireIdentity = WireIdentity::from_bytes([5; 16]);

fn sample() -> Sample {
    Sample::new(IDENTITY)
}

fn read(wire: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    FirstFlight::default().push(wire)
}

#[track_caller]
fn refused(sample: &Sample, want: HelloError) {
    assert_eq!(ClientHello::parse(&sample.build()), Err(want));
}

#[test]
fn a_sound_hello_is_read() {
    let message = sample().build();
    let hello = ClientHello::parse(&message).unwrap();
    assert_eq!(hello.identity, IDENTITY);
    assert_eq!(hello.binder, [0; 32]);
    assert_eq!(hello.transcript, sha256(&message[..message.len() - 35]));
}

#[test]
fn unknown_extensions_and_grease_are_passed_over() {
    let mut greased = sample().with(0x0a0a, vec![]).with(SIGNATURE_ALGORITHMS, vec![0, 2, 4, 3]);
    greased.suites = vec![0x5a, 0x5a, 0x13, 0x03];
    ClientHello::parse(&greased.build()).unwrap();
}

#[test]
fn the_version_must_be_1_3() {
    refused(&sample().without(SUPPORTED_VERSIONS), HelloError::Missing("supported_versions"));
    let offering = |body| sample().without(SUPPORTED_VERSIONS).with(SUPPORTED_VERSIONS, body);
    refused(&offering(vec![2, 3, 3]), HelloError::Version);
    refused(&offering(vec![3, 3, 4, 3]), HelloError::Malformed);
    refused(&offering(vec![2, 3, 4, 0]), HelloError::Malformed);
    refused(&offering(vec![]), HelloError::Malformed);
    ClientHello::parse(&offering(vec![4, 3, 3, 3, 4]).build()).unwrap();
    refused(&Sample { version: [3, 4], ..sample() }, HelloError::Version);
}

#[test]
fn the_exchange_must_have_forward_secrecy() {
    let modes = |body| sample().without(PSK_KEY_EXCHANGE_MODES).with(PSK_KEY_EXCHANGE_MODES, body);
    refused(&modes(vec![1, 0]), HelloError::Modes);
    refused(&modes(vec![1, 1, 1]), HelloError::Malformed);
    refused(
        &sample().without(PSK_KEY_EXCHANGE_MODES),
        HelloError::Missing("psk_key_exchange_modes"),
    );
    ClientHello::parse(&modes(vec![2, 0, 1]).build()).unwrap();
}

#[test]
fn a_suite_must_fit_the_hash_of_the_key() {
    refused(&Sample { suites: vec![0x13, 0x02], ..sample() }, HelloError::Suites);
    refused(&Sample { suites: vec![], ..sample() }, HelloError::Suites);
    refused(&Sample { suites: vec![0x13, 0x01, 0x13], ..sample() }, HelloError::Malformed);
}

#[test]
fn early_data_and_certificates_are_refused() {
    refused(&sample().with(EARLY_DATA, vec![]), HelloError::EarlyData);
    refused(&sample().with(CERT_WITH_EXTERN_PSK, vec![]), HelloError::CertWithExternPsk);
}

#[test]
fn there_must_be_exactly_one_key_and_it_must_come_last() {
    let none = Sample { identities: vec![], ..sample() };
    refused(&none, HelloError::Missing("pre_shared_key"));
    let mut two = sample();
    two.identities.push(two.identities[0].clone());
    refused(&two, HelloError::SeveralPsks);
    two.binders.push(vec![0; 32]);
    refused(&two, HelloError::SeveralPsks);
    refused(&Sample { binders: vec![vec![0; 32]; 2], ..sample() }, HelloError::SeveralPsks);
    refused(&Sample { binders: vec![], ..sample() }, HelloError::Malformed);
    refused(&Sample { binders: vec![vec![0; 48]], ..sample() }, HelloError::BinderLength(48));
    refused(&Sample { after_psk: vec![(0, vec![])], ..sample() }, HelloError::PskNotLast);
    let foreign = Sample { identities: vec![b"psk-client".to_vec()], ..sample() };
    refused(&foreign, HelloError::Identity(ParseIdentityError));
}

#[test]
fn extensions_come_once_and_are_few() {
    let twice = sample().with(SUPPORTED_VERSIONS, vec![2, 3, 4]);
    refused(&twice, HelloError::Duplicate(SUPPORTED_VERSIONS));
    refused(&sample().with(99, vec![]).with(99, vec![1]), HelloError::Duplicate(99));

    let many = |count: u16| (0..count).fold(sample(), |all, n| all.with(1_000 + n, vec![]));
    ClientHello::parse(&many(61).build()).unwrap();
    refused(&many(62), HelloError::TooManyExtensions);
}

#[test]
fn the_rest_has_the_values_that_tls_1_3_prescribes() {
    refused(&Sample { session_id: vec![0; 33], ..sample() }, HelloError::Malformed);
    refused(&Sample { compression: vec![0, 1], ..sample() }, HelloError::Malformed);
    refused(&Sample { compression: vec![], ..sample() }, HelloError::Malformed);
    let mut trailing = sample().build();
    trailing.push(0);
    assert_eq!(ClientHello::parse(&trailing), Err(HelloError::Malformed));
    let mut server_hello = sample().build();
    server_hello[0] = 2;
    assert_eq!(ClientHello::parse(&server_hello), Err(HelloError::NotAClientHello));
}

#[test]
fn a_hello_may_come_in_fragments() {
    let message = sample().build();
    let want = ClientHello::parse(&message).unwrap();
    for size in [1, 3, 4, 100, message.len()] {
        let wire = records(&message, size);
        assert_eq!(read(&wire), Ok(Some(want.clone())), "records of {size} bytes");
        let mut flight = FirstFlight::default();
        let mut found = None;
        for byte in &wire {
            assert_eq!(found, None);
            found = flight.push(&[*byte]).unwrap();
        }
        assert_eq!(found.as_ref(), Some(&want));
        assert_eq!(flight.into_wire(), wire);
    }
}

#[test]
fn what_follows_the_hello_is_kept_for_the_tls_stack() {
    let mut wire = records(&sample().build(), 1 << 14);
    wire.extend([20, 3, 3, 0, 1, 1]);
    let mut flight = FirstFlight::default();
    assert!(flight.push(&wire).unwrap().is_some());
    assert_eq!(flight.into_wire(), wire);
}

#[test]
fn records_must_be_plain_handshake_records() {
    let message = sample().build();
    assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
    assert_eq!(read(&[22, 2]), Err(HelloError::NotTls));
    assert_eq!(read(&[22, 3, 2]), Err(HelloError::NotTls));
    assert_eq!(read(&[22, 3, 1, 0, 0]), Err(HelloError::Malformed));
    assert_eq!(read(&[22, 3, 1, 0x40, 1]), Err(HelloError::Malformed));
    assert_eq!(read(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), Err(HelloError::NotAClientHello));
    let mut alert_between = records(&message[..50], 50);
    alert_between.extend([21, 3, 3, 0, 2, 2, 40]);
    assert_eq!(read(&alert_between), Err(HelloError::NotTls));
    let two_messages = [message.clone(), message].concat();
    assert_eq!(read(&records(&two_messages, 1 << 14)), Err(HelloError::Malformed));
}

#[test]
fn size_is_bounded_before_it_is_stored() {
    let announcing = |length: [u8; 3]| [&[22, 3, 1, 0, 4, 1][..], &length].concat();
    assert_eq!(read(&announcing([0, 0x40, 0])), Err(HelloError::TooLong));
    assert_eq!(read(&announcing([1, 0, 0])), Err(HelloError::TooLong));
    assert_eq!(read(&vec![22; FirstFlight::MAX_LEN + 1]), Err(HelloError::TooLong));

    // Nearly as long as may be, but in so many records that their headers burst the bound.
    let padded = sample().with(21, vec![0; 8_000]);
    let wire = records(&padded.build(), 1);
    let mut flight = FirstFlight::default();
    assert_eq!(flight.push(&wire[..FirstFlight::MAX_LEN - 1]), Ok(None));
    assert_eq!(flight.room(), 1);
    assert_eq!(flight.push(&wire[FirstFlight::MAX_LEN - 1..][..1]), Err(HelloError::TooLong));
}

#[test]
fn truncation_at_every_byte_is_incomplete_or_refused() {
    let message = sample().build();
    let wire = records(&message, 60);
    for end in 0..wire.len() {
        assert_eq!(read(&wire[..end]), Ok(None), "{end}");
    }
    for end in 0..message.len() {
        assert_eq!(ClientHello::parse(&message[..end]), Err(HelloError::Malformed), "{end}");
        // The same with a header that agrees: every inner length is one byte or more too long.
        if 4 <= end {
            let shorter = [vec![1], vector(3, &message[4..end])].concat();
            assert_eq!(ClientHello::parse(&shorter), Err(HelloError::Malformed), "{end}");
        }
    }
}

#[test]
fn any_flipped_bit_changes_what_is_proven_or_is_refused() {
    let message = sample().build();
    let original = ClientHello::parse(&message).unwrap();
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut flipped = message.clone();
            flipped[at] ^= 1 << bit;
            assert_ne!(ClientHello::parse(&flipped), Ok(original.clone()), "{at}:{bit}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        drop(read(&bytes));
        drop(ClientHello::parse(&bytes));
        drop(ClientHello::parse(&[vec![1], vector(3, &bytes)].concat()));
    }

    #[test]
    fn how_it_is_cut_does_not_matter(size in 1..300_usize, cut in 0..200_usize) {
        let wire = records(&sample().build(), size);
        let mut flight = FirstFlight::default();
        let (first, second) = wire.split_at(cut.min(wire.len()));
        let early = flight.push(first).unwrap();
        let late = if early.is_some() { early } else { flight.push(second).unwrap() };
        prop_assert_eq!(late, read(&wire).unwrap());
    }
}
