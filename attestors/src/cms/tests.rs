use super::fixture::{
    Document, Info, NOW, RSA_ID, RSA_SHA256_ID, SHA1_ID, SHA256_ID, Signer, algorithm, attribute,
    content_type, der, message_digest,
};
use super::*;

const CONTENT: &[u8] = br#"{"account":"1"}"#;

fn verify(document: &[u8], signer: &Signer) -> Result<Vec<u8>, CmsError> {
    SignedData::parse(document)?.verify(&signer.certificate, NOW)
}

fn both(signer: &Signer) -> [Document; 2] {
    [Document::bare(signer, CONTENT), Document::attributed(signer, CONTENT)]
}

fn unsupported(document: &Document) -> &'static str {
    let error = SignedData::parse(&document.encode()).unwrap_err();
    let CmsError::Unsupported(why) = error else { panic!("{error}") };
    why
}

#[test]
fn what_was_signed_is_what_comes_out() {
    let signer = Signer::new(0, "signer");
    for mut document in both(&signer) {
        for indefinite in [false, true] {
            document.indefinite = indefinite;
            assert_eq!(verify(&document.encode(), &signer).unwrap(), CONTENT);
        }
    }
    let mut info = Info::of(&signer);
    info.signature = algorithm(RSA_SHA256_ID);
    let document = Document {
        announced: algorithm(SHA256_ID),
        signers: vec![info.sign(&signer, CONTENT)],
        ..Document::bare(&signer, CONTENT)
    };
    assert_eq!(verify(&document.encode(), &signer).unwrap(), CONTENT);
}

#[test]
fn no_bit_can_be_changed() {
    let signer = Signer::new(0, "signer");
    for document in both(&signer) {
        let document = Document { certificates: Vec::new(), ..document }.encode();
        for at in 0..document.len() {
            for bit in 0..8 {
                let mut altered = document.clone();
                altered[at] ^= 1 << bit;
                // A version of the same algorithm's name may remain; never other content.
                if let Ok(content) = verify(&altered, &signer) {
                    assert_eq!(content, CONTENT, "bit {bit} of byte {at}");
                    panic!("bit {bit} of byte {at} is not looked at");
                }
            }
        }
    }
}

#[test]
fn every_cut_and_everything_behind_is_noticed() {
    let signer = Signer::new(0, "signer");
    for document in both(&signer) {
        let document = document.encode();
        for length in 0..document.len() {
            let error = SignedData::parse(&document[..length]).unwrap_err();
            assert_eq!(error, CmsError::Encoding, "{length}");
        }
        for tail in [&[0][..], &[0, 0], &[5, 0], &document] {
            let long = [document.as_slice(), tail].concat();
            assert_eq!(SignedData::parse(&long).unwrap_err(), CmsError::Encoding);
        }
    }
    let large = vec![0; SignedData::MAX + 1];
    assert_eq!(SignedData::parse(&large).unwrap_err(), CmsError::TooLarge);
}

#[test]
fn the_certificate_that_counts_is_the_one_the_signer_names() {
    let (signer, other) = (Signer::new(0, "signer"), Signer::new(1, "other"));
    // SPIRE believed the first of the bag (fixed in its 1.15.1).
    let document = Document {
        certificates: vec![other.certificate.clone(), signer.certificate.clone()],
        ..Document::bare(&signer, CONTENT)
    };
    let encoded = document.encode();
    let parsed = SignedData::parse(&encoded).unwrap();
    assert_eq!(parsed.signing_certificate().unwrap(), signer.certificate);
    assert_eq!(parsed.verify(&other.certificate, NOW).unwrap_err(), CmsError::Signer);

    // Another's signature under the signer's name.
    let forged = Document {
        signers: vec![Info::of(&signer).sign(&other, CONTENT)],
        announced: algorithm(SHA256_ID),
        ..document.clone()
    };
    assert_eq!(verify(&forged.encode(), &signer).unwrap_err(), CmsError::Signature);

    for certificates in
        [vec![], vec![other.certificate], vec![signer.certificate.clone(), signer.certificate]]
    {
        let encoded = Document { certificates, ..document.clone() }.encode();
        let parsed = SignedData::parse(&encoded).unwrap();
        assert_eq!(parsed.signing_certificate().unwrap_err(), CmsError::Signer);
    }
}

#[test]
fn a_certificate_counts_while_it_is_valid() {
    let signer = Signer::new(0, "signer");
    let document = Document::bare(&signer, CONTENT).encode();
    for now in [1_700_000_000, 1_900_000_000, u64::MAX] {
        let parsed = SignedData::parse(&document).unwrap();
        let error = parsed.verify(&signer.certificate, UnixTime::from_secs(now)).unwrap_err();
        assert_eq!(error, CmsError::Validity);
    }
}

#[test]
fn there_is_one_signer() {
    let signer = Signer::new(0, "signer");
    for document in both(&signer) {
        let twice = Document {
            signers: [document.signers.clone(), document.signers.clone()].concat(),
            ..document.clone()
        };
        assert_eq!(unsupported(&twice), "it has more than one signer");
        let nobody = Document { signers: Vec::new(), ..document };
        assert_eq!(unsupported(&nobody), "it has no signer");
    }
}

#[test]
fn the_content_is_inside_and_nothing_else_is() {
    let signer = Signer::new(0, "signer");
    for document in both(&signer) {
        let detached = Document { content: None, ..document.clone() };
        assert_eq!(unsupported(&detached), "its content is elsewhere");
        let revocations = vec![der(0x30, &[])];
        let listed = Document { revocations, ..document.clone() };
        assert_eq!(unsupported(&listed), "it holds revocation lists");
        let crowded = Document { certificates: vec![der(0x30, &[]); 9], ..document.clone() };
        assert_eq!(unsupported(&crowded), "it holds too many certificates");
        let newer = Document { version: vec![3], ..document.clone() };
        assert_eq!(unsupported(&newer), "its version is not 1");
        let mut info = Info::of(&signer);
        info.unsigned = der(0xa1, &[&content_type()]);
        let signers = vec![info.sign(&signer, CONTENT)];
        let more = Document { signers, announced: algorithm(SHA256_ID), ..document };
        assert_eq!(unsupported(&more), "it has attributes that are not signed");
    }
}

#[test]
fn algorithms_are_not_the_senders_choice() {
    let signer = Signer::new(0, "signer");
    let document = Document::attributed(&signer, CONTENT);
    let with = |announced: &[u8], digest: Vec<u8>, signature: &[u8]| {
        let info = Info { digest, signature: algorithm(signature), ..Info::of(&signer) };
        let signers = vec![info.sign(&signer, CONTENT)];
        unsupported(&Document { announced: algorithm(announced), signers, ..document.clone() })
    };
    let sha = "its digest is not of the SHA-2 family";
    assert_eq!(with(SHA1_ID, algorithm(SHA1_ID), RSA_ID), sha);
    assert_eq!(with(SHA256_ID, algorithm(SHA1_ID), RSA_ID), sha);
    let sha384 = [&SHA256_ID[..8], &[2]].concat();
    let differs = "its signer does not use the digest it announces";
    assert_eq!(with(SHA256_ID, algorithm(&sha384), RSA_ID), differs);
    let wrong = "its signature is not RSA with the digest it announces";
    assert_eq!(with(SHA256_ID, algorithm(&sha384), RSA_SHA256_ID), wrong);
    assert_eq!(with(SHA256_ID, algorithm(SHA256_ID), SHA256_ID), wrong);
    let parameters = der(0x30, &[&der(6, &[SHA256_ID]), &der(4, &[&[1]])]);
    assert_eq!(with(SHA256_ID, parameters, RSA_ID), "an algorithm has parameters");
    let full_null = der(0x30, &[&der(6, &[SHA256_ID]), &der(5, &[&[1]])]);
    assert_eq!(with(SHA256_ID, full_null, RSA_ID), "an algorithm has parameters");
}

#[test]
fn attributes_speak_of_this_content_and_once() {
    let signer = Signer::new(0, "signer");
    let document = Document::attributed(&signer, CONTENT);
    let with = |attributes: &[Vec<u8>]| {
        let info = Info::of(&signer).with(attributes);
        let signers = vec![info.sign(&signer, CONTENT)];
        verify(&Document { signers, ..document.clone() }.encode(), &signer)
    };
    let digest = message_digest(CONTENT);
    let unknown = attribute(&[0x2a, 3], &der(4, &[]));
    assert_eq!(with(&[unknown.clone(), digest.clone(), content_type()]).unwrap(), CONTENT);

    let lacks = "its attributes lack the content type or the digest";
    for lacking in [vec![digest.clone()], vec![content_type()], vec![unknown.clone()]] {
        assert_eq!(with(&lacking).unwrap_err(), CmsError::Unsupported(lacks));
    }
    let twice = "an attribute comes twice, or there are too many";
    for repeated in [
        vec![content_type(), digest.clone(), message_digest(b"other")],
        vec![content_type(), content_type(), digest.clone()],
        vec![content_type(), unknown.clone(), unknown, digest],
    ] {
        assert_eq!(with(&repeated).unwrap_err(), CmsError::Unsupported(twice));
    }
    let other = [content_type(), message_digest(b"other")];
    assert_eq!(with(&other).unwrap_err(), CmsError::Signature);
    let foreign =
        attribute(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03], &der(6, &[&[42]]));
    assert_eq!(with(&[foreign, message_digest(CONTENT)]).unwrap_err(), CmsError::Signature);
}

#[test]
fn attributes_are_not_taken_for_content() {
    // The signature of a document with attributes is good for a document whose content they are.
    let signer = Signer::new(0, "signer");
    let attributes = [content_type(), message_digest(CONTENT)].concat();
    let content = der(0x31, &[&attributes]);
    let document = Document::bare(&signer, &content);
    assert_eq!(unsupported(&document), "its content looks like signed attributes");
}

/// Made with `openssl cms -sign -nodetach -binary`: one with `-noattr`, one with `-nocerts`, and one
/// with `-indef` too.
#[test]
fn what_openssl_signs_verifies() {
    const CERTIFICATE: &[u8] = include_bytes!("../../../tests/fuzz/seeds/cms/certificate");
    for document in [
        &include_bytes!("../../../tests/fuzz/seeds/cms/bare")[..],
        include_bytes!("../../../tests/fuzz/seeds/cms/attributed"),
        include_bytes!("../../../tests/fuzz/seeds/cms/indefinite"),
    ] {
        let now = UnixTime::from_secs(1_800_000_000);
        let signed = SignedData::parse(document).unwrap();
        assert_eq!(signed.verify(CERTIFICATE, now).unwrap(), br#"{"accountId":"1"}"#);
    }
}
