//! Where the server keeps what must outlive it: in its data directory, or in a database that several
//! servers share.

use std::fmt;
use std::path::PathBuf;

use claviger_runtime::settings::{AbsolutePath, Section};

/// A database that several servers share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseConfig {
    /// Where it is.
    pub url: DatabaseUrl,
    /// Who vouches for it, in PEM; the authorities of this machine if unset.
    pub ca_file: Option<PathBuf>,
    /// The key that wraps what is secret in it, which every server has.
    pub key_file: PathBuf,
}

/// The URL of a database, with a password perhaps: it is not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL `text`, which is looked at when the database is opened.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for those who connect.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

/// `None` for the data directory.
pub(super) fn read(section: &mut Section<'_>) -> Option<DatabaseConfig> {
    let url: Option<String> = section.secret("postgres");
    let ca_file = section.value::<AbsolutePath>("ca-file").map(|path| path.0);
    let key_file = section.value::<AbsolutePath>("key-file").map(|path| path.0);
    let Some(url) = url else {
        if ca_file.is_some() || key_file.is_some() {
            let advice = "is missing; without it nothing else in `store` means anything";
            section.report("postgres", None, advice.to_owned());
        }
        return None;
    };
    if !(url.starts_with("postgresql://") || url.starts_with("postgres://")) {
        let advice = "has to be a URL such as `postgresql://claviger@db.example.org/claviger`";
        section.report("postgres", None, advice.to_owned());
    }
    if key_file.is_none() {
        let advice = "is missing; name a file with the key that wraps secrets in the database, the same on \
                      every server: `openssl rand -hex 32`";
        section.report("key-file", None, advice.to_owned());
    }
    Some(DatabaseConfig { url: DatabaseUrl(url), ca_file, key_file: key_file? })
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(store: &str) -> Result<Config, String> {
        let text = format!("trust-domain = \"a.org\"\ndata-dir = \"/d\"\n{store}");
        Config::parse(&text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_database_needs_a_url_and_a_key() {
        assert_eq!(parse("").unwrap().store, None);
        let whole = "[store]\npostgres = \"postgresql://u:geheim@h/d\"\nkey-file = \"/k\"";
        let config = parse(whole).unwrap();
        assert_eq!(config.store.as_ref().unwrap().url.expose(), "postgresql://u:geheim@h/d");
        assert!(!format!("{config:?}").contains("geheim"));
        let keyless = parse("[store]\npostgres = \"postgresql://u:geheim@h/d\"").unwrap_err();
        assert!(
            keyless.contains("openssl rand -hex 32") && !keyless.contains("geheim"),
            "{keyless}"
        );
        let odd = parse("[store]\npostgres = \"u:geheim@h\"\nkey-file = \"/k\"").unwrap_err();
        assert!(odd.contains("has to be a URL") && !odd.contains("geheim"), "{odd}");
        assert!(
            parse("[store]\nkey-file = \"/k\"").unwrap_err().contains("store.postgres: is missing")
        );
    }
}
