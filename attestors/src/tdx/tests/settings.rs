use super::*;

#[test]
fn settings_that_would_admit_nobody_or_anybody_are_refused() {
    let keys = |more: &str| {
        let text = format!("reference-values = {{ path = '/r', keys = ['/k'] }}\n{more}");
        let config: Config = toml::from_str(&text).unwrap();
        config.problems().into_iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert!(keys("collateral.folder = '/c'").is_empty());
    assert!(keys("collateral.url = 'https://pccs.example:8081'").is_empty());
    for (more, key) in [
        ("collateral = {}", "collateral.folder"),
        ("collateral.folder = ''", "collateral.folder"),
        ("collateral.url = 'http://pccs.example'", "collateral.url"),
        ("collateral = { from-evidence = true, ca-file = '/c' }", "collateral.url"),
        ("collateral = { folder = '/c', grace = '60days' }", "collateral.grace"),
        ("collateral.folder = '/c'\ntcb.accept = []", "tcb.accept"),
        ("collateral.folder = '/c'\ntcb.accept = ['Revoked']", "tcb.accept"),
        ("collateral.folder = '/c'\ninsecure-test-root = ''", "insecure-test-root"),
    ] {
        assert_eq!(keys(more), [key], "{more}");
    }
    for bad in
        ["", "collateral.folder = '/c'\ntcb.accept = ['Good']", "collateral.folder = '/c'\nx = 1"]
    {
        let text = format!("reference-values = {{ path = '/r', keys = ['/k'] }}\n{bad}");
        toml::from_str::<Config>(&text).unwrap_err();
    }
    toml::from_str::<Config>("collateral.folder = '/c'").unwrap_err();
    let config: CollectorConfig = toml::from_str("").unwrap();
    assert!(config.problems().is_empty());
    let config: CollectorConfig =
        toml::from_str("tsm-path = 'report'\ncollateral-path = ''").unwrap();
    let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["tsm-path", "collateral-path"]);
}
