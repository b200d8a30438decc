//! Routes on the command line, in the words of `shim.toml`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use claviger_runtime::settings::Problems;
use claviger_shim::config::Config;
use claviger_shim::run::Listening;

use crate::failure::Failure;

/// How long what the program sent may be on its way after its end.
const GRACE: Duration = Duration::from_secs(5);

/// What variables with the addresses of routes begin with.
const PREFIX: &str = "CLAVIGER_ROUTE_";

/// Where routes are described.
#[derive(Args, Debug)]
pub(crate) struct Routes {
    /// A way out, by its settings as in a shim's configuration: `name=…,listen=…,to=…,peer=…,mode=…,
    /// purpose=…`; may be repeated
    #[arg(long = "route", value_name = "SETTINGS", required_unless_present = "config")]
    routes: Vec<String>,

    /// The file with the routes, as of `claviger shim run`
    #[arg(long, value_name = "FILE", conflicts_with = "routes")]
    config: Option<PathBuf>,
}

impl Routes {
    /// Reads them all, and tells every mistake.
    pub(crate) fn read(&self) -> Result<Config, Failure> {
        if let Some(path) = &self.config {
            return Config::load(path)
                .map_err(|problems| crate::run::misconfigured(path, &problems));
        }
        let tables = self.routes.iter().map(|route| table(route));
        let text = tables.collect::<Result<String, Failure>>()?;
        let mut config = Config::parse(&text).map_err(|problems| unusable(&problems))?;
        config.limits.grace = GRACE;
        Ok(config)
    }
}

/// One route as a table of `shim.toml`.
fn table(route: &str) -> Result<String, Failure> {
    let bad = |problem: String| Failure::usage(problem).within(format_args!("`--route {route}`"));
    let mut table = "[[outbound]]\n".to_owned();
    let mut keys = BTreeSet::new();
    for setting in route.split(',') {
        let (key, value) = setting
            .split_once('=')
            .filter(|(key, _)| is_key(key))
            .ok_or_else(|| bad(format!("`{setting}` is not `key=value`")))?;
        if !keys.insert(key) {
            return Err(bad(format!("`{key}` is there twice")));
        }
        table.push_str(&format!("{key} = {}\n", written(key, value)));
    }
    Ok(table)
}

/// Words of small letters with hyphens in between: nobody adds a line to the file.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// A value in TOML, whose strings are written as JSON's.
fn written(key: &str, value: &str) -> String {
    let text = serde_json::Value::from(value).to_string();
    match (key, value.parse::<u32>()) {
        ("prefetch", Ok(number)) => number.to_string(),
        ("callers", _) if value != "anybody" => format!("[{text}]"),
        _ => text,
    }
}

fn unusable(Problems(problems): &Problems) -> Failure {
    let lines: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    Failure::usage(format_args!("the routes cannot be used:{}", lines.concat()))
}

/// The variables by which the program finds its routes: `CLAVIGER_ROUTE_DB=127.0.0.1:40123`.
pub(crate) fn variables(listeners: &[Listening]) -> Result<Vec<(String, String)>, Failure> {
    let mut names = BTreeSet::new();
    let mut variables = Vec::new();
    for Listening { route, address } in listeners {
        let Some(address) = address else { continue };
        let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = PREFIX.chars().chain(route.chars().map(upper)).collect();
        if !names.insert(name.clone()) {
            return Err(Failure::usage(format_args!("two routes have the variable `{name}`"))
                .try_this(format_args!("call `{route}` something else")));
        }
        variables.push((name, address.to_string()));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use claviger_shim::route::{Callers, Door};

    use super::*;

    const DB: &str = "name=db,listen=127.0.0.1:0,to=db.internal:8443,peer=spiffe://example.org/db,\
        mode=psk,purpose=query";

    fn read(routes: &[&str]) -> Result<Config, String> {
        let routes = routes.iter().map(|&route| route.to_owned()).collect();
        Routes { routes, config: None }.read().map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_route_says_what_the_file_would() {
        let more = format!("{DB},prefetch=2,callers=spiffe://example.org/web,idle=5m");
        let config =
            read(&[&more.replace("name=db", "name=a"), &DB.replace("127.0.0.1:0", "unix:/x")]);
        let [a, b] = config.unwrap().outbound.try_into().unwrap();
        let web = "spiffe://example.org/web".parse().unwrap();
        assert_eq!(
            (a.name.as_str(), a.prefetch, a.callers),
            ("a", 2, Callers::Known([web].into()))
        );
        assert_eq!((a.lifetime.idle, b.door), (Duration::from_secs(300), Door::Unix("/x".into())));
        let anybody = read(&[&format!("{DB},callers=anybody")]).unwrap();
        assert_eq!(anybody.outbound[0].callers, Callers::Anybody);
    }

    #[test]
    fn every_mistake_is_told() {
        let told = read(&["name=db,listen=5432,mode=tls,purpose=a b"]).unwrap_err();
        for part in ["listen", "5432", "mode", "tls", "purpose", "to", "peer"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        for (route, part) in [
            ("db", "`db` is not `key=value`"),
            ("name=db,", "`` is not `key=value`"),
            ("name=db,=x", "`=x` is not"),
            ("na me=db", "is not `key=value`"),
            ("x]\ny=1", "is not `key=value`"),
            ("name=db,name=web", "`name` is there twice"),
            (&format!("{DB},colour=red"), "colour"),
            (&format!("{DB},prefetch=many"), "prefetch"),
            (&DB.replace("=db,", "=d\"\nb,"), "name"),
        ] {
            let told = read(&[route]).unwrap_err();
            assert!(told.contains(part), "{route}: {told}");
        }
    }

    #[test]
    fn variables_are_named_like_variables() {
        let listening = |route: &str, address: Option<&str>| Listening {
            route: route.to_owned(),
            address: address.map(|address| address.parse().unwrap()),
        };
        let doors = [listening("my-db.1", Some("127.0.0.1:7")), listening("unix", None)];
        let found = variables(&doors).map_err(|failure| failure.to_string()).unwrap();
        assert_eq!(found, [("CLAVIGER_ROUTE_MY_DB_1".to_owned(), "127.0.0.1:7".to_owned())]);
        let same = [listening("a-b", Some("[::1]:7")), listening("a.b", Some("[::1]:8"))];
        assert!(variables(&same).unwrap_err().to_string().contains("CLAVIGER_ROUTE_A_B"));
    }
}
