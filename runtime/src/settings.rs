//! Reading a configuration file setting by setting, so that every mistake in it is reported at once.
//!
//! Values are shown in reports, so that an operator sees which one is meant; except those that were
//! asked for with [`Section::secret`], and those of unknown keys, which may be mistyped secrets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The text of the configuration file at `path`.
///
/// # Errors
///
/// [`Problems`] with the one that the file can't be read.
pub fn read(path: &Path) -> Result<String, Problems> {
    let failed = |advice: String| {
        let key = "the file".to_owned();
        Problems(vec![Problem { key, value: Some(path.display().to_string()), advice }])
    };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if MAX_BYTES < size {
        return Err(failed(format!("has {size} bytes; at most {MAX_BYTES} are read")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

/// Reads the TOML document `text` with `read`, which takes from the root every setting it knows.
///
/// # Errors
///
/// [`Problems`]: every mistake in it.
pub fn parse<T>(
    text: &str,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let table = text.parse::<Table>().map_err(|error| syntax(text, &error))?;
    let mut problems = Vec::new();
    let mut root =
        Section { prefix: String::new(), table, known: Vec::new(), problems: &mut problems };
    let value = read(&mut root);
    root.end();
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        Some(_) | None => Err(Problems(problems)),
    }
}

/// Says where the syntax is broken without quoting the line, which may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> Problems {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let advice = format!("line {line} is not TOML: {}", error.message());
    Problems(vec![Problem { key: "the file".to_owned(), value: None, advice }])
}

/// One table, from which each setting is taken once. What is left at the end is no setting.
#[derive(Debug)]
pub struct Section<'p> {
    /// The table's name, with a dot behind it; empty for the whole file.
    prefix: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'p mut Vec<Problem>,
}

impl Section<'_> {
    /// The value of `key`, if it is there and sound.
    pub fn value<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.take(key, show)
    }

    /// The value of `key`, if it is there and sound, for settings that are not to be shown.
    pub fn secret<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        self.take(key, |_| None)
    }

    /// The value of `key`, which must be there; `advice` says what to write.
    pub fn required<T: DeserializeOwned>(&mut self, key: &'static str, advice: &str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.push(key, None, format!("is missing; {advice}"));
        }
        self.value(key)
    }

    /// Reads the table `key`, empty if it is not there, with `read`.
    pub fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = self.value(key).unwrap_or_default();
        let prefix = format!("{}{key}.", self.prefix);
        let mut inner = Section { prefix, table, known: Vec::new(), problems: self.problems };
        let value = read(&mut inner);
        inner.end();
        value
    }

    /// Reads every table of the array `key`, none if it is not there, with `read`. In reports, a table
    /// goes by its `name`, and by its place in the array if it has none.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let tables: Vec<Table> = self.value(key).unwrap_or_default();
        let mut values = Vec::with_capacity(tables.len());
        for (place, table) in tables.into_iter().enumerate() {
            let named = table.get("name").and_then(Value::as_str);
            let prefix = match named {
                Some(name) => format!("{}{key}.{name}.", self.prefix),
                None => format!("{}{key}[{place}].", self.prefix),
            };
            let mut inner = Section { prefix, table, known: Vec::new(), problems: self.problems };
            values.push(read(&mut inner));
            inner.end();
        }
        values
    }

    /// Whether `key` is there, and not taken yet.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Something is wrong with the `value` of `key`.
    pub fn problem(&mut self, key: &str, value: &impl fmt::Display, advice: impl fmt::Display) {
        self.push(key, Some(value.to_string()), advice.to_string());
    }

    /// Something is wrong with `key`, whose value may be a secret.
    pub fn report(&mut self, key: &str, value: Option<String>, advice: String) {
        self.push(key, value, advice);
    }

    fn take<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        show: impl FnOnce(&Value) -> Option<String>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let shown = show(&value);
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(key, shown, toml::de::Error::message(&error).to_owned());
                None
            }
        }
    }

    /// Reports what was not asked for: a typo in a setting must not be ignored.
    fn end(self) {
        for key in self.table.keys() {
            let meant = self.known.iter().min_by_key(|known| distance(known, key));
            let advice = match meant.filter(|known| distance(known, key) <= 2) {
                Some(meant) => format!("is not a setting; did you mean `{meant}`?"),
                None => format!("is not a setting; settings here are {}", self.known.join(", ")),
            };
            let key = format!("{}{key}", self.prefix);
            self.problems.push(Problem { key, value: None, advice });
        }
    }

    fn push(&mut self, key: &str, value: Option<String>, advice: String) {
        let key = format!("{}{key}", self.prefix);
        self.problems.push(Problem { key, value, advice });
    }
}

/// The value as it was written; none for a table, which would fill the screen.
fn show(value: &Value) -> Option<String> {
    (!value.is_table()).then(|| value.to_string())
}

/// How many letters to insert, remove or replace to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (above, y) in row.iter().skip(1).zip(b.chars()) {
            let replaced = diagonal.saturating_add(usize::from(x != y));
            left = replaced.min(left.saturating_add(1)).min(above.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// A path that is absolute, so that it means the same wherever the process is started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AbsolutePath(pub PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(serde::de::Error::custom("write it as an absolute path, beginning with `/`"))
        }
    }
}

/// A span of time, written like `1h 30m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        humantime_serde::deserialize(deserializer).map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime_serde::re::humantime::format_duration(self.0).fmt(f)
    }
}

/// One mistake in a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where, such as `ca.ttl`.
    pub key: String,
    /// What stands there, unless it may be a secret.
    pub value: Option<String>,
    /// What is wrong, and what to do about it.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}: {}", self.key, self.advice),
            None => write!(f, "{}: {}", self.key, self.advice),
        }
    }
}

/// Every mistake in a configuration file; at least one.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("\n"))
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Example {
        port: u16,
        path: Option<PathBuf>,
        token: Option<String>,
        level: u8,
    }

    fn example(text: &str) -> Result<Example, String> {
        let read = |root: &mut Section<'_>| {
            let port = root.required("port", "choose one from 1 to 65535");
            let path = root.value::<AbsolutePath>("path").map(|path| path.0);
            let token = root.secret("token");
            let level = root.table("log", |log| log.value("level").unwrap_or(1));
            Some(Example { port: port?, path, token, level })
        };
        parse(text, read).map_err(|problems| problems.to_string())
    }

    #[test]
    fn every_setting_is_read() {
        let text = "port = 1\npath = \"/p\"\ntoken = \"t\"\nlog = { level = 2 }";
        let (path, token) = (Some("/p".into()), Some("t".into()));
        assert_eq!(example(text), Ok(Example { port: 1, path, token, level: 2 }));
        assert_eq!(example("port = 1"), Ok(Example { port: 1, path: None, token: None, level: 1 }));
    }

    #[test]
    fn every_mistake_is_reported() {
        let problems = example("path = \"p\"\nlog = { levle = 2, level = \"x\" }\nother = 1");
        assert_eq!(
            problems.unwrap_err().lines().collect::<Vec<_>>(),
            [
                "port: is missing; choose one from 1 to 65535",
                "path = \"p\": write it as an absolute path, beginning with `/`",
                "log.level = \"x\": invalid type: string \"x\", expected u8",
                "log.levle: is not a setting; did you mean `level`?",
                "other: is not a setting; settings here are port, path, token, log",
            ]
        );
    }

    #[test]
    fn each_table_of_an_array_is_read_and_named() {
        let read = |root: &mut Section<'_>| {
            let spans = root.tables("way", |way| {
                let _name = way.value::<String>("name");
                way.required::<Span>("idle", "say how long")
            });
            spans.into_iter().collect::<Option<Vec<_>>>()
        };
        let spans = parse("[[way]]\nidle = \"1h 30m\"\n[[way]]\nname = \"b\"\nidle = \"2s\"", read);
        let spans: Vec<_> = spans.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(spans, ["1h 30m", "2s"]);
        assert_eq!(parse("", read).unwrap(), []);
        let wrong = "[[way]]\nidle = \"x\"\n[[way]]\nname = \"b\"\nidel = \"2s\"";
        let problems = parse(wrong, read).unwrap_err().to_string();
        for part in
            ["way[0].idle = \"x\"", "way.b.idle: is missing", "way.b.idel: is not a setting"]
        {
            assert!(problems.contains(part), "{problems}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        for text in ["port = 1\ntoken = [\"hush\"]", "port = 1\ntokne = \"hush\"", "token = \"hush"]
        {
            let problems = example(text).unwrap_err();
            assert!(problems.contains("tok") || problems.contains("line 1"), "{problems}");
            assert!(!problems.contains("hush"), "{problems}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = read(Path::new("/nonexistent/a.toml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/a.toml: No such file"), "{error}");
        let error = read(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("/proc"), "{error}");
    }

    #[test]
    fn the_distance_between_words_counts_letters() {
        for (a, b, want) in
            [("", "abc", 3), ("abc", "abc", 0), ("health", "helth", 1), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), want, "{a} {b}");
            assert_eq!(distance(b, a), want, "{b} {a}");
        }
    }
}
