//! How far a platform is to be trusted.

use serde_json::{Value, json};

use super::*;
use crate::dcap::fixture::{
    CA_SERIAL, COMPONENTS, PCE_SVN, PCK_SERIAL, SIGNER_SERIAL, sgx_extension,
};

/// What is said otherwise, and the rule that it breaks.
type Case = (fn(&mut Sayings), &'static str);

/// What becomes of a genuine quote of `tee`, by sayings of which `edit` made something else.
fn said(tee: Tee, edit: impl FnOnce(&mut Sayings)) -> Result<Standing, String> {
    let intel = Intel::new();
    let mut sayings = Sayings::of(tee);
    edit(&mut sayings);
    let parts = quotes(&intel).into_iter().find(|(of, _)| *of == tee).unwrap().1;
    appraised(&intel, &parts.sign(&intel), &sayings.sign(&intel))
}

fn refusal(tee: Tee, edit: impl FnOnce(&mut Sayings)) -> String {
    said(tee, edit).unwrap_err()
}

/// What becomes of a platform with these versions.
fn with_versions(tee: Tee, components: [u8; 16], pce_svn: u8) -> Result<Standing, String> {
    let intel = Intel::with_pck(sgx_extension(&components, pce_svn));
    let parts = quotes(&intel).into_iter().find(|(of, _)| *of == tee).unwrap().1;
    appraised(&intel, &parts.sign(&intel), &Sayings::of(tee).sign(&intel))
}

/// What becomes of a virtual machine with these versions.
fn with_tdx(versions: [u8; 3]) -> Result<Standing, String> {
    let intel = Intel::new();
    let mut body = domain([1; 64], false);
    body[..3].copy_from_slice(&versions);
    let quote = Parts::new(&intel, 4, Tee::Tdx, body).sign(&intel);
    appraised(&intel, &quote, &Sayings::of(Tee::Tdx).sign(&intel))
}

fn advisories(standing: &Standing) -> Vec<&str> {
    standing.advisories.iter().map(String::as_str).collect()
}

#[test]
fn a_platform_is_judged_by_the_first_level_that_it_reaches() {
    for tee in [Tee::Tdx, Tee::Sgx] {
        let standing = with_versions(tee, COMPONENTS, PCE_SVN).unwrap();
        assert_eq!((standing.status, standing.evaluation_number), (TcbStatus::UpToDate, 18));
        // One component, or the PCE, is a version behind.
        for (components, pce_svn) in
            [([3, 2, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0], PCE_SVN), (COMPONENTS, PCE_SVN - 1)]
        {
            let standing = with_versions(tee, components, pce_svn).unwrap();
            assert_eq!(standing.status, TcbStatus::OutOfDate);
            assert_eq!(advisories(&standing), ["INTEL-SA-00001"]);
        }
        // Behind every level, in the eighth component or in the PCE.
        for (components, pce_svn) in
            [([9, 9, 9, 9, 9, 9, 9, 4, 9, 9, 9, 9, 9, 9, 9, 9], PCE_SVN), (COMPONENTS, 4)]
        {
            let why = with_versions(tee, components, pce_svn).unwrap_err();
            assert!(why.starts_with("dcap.tcb_level"), "{why}");
        }
    }
}

#[test]
fn a_machine_is_judged_by_its_tdx_module_and_what_that_stands_on() {
    assert_eq!(with_tdx([6, 1, 3]).unwrap().status, TcbStatus::UpToDate);
    // The microcode is too old for every level.
    assert!(with_tdx([6, 1, 2]).unwrap_err().starts_with("dcap.tcb_level"));
    // A module that is known to be old, one that is too old to be known, and one of another version.
    let standing = with_tdx([5, 1, 3]).unwrap();
    assert_eq!(standing.status, TcbStatus::OutOfDate);
    assert_eq!(advisories(&standing), ["INTEL-SA-00002"]);
    for versions in [[1, 1, 3], [6, 2, 3], [6, 0xff, 3]] {
        let why = with_tdx(versions).unwrap_err();
        assert!(why.starts_with("dcap.tdx_module"), "{why}");
    }
    // Before TDX 1.5, the module is one of the components.
    assert_eq!(with_tdx([5, 0, 3]).unwrap().status, TcbStatus::UpToDate);
    assert!(with_tdx([4, 0, 3]).unwrap_err().starts_with("dcap.tcb_level"));
}

#[test]
fn somebody_elses_tdx_module_is_refused() {
    for versions in [[6, 1, 3], [5, 0, 3]] {
        for at in [64, 112] {
            let intel = Intel::new();
            let mut body = domain([1; 64], false);
            body[..3].copy_from_slice(&versions);
            body[at] = 1;
            let quote = Parts::new(&intel, 4, Tee::Tdx, body).sign(&intel);
            let why = appraised(&intel, &quote, &Sayings::of(Tee::Tdx).sign(&intel)).unwrap_err();
            assert!(why.starts_with("dcap.tdx_module"), "{why}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_part_is_wrong_with_the_whole() {
    for tee in [Tee::Tdx, Tee::Sgx] {
        for (platform, enclave, whole) in [
            ("UpToDate", "OutOfDate", TcbStatus::OutOfDate),
            ("SWHardeningNeeded", "UpToDate", TcbStatus::SWHardeningNeeded),
            ("ConfigurationNeeded", "OutOfDate", TcbStatus::OutOfDateConfigurationNeeded),
        ] {
            let standing = said(tee, |sayings| {
                sayings.tcb_info["tcbLevels"][0]["tcbStatus"] = platform.into();
                sayings.qe_identity["tcbLevels"][0]["tcbStatus"] = enclave.into();
                sayings.qe_identity["tcbLevels"][0]["advisoryIDs"] = json!(["INTEL-SA-1"]);
                sayings.tcb_info["tcbLevels"][0]["advisoryIDs"] = json!(["INTEL-SA-2"]);
            });
            let standing = standing.unwrap();
            assert_eq!(standing.status, whole);
            assert_eq!(advisories(&standing), ["INTEL-SA-1", "INTEL-SA-2"]);
        }
    }
}

#[test]
fn only_accepted_statuses_and_never_revoked_keys_are_admitted() {
    let intel = Intel::new();
    let [(_, parts), _] = quotes(&intel);
    let quote = parts.sign(&intel);
    for status in TcbStatus::ALL {
        let mut sayings = Sayings::of(Tee::Tdx);
        sayings.tcb_info["tcbLevels"][0]["tcbStatus"] = status.name().into();
        let collateral = sayings.sign(&intel);
        let judge = |policy: &TcbPolicy| judge(&quote, &collateral, &intel.roots(), policy, NOW);
        let only = TcbPolicy { accept: [status].into(), min_evaluation_number: None };
        if status == TcbStatus::Revoked {
            let why = judge(&only).unwrap_err();
            assert!(why.starts_with("dcap.tcb_status"), "{why}");
        } else {
            assert_eq!(judge(&only).unwrap().status, status);
        }
        let by_default = judge(&TcbPolicy::default());
        assert_eq!(by_default.is_ok(), status == TcbStatus::UpToDate, "{status}");
    }
    let why = refusal(Tee::Tdx, |sayings| {
        sayings.qe_identity["tcbLevels"][0]["tcbStatus"] = "Revoked".into();
    });
    assert!(why.starts_with("dcap.tcb_status"), "{why}");
}

#[test]
fn collateral_of_an_older_tcb_recovery_is_refused() {
    let intel = Intel::new();
    let [(_, parts), _] = quotes(&intel);
    let quote = parts.sign(&intel);
    let judge = |least, sayings: Sayings| {
        let policy = TcbPolicy { min_evaluation_number: Some(least), ..TcbPolicy::default() };
        judge(&quote, &sayings.sign(&intel), &intel.roots(), &policy, NOW)
    };
    judge(18, Sayings::of(Tee::Tdx)).unwrap();
    let why = judge(19, Sayings::of(Tee::Tdx)).unwrap_err();
    assert!(why.starts_with("dcap.tcb_evaluation_number"), "{why}");
    for (tcb, identity) in [(18, 17), (17, 18)] {
        let mut sayings = Sayings::of(Tee::Tdx);
        sayings.tcb_info["tcbEvaluationDataNumber"] = tcb.into();
        sayings.qe_identity["tcbEvaluationDataNumber"] = identity.into();
        judge(18, sayings).unwrap_err();
    }
}

#[test]
fn expired_collateral_is_refused_and_so_is_what_is_not_yet_valid() {
    let intel = Intel::new();
    let [(_, parts), _] = quotes(&intel);
    let quote = parts.sign(&intel);
    let judge = |sayings: &Sayings, now| {
        judge(&quote, &sayings.sign(&intel), &intel.roots(), &lenient(), at(now))
    };
    let sayings = Sayings::of(Tee::Tdx);
    judge(&sayings, "2025-12-20T00:00:00Z").unwrap();
    judge(&sayings, "2026-01-18T23:59:59Z").unwrap();
    for (now, rule) in [
        ("2025-12-19T23:59:59Z", "dcap.revocation_lists"),
        ("2026-01-19T00:00:00Z", "dcap.tcb_info_dates"),
        ("2026-03-01T00:00:00Z", "dcap.revocation_lists"),
    ] {
        let why = judge(&sayings, now).unwrap_err();
        assert!(why.starts_with(rule), "{now}: {why}");
    }
    let cases: [Case; 4] = [
        (
            |sayings: &mut Sayings| sayings.tcb_info["issueDate"] = "2026-01-01T00:00:01Z".into(),
            "dcap.tcb_info_dates",
        ),
        (
            |sayings| sayings.qe_identity["nextUpdate"] = "2026-01-01T00:00:00Z".into(),
            "dcap.qe_identity_dates",
        ),
        (
            |sayings| sayings.qe_identity["issueDate"] = "2026-01-01T00:00:01Z".into(),
            "dcap.qe_identity_dates",
        ),
        (|sayings| sayings.crls_end = 1, "dcap.revocation_lists"),
    ];
    for (edit, rule) in cases {
        let why = refusal(Tee::Tdx, edit);
        assert!(why.starts_with(rule), "{why}");
    }
}

#[test]
fn grace_is_what_the_operator_grants_and_no_more() {
    let intel = Intel::new();
    let [(_, parts), _] = quotes(&intel);
    let (quote, collateral) = (parts.sign(&intel), Sayings::of(Tee::Tdx).sign(&intel));
    let quote = Quote::parse(&quote).unwrap();
    let (roots, policy) = (&intel.roots(), &TcbPolicy::default());
    let is_accepted = |now| {
        let (mut checks, now) = (Checklist::strict(), at(now));
        let platform = authenticate(&quote, roots, now, &mut checks).unwrap();
        let terms = Terms { roots, policy, grace: Duration::from_hours(24), now };
        appraise(&quote, platform.as_ref(), Some(&collateral), terms, &mut checks).is_ok()
    };
    assert!(is_accepted("2026-01-19T23:59:59Z"));
    assert!(!is_accepted("2026-01-20T00:00:00Z"));
}

#[test]
fn revoked_platforms_authorities_and_signers_are_refused() {
    let revoked = |by_root: Vec<u64>, by_ca: Vec<u64>| {
        refusal(Tee::Tdx, |sayings| {
            (sayings.revoked_by_root, sayings.revoked_by_ca) = (by_root, by_ca);
        })
    };
    for why in [revoked(vec![], vec![1, PCK_SERIAL]), revoked(vec![CA_SERIAL], vec![])] {
        assert!(why.starts_with("dcap.revocation: "), "{why}");
    }
    let why = revoked(vec![SIGNER_SERIAL], vec![]);
    assert!(why.starts_with("dcap.tcb_info_signature"), "{why}");
    // The lists say nothing about each other's certificates.
    said(Tee::Tdx, |sayings| {
        sayings.revoked_by_root = vec![PCK_SERIAL];
        sayings.revoked_by_ca = vec![CA_SERIAL, SIGNER_SERIAL];
    })
    .unwrap();
}

#[test]
fn a_revocation_list_has_to_be_there_and_its_issuers() {
    let (intel, stranger) = (Intel::new(), Intel::new());
    let [(_, parts), _] = quotes(&intel);
    let quote = parts.sign(&intel);
    let (ours, theirs) =
        (Sayings::of(Tee::Tdx).sign(&intel), Sayings::of(Tee::Tdx).sign(&stranger));
    let with = |root: &Collateral, pck: &[u8]| Collateral {
        root_ca_crl: root.root_ca_crl.clone(),
        pck_crl: pck.to_vec(),
        ..ours.clone()
    };
    for collateral in [
        with(&theirs, &ours.pck_crl),
        with(&ours, &theirs.pck_crl),
        // In place of the list of platforms, that of the root again.
        with(&ours, &ours.root_ca_crl),
    ] {
        let why = appraised(&intel, &quote, &collateral).unwrap_err();
        assert!(why.starts_with("dcap.revocation: "), "{why}");
    }
    for list in [&b""[..], b"list", &ours.pck_crl[1..], &[&ours.pck_crl[..], b"\0"].concat()] {
        let why = appraised(&intel, &quote, &with(&ours, list)).unwrap_err();
        assert!(why.starts_with("dcap.revocation_lists"), "{why}");
    }
}

#[test]
fn only_the_signer_of_collateral_signs_collateral() {
    let (intel, stranger) = (Intel::new(), Intel::new());
    let [(_, parts), _] = quotes(&intel);
    let quote = parts.sign(&intel);
    let sayings = Sayings::of(Tee::Tdx);
    let other = intel.root.holder("Intel SGX PCK Certificate", 77, |_| ());
    for signer in [&stranger.tcb_signer, &intel.pck, &other] {
        let why = appraised(&intel, &quote, &sayings.sign_as(&intel, signer)).unwrap_err();
        assert!(why.starts_with("dcap.tcb_info_signature"), "{why}");
    }
    // Each document is signed for itself, as it is written.
    let good = sayings.sign(&intel);
    let identity = Collateral { qe_identity: format!("{} ", good.qe_identity), ..good.clone() };
    let why = appraised(&intel, &quote, &identity).unwrap_err();
    assert!(why.starts_with("dcap.qe_identity_signature"), "{why}");
    let signature = good.qe_identity_signature.clone();
    let swapped = Collateral { tcb_info_signature: signature, ..good };
    let why = appraised(&intel, &quote, &swapped).unwrap_err();
    assert!(why.starts_with("dcap.tcb_info_signature"), "{why}");
}

#[test]
fn collateral_is_about_this_platform_and_this_kind_of_quote() {
    for (member, value) in
        [("fmspc", "B0C06F000002"), ("pceId", "0001"), ("id", "SGX"), ("id", "QE")]
    {
        let why = refusal(Tee::Tdx, |sayings| sayings.tcb_info[member] = value.into());
        assert!(why.starts_with("dcap.tcb_info_platform"), "{member}: {why}");
    }
    let why = refusal(Tee::Sgx, |sayings| sayings.tcb_info["id"] = "TDX".into());
    assert!(why.starts_with("dcap.tcb_info_platform"), "{why}");
    for id in ["QE", "QVE", "td_qe", ""] {
        let why = refusal(Tee::Tdx, |sayings| sayings.qe_identity["id"] = id.into());
        assert!(why.starts_with("dcap.qe_identity:"), "{id}: {why}");
    }
}

#[test]
fn the_quoting_enclave_is_intels() {
    // mrsigner, isvprodid, the first attribute, miscselect, debug.
    for (at, value) in [(128, 1), (256, 9), (48, 0x10), (16, 1), (48, 0x13), (300, 1)] {
        let intel = Intel::new();
        let [(_, mut parts), _] = quotes(&intel);
        parts.qe_report[at] = value;
        let why = appraised(&intel, &parts.sign(&intel), &Sayings::of(Tee::Tdx).sign(&intel));
        let why = why.unwrap_err();
        assert!(why.starts_with("dcap.qe_identity:"), "{at}: {why}");
    }
    // An attribute that the mask leaves out: 64-bit mode.
    let intel = Intel::new();
    let [(_, mut parts), _] = quotes(&intel);
    parts.qe_report[48] = 0x15;
    appraised(&intel, &parts.sign(&intel), &Sayings::of(Tee::Tdx).sign(&intel)).unwrap();
    // Older versions.
    for (version, status) in [(5, Some(TcbStatus::OutOfDate)), (3, None)] {
        parts.qe_report[258] = version;
        let judged = appraised(&intel, &parts.sign(&intel), &Sayings::of(Tee::Tdx).sign(&intel));
        assert_eq!(judged.ok().map(|standing| standing.status), status);
    }
}

#[test]
fn collateral_that_is_not_understood_is_refused() {
    let cases: [Case; 8] = [
        (|sayings: &mut Sayings| sayings.tcb_info["version"] = 4.into(), "dcap.tcb_info_signature"),
        (|sayings| sayings.tcb_info["tcbType"] = 1.into(), "dcap.tcb_info_signature"),
        (|sayings| sayings.tcb_info["tcbLevels"] = Value::Null, "dcap.tcb_info_signature"),
        (
            |sayings| sayings.tcb_info["tcbLevels"][1]["tcbStatus"] = "Fine".into(),
            "dcap.tcb_info_signature",
        ),
        (|sayings| sayings.tcb_info["tcbLevels"] = json!([]), "dcap.tcb_level"),
        (
            |sayings| {
                let tcb = &mut sayings.tcb_info["tcbLevels"][0]["tcb"];
                tcb.as_object_mut().unwrap().remove("tdxtcbcomponents");
                sayings.tcb_info["tcbLevels"].as_array_mut().unwrap().remove(1);
            },
            "dcap.tcb_level",
        ),
        (|sayings| sayings.tcb_info["tdxModuleIdentities"] = json!([]), "dcap.tdx_module"),
        (|sayings| sayings.qe_identity["version"] = 1.into(), "dcap.qe_identity_signature"),
    ];
    for (edit, rule) in cases {
        let why = refusal(Tee::Tdx, edit);
        assert!(why.starts_with(rule), "{rule}: {why}");
    }
}

/// TCB info of version 2 names the components one by one, and is about SGX alone.
#[test]
fn tcb_info_of_version_2_is_understood_for_sgx() {
    let older = |sayings: &mut Sayings| {
        sayings.tcb_info["version"] = 2.into();
        sayings.tcb_info.as_object_mut().unwrap().remove("id");
        for level in sayings.tcb_info["tcbLevels"].as_array_mut().unwrap() {
            let tcb = level["tcb"].as_object_mut().unwrap();
            let list = tcb.remove("sgxtcbcomponents").unwrap();
            for (number, component) in (1..).zip(list.as_array().unwrap()) {
                tcb.insert(format!("sgxtcbcomp{number:02}svn"), component["svn"].clone());
            }
        }
    };
    assert_eq!(said(Tee::Sgx, older).unwrap().status, TcbStatus::UpToDate);
    let why = refusal(Tee::Tdx, older);
    assert!(why.starts_with("dcap.tcb_info_platform"), "{why}");
    let why = refusal(Tee::Sgx, |sayings| {
        older(sayings);
        let tcb = sayings.tcb_info["tcbLevels"][0]["tcb"].as_object_mut().unwrap();
        tcb.remove("sgxtcbcomp16svn");
    });
    assert!(why.starts_with("dcap.tcb_info_signature"), "{why}");
}
