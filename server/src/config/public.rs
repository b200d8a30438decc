//! `[public]`: what the server tells strangers, and through which door.

use std::net::SocketAddr;
use std::path::PathBuf;

use claviger_runtime::settings::{AbsolutePath, Section};
use http::Uri;

/// What is served to strangers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicConfig {
    /// Where.
    pub door: Door,
    /// For whom keys are served by OpenID Connect Discovery; for nobody if unset.
    pub issuer: Option<IssuerUrl>,
    /// The names under which it is reached, in lower case; the issuer's is among them.
    pub hosts: Vec<String>,
    /// Whether programs without an agent get credentials here, for evidence.
    pub direct: bool,
}

/// Where strangers come in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Door {
    /// HTTPS, with a certificate of the Web's.
    Https {
        /// The address.
        listen: SocketAddr,
        /// The file with the certificates, leaf first, in PEM.
        certificate: PathBuf,
        /// The file with the leaf's key, in PEM.
        key: PathBuf,
    },
    /// HTTPS at this address, with the server's own SVID.
    Own(SocketAddr),
    /// HTTP on a Unix socket, behind a proxy on this machine that terminates TLS.
    Socket(PathBuf),
}

/// An issuer that can be looked up: `https`, a host, and perhaps a port and a path (OpenID Connect
/// Discovery 1.0 §3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IssuerUrl {
    url: String,
    host: String,
    path: String,
}

impl IssuerUrl {
    /// Reads `url`; `None` if it cannot be an issuer that is looked up.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let parsed: Uri = url.parse().ok()?;
        let bare = !url.contains(['?', '#', '@']) && !url.ends_with('/');
        let host = parsed.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let https = parsed.scheme_str() == Some("https");
        // A URL without a path has the path `/` once it is parsed.
        let path = parsed.path().trim_end_matches('/').to_owned();
        (bare && https).then(|| Self { url: url.to_owned(), host, path })
    }

    /// As it stands in tokens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// What its documents' paths begin with: empty, or with a slash in front and none behind.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Reads the section; `None` if nothing is served. `issuer` is that of JWT-SVIDs.
pub(super) fn read(section: &mut Section<'_>, issuer: Option<&str>) -> Option<PublicConfig> {
    let listen = section.value("listen");
    let certificate = section.value::<AbsolutePath>("certificate").map(|path| path.0);
    let key = section.value::<AbsolutePath>("key").map(|path| path.0);
    let socket = section.value::<AbsolutePath>("socket").map(|path| path.0);
    let hosts = section.value::<Vec<String>>("hosts").unwrap_or_default();
    let direct = section.value("direct").unwrap_or(false);
    let door = match (listen, socket, certificate, key) {
        (None, None, None, None) => {
            if let Some(host) = hosts.first() {
                section.problem("hosts", host, "is served nowhere; set `listen` or `socket`");
            }
            if direct {
                section.problem("direct", &direct, "is served nowhere; set `listen` or `socket`");
            }
            return None;
        }
        (None, Some(socket), None, None) => Door::Socket(socket),
        (Some(listen), None, Some(certificate), Some(key)) => {
            Door::Https { listen, certificate, key }
        }
        (Some(listen), None, None, None) => Door::Own(listen),
        (Some(listen), None, _, _) => {
            let advice = "needs both `certificate` and `key`, or neither: then it shows the \
                          server's own SVID";
            section.problem("listen", &listen, advice);
            return None;
        }
        (_, Some(socket), _, _) => {
            let advice = "is for a proxy that terminates TLS; leave out `listen`, `certificate` \
                          and `key`";
            section.problem("socket", &socket.display(), advice);
            return None;
        }
        (None, None, certificate, key) => {
            let path = certificate.or(key).unwrap_or_default();
            section.problem("certificate", &path.display(), "is used nowhere; set `listen`");
            return None;
        }
    };
    let (issuer, hosts) = names(section, issuer, &hosts)?;
    Some(PublicConfig { door, issuer, hosts, direct })
}

/// Who is asked for: the issuer's host, and those that are listed.
fn names(
    section: &mut Section<'_>,
    issuer: Option<&str>,
    hosts: &[String],
) -> Option<(Option<IssuerUrl>, Vec<String>)> {
    let url = issuer.and_then(IssuerUrl::parse);
    if let (Some(issuer), None) = (issuer, &url) {
        let advice = "is looked up by its URL; make `jwt-issuer` one like \
                      `https://oidc.example.org`, without a slash at the end";
        section.problem("issuer", &issuer, advice);
        return None;
    }
    let mut names: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    for name in &names {
        if name.parse::<http::uri::Authority>().map(|a| a.host() != name).unwrap_or(true) {
            section.problem("hosts", name, "is no host's name; leave out scheme, port and path");
        }
    }
    names.extend(url.as_ref().map(|url| url.host.clone()));
    if names.is_empty() {
        let advice = "say by which names it is reached, or set `jwt-issuer`";
        section.problem("hosts", &"[]", advice);
    }
    Some((url, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MINIMAL: &str = "trust-domain = \"example.org\"\ndata-dir = \"/var/lib/claviger\"\n";
    const ISSUER: &str = "jwt-issuer = \"https://OIDC.example.org:8443/td\"\n";
    const HTTPS: &str = "listen = \"127.0.0.1:1\"\ncertificate = \"/c\"\nkey = \"/k\"\n";

    fn parse(root: &str, section: &str) -> Result<Option<PublicConfig>, String> {
        let config = Config::parse(&format!("{MINIMAL}{root}[public]\n{section}"));
        config.map(|config| config.public).map_err(|problems| problems.to_string())
    }

    #[track_caller]
    fn refuses(root: &str, section: &str, why: &str) {
        let problems = parse(root, section).unwrap_err();
        assert!(problems.contains(why), "{problems}");
    }

    #[test]
    fn nothing_is_served_unless_asked_for() {
        assert_eq!(parse(ISSUER, "").unwrap(), None);
    }

    #[test]
    fn both_doors_are_read() {
        let public = parse(ISSUER, HTTPS).unwrap().unwrap();
        let issuer = public.issuer.unwrap();
        assert_eq!(issuer.as_str(), "https://OIDC.example.org:8443/td");
        assert_eq!((issuer.path(), public.hosts), ("/td", vec!["oidc.example.org".to_owned()]));
        let listen = "127.0.0.1:1".parse().unwrap();
        let door = Door::Https { listen, certificate: "/c".into(), key: "/k".into() };
        assert_eq!(public.door, door);
        let public = parse("", "socket = \"/s\"\nhosts = [\"A.org\"]").unwrap().unwrap();
        assert_eq!((public.door, public.issuer), (Door::Socket("/s".into()), None));
        assert_eq!(public.hosts, ["a.org"]);
        let public = parse(ISSUER, "listen = \"127.0.0.1:1\"").unwrap().unwrap();
        assert_eq!((public.door, public.direct), (Door::Own(listen), false));
    }

    #[test]
    fn programs_without_an_agent_need_evidence_that_somebody_judges() {
        let direct = "listen = \"127.0.0.1:1\"\ndirect = true\n";
        refuses(ISSUER, direct, "public.direct = true: judges no evidence yet");
    }

    #[test]
    fn half_a_door_is_refused() {
        let half = "listen = \"127.0.0.1:1\"\nkey = \"/k\"";
        refuses(ISSUER, half, "public.listen = 127.0.0.1:1: needs both `certificate` and `key`");
        refuses(ISSUER, "direct = true", "public.direct = true: is served nowhere");
        refuses(ISSUER, &format!("{HTTPS}socket = \"/s\""), "public.socket = /s: is for a proxy");
        refuses(ISSUER, "key = \"/k\"", "public.certificate = /k: is used nowhere");
        refuses(ISSUER, "hosts = [\"a\"]", "public.hosts = a: is served nowhere");
        refuses("", HTTPS, "public.hosts = []: say by which names");
        refuses("", &format!("{HTTPS}hosts = [\"a:1\"]"), "public.hosts = a:1: is no host's name");
        refuses(
            "jwt-issuer = \"example.org\"\n",
            HTTPS,
            "public.issuer = example.org: is looked up",
        );
    }

    #[test]
    fn an_issuer_that_is_looked_up_is_a_plain_url() {
        for good in ["https://a.org", "https://a.org:1", "https://a.org/b/c", "https://127.0.0.1"] {
            assert_eq!(IssuerUrl::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a.org",
            "http://a.org",
            "https://",
            "https://a.org/",
            "https://a.org/b/",
            "https://a.org?b",
            "https://a.org#b",
            "https://u@a.org",
            "/a",
            "spiffe://a.org",
        ] {
            assert_eq!(IssuerUrl::parse(bad), None, "{bad}");
        }
    }
}
