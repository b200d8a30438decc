//! Each fault, and the checks that have to see it: these and no others.

use tokio::task::JoinSet;

use super::mock::Fault;
use super::{failed, report};

/// How many mocks are looked at side by side.
const AT_A_TIME: usize = 4;

#[rustfmt::skip]
const FAULTS: &[(Fault, &[u8])] = &[
    // The endpoint.
    (Fault::HeaderNotRequired, &[2]),
    (Fault::HeaderOfAnyCase, &[2]),
    (Fault::HeaderTwice, &[2]),
    (Fault::HeaderMissingIsDenied, &[2]),
    (Fault::UnknownRpcIsInternal, &[5]),
    (Fault::NobodyIsNotFound, &[5]),
    (Fault::NoReflection, &[6]),
    (Fault::ExtraRpc, &[6]),
    (Fault::ExtraField, &[6]),
    (Fault::NoJwtProfile, &[7]),
    (Fault::NoX509Bundles, &[7]),
    // Streams.
    (Fault::RepeatsState, &[8]),
    (Fault::FirstMessageLate, &[8]),
    (Fault::SecondStreamIncomplete, &[8]),
    (Fault::DefaultChanges, &[17]),
    // X.509.
    (Fault::NoSvids, &[11]),
    (Fault::IdFieldEmpty, &[11]),
    (Fault::IdFieldOther, &[11]),
    (Fault::BundleFieldEmpty, &[11]),
    (Fault::KeyOfAnother, &[11]),
    (Fault::KeySec1, &[11]),
    (Fault::ChainPem, &[11]),
    (Fault::ChainReversed, &[11]),
    (Fault::HintsEqual, &[11]),
    (Fault::HintLong, &[17]),
    (Fault::BundlesWithoutOwn, &[12]),
    (Fault::BundlesKeyedByName, &[12]),
    (Fault::BundlesOwnEmpty, &[12]),
    (Fault::FederatedBundlePem, &[12]),
    (Fault::LeafWithoutUriSan, &[24]),
    (Fault::LeafWithTwoUriSans, &[24]),
    (Fault::LeafIdWithoutPath, &[25]),
    (Fault::LeafNamelessSanNotCritical, &[25]),
    (Fault::IntermediateIsNoCa, &[26]),
    (Fault::IntermediateCannotSign, &[26]),
    (Fault::AuthorityIdWithPath, &[26]),
    (Fault::AuthorityOfAnotherDomain, &[23]),
    (Fault::LeafWithoutKeyUsage, &[27]),
    (Fault::LeafKeyUsageNotCritical, &[27]),
    (Fault::LeafCannotSign, &[27]),
    (Fault::LeafSignsCertificates, &[27]),
    (Fault::LeafWithoutExtendedKeyUsage, &[28]),
    (Fault::LeafForServersOnly, &[28]),
    (Fault::LeafExpired, &[29]),
    (Fault::BundleOfAnother, &[29]),
    (Fault::LeafIsCa, &[30]),
    (Fault::AuthorityInTwoBundles, &[23, 59]),
    // IDs.
    (Fault::MalformedIdIsInternal, &[18]),
    (Fault::UnderscoreRefused, &[19]),
    (Fault::PathNormalised, &[20]),
    (Fault::LongIdRefused, &[21]),
    (Fault::PathCaseIgnored, &[22]),
    // JWT-SVIDs handed out.
    (Fault::AudienceMissingGranted, &[10]),
    (Fault::AudienceEmptyGranted, &[10]),
    (Fault::AudienceEmptyLate, &[10]),
    (Fault::JwtHintsEqual, &[13]),
    (Fault::JwtFirstAudienceOnly, &[13]),
    (Fault::JwtFirstIdentityOnly, &[13]),
    (Fault::JwtSecondIdentityDenied, &[13]),
    (Fault::JwtIdFieldOther, &[13]),
    (Fault::JwtForNobodyGranted, &[13, 19, 20, 21, 22]),
    (Fault::JwtForNobodyNotFound, &[13, 19, 20, 21, 22]),
    (Fault::JwtPadded, &[33]),
    (Fault::JwtHeaderExtra, &[34]),
    (Fault::JwtUnpublishedKey, &[15, 58]),
    // JWT bundles.
    (Fault::JwksWithoutOwn, &[14, 15]),
    (Fault::JwksNoJson, &[14]),
    (Fault::JwksWithX509Key, &[14]),
    (Fault::JwksWithWitKey, &[14, 52]),
    (Fault::JwksWithPrivateKey, &[14]),
    (Fault::JwkWithoutKid, &[40]),
    (Fault::JwkKidTwice, &[40]),
    (Fault::JwksSequenceIsText, &[53]),
    (Fault::JwksRefreshHintIsFraction, &[54]),
    (Fault::JwksWithoutKeys, &[55]),
    (Fault::JwkWithoutKty, &[56]),
    // JWT-SVIDs validated.
    (Fault::ValidatesNothingGenuine, &[15]),
    (Fault::ValidatesWithoutClaims, &[15]),
    (Fault::SignatureNotVerified, &[15]),
    (Fault::UnknownDomainAccepted, &[15]),
    (Fault::AnyBundleAccepted, &[15]),
    (Fault::EarlyAccepted, &[15]),
    (Fault::JsonAccepted, &[33]),
    (Fault::HeaderExtraAccepted, &[34]),
    (Fault::HeaderJwkAccepted, &[34]),
    (Fault::AlgNoneAccepted, &[35]),
    (Fault::Hs256Accepted, &[35]),
    (Fault::EdDsaAccepted, &[35]),
    (Fault::TypAccepted, &[36]),
    (Fault::TypRefused, &[15]),
    (Fault::SubAccepted, &[18, 19, 20, 21, 37]),
    (Fault::AudienceOtherAccepted, &[38]),
    (Fault::AudienceCaseIgnored, &[38]),
    (Fault::AudienceMissingAccepted, &[38]),
    (Fault::ExpiredAccepted, &[39]),
    (Fault::ExpMissingAccepted, &[39]),
    (Fault::ValidateUnauthenticated, &[10, 15, 18, 19, 20, 21, 33, 34, 35, 36, 37, 38, 39]),
    // WIT-SVIDs.
    (Fault::WitHalf, &[16]),
    (Fault::WitForNobodyGranted, &[16]),
    (Fault::WitKeyNoJwk, &[16]),
    (Fault::WitJwkWithoutKid, &[17]),
    (Fault::WitWithoutKid, &[41]),
    (Fault::WitSignedByAnother, &[41]),
    (Fault::WitTypJwt, &[42]),
    (Fault::WitAlgEdDsa, &[43]),
    (Fault::WitSubOther, &[44]),
    (Fault::WitWithoutCnf, &[45]),
    (Fault::WitCnfWithoutAlg, &[45]),
    (Fault::WitCnfOfAnother, &[45]),
    (Fault::WitExpired, &[46]),
    (Fault::WitEarly, &[47]),
    (Fault::WitAud, &[50]),
    (Fault::WitJwkUseJwt, &[52]),
    (Fault::WitJwkKidTwice, &[52]),
    (Fault::WitUnpublishedKid, &[58]),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_seen_by_its_checks_and_by_no_other() {
    let mut running = JoinSet::new();
    let mut wrong = Vec::new();
    let mut note = |(fault, want, report): (Fault, &[u8], super::Report)| {
        let found = failed(&report);
        if found != want {
            let told: Vec<_> =
                report.checks.into_iter().filter(|check| found.contains(&check.number)).collect();
            wrong.push(format!("{fault:?}: {found:?} instead of {want:?}: {told:#?}"));
        }
    };
    for (fault, want) in FAULTS {
        if running.len() == AT_A_TIME {
            note(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(async { (*fault, *want, report(Some(*fault)).await) });
    }
    while let Some(done) = running.join_next().await {
        note(done.unwrap());
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), FAULTS.len(), wrong.join("\n"));
}
