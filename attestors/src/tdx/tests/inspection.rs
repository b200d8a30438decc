use super::*;
use crate::checklist::{Outcome, Rule};
use crate::fixture::NOW;
use crate::fixture::corpus::corpus;
use crate::inspect::{Given, Inspection, Verdict};

fn given(collateral: Option<Vec<u8>>) -> Given {
    Given { collateral, ..Given::NOTHING }
}

#[test]
fn people_read_what_a_real_quote_says_and_which_rules_it_keeps() {
    let Some(folder) = corpus("tdx") else { return };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let quote = read("sample__tdx_quote");
    let collateral = Some(read("sample__tdx_quote_collateral.json"));
    let inspection = inspect(&quote, &given(collateral.clone())).unwrap();
    assert_eq!(inspection.verdict(), Verdict::Open, "{:?}", inspection.checks);
    let field = |name: &str| {
        let field = inspection.fields.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value.clone()).unwrap()
    };
    assert!(field("mrtd").starts_with("91eb2b44d141d4ec"));
    assert_eq!((field("tcb status"), field("fmspc")), ("UpToDate".into(), "b0c06f000000".into()));
    let open: Vec<_> = open_rules(&inspection);
    assert_eq!(open, ["tdx.report_data", "reference_values"]);
    // Today, without collateral, and with a flipped bit.
    let today = Given { at: Some(NOW), ..given(collateral) };
    assert_eq!(inspect(&quote, &today).unwrap().verdict(), Verdict::Broken);
    assert_eq!(inspect(&quote, &given(None)).unwrap().verdict(), Verdict::Open);
    let mut flipped = quote.clone();
    flipped[200] ^= 1;
    let at = Given { at: Some(NOW), ..given(None) };
    assert_eq!(inspect(&flipped, &at).unwrap().verdict(), Verdict::Broken);
    assert_eq!(inspect(&quote[..1_000], &at).unwrap().verdict(), Verdict::Broken);
    for other in [&b""[..], b"{}", &read("sample__sgx_quote")] {
        assert!(inspect(other, &at).is_none());
    }
}

fn open_rules(inspection: &Inspection) -> Vec<&'static str> {
    let open = |(rule, outcome): (&'static Rule, _)| {
        matches!(outcome, &Outcome::Open(_)).then_some(rule.id)
    };
    inspection.checks.checks().filter_map(open).collect()
}
