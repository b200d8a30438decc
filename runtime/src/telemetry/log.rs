//! Logs: one line per event, on stderr.

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Our own crates all begin like this.
const OURS: &str = "claviger";

/// How to log: the `[log]` table of a configuration file.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The shape of a line.
    pub format: LogFormat,
    /// The least important events that are still written.
    pub level: LogLevel,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// How important an event must be to be written. Libraries are heard from `warn` up; at `debug`
/// and `trace` also their `info`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Something failed and someone must act.
    Error,
    /// Something is wrong, but goes on.
    Warn,
    /// The course of events.
    #[default]
    Info,
    /// Every refusal and its reason.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    fn targets(self) -> Targets {
        let (ours, libraries) = match self {
            Self::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
            Self::Warn => (LevelFilter::WARN, LevelFilter::WARN),
            Self::Info => (LevelFilter::INFO, LevelFilter::WARN),
            Self::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
            Self::Trace => (LevelFilter::TRACE, LevelFilter::INFO),
        };
        Targets::new().with_target(OURS, ours).with_default(libraries)
    }
}

/// Starts to log, for the whole process and once.
///
/// # Errors
///
/// [`InitLogError`] if something else already logs for this process.
pub fn init(config: LogConfig) -> Result<(), InitLogError> {
    let terminal = io::stderr().is_terminal();
    subscriber(config, terminal, io::stderr).try_init().map_err(InitLogError)
}

/// The process already has a logger.
#[derive(Debug, thiserror::Error)]
#[error("logging can be started only once per process")]
pub struct InitLogError(#[source] tracing_subscriber::util::TryInitError);

fn subscriber<W>(config: LogConfig, terminal: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(terminal);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(config.level.targets()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::{debug, info, warn};

    use super::*;

    /// Where the lines of a test end up.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(toml: &str, events: impl FnOnce()) -> String {
        let config = toml::from_str(toml).unwrap();
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(
            subscriber(config, false, move || writer.clone()),
            events,
        );
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn defaults_are_text_at_info() {
        let text = logged("", || {
            info!(port = 1, "listening");
            debug!("hidden");
        });
        assert!(text.contains("listening port=1"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "no colours unless on a terminal: {text}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = logged("format = \"json\"\nlevel = \"debug\"", || debug!(port = 1, "refused"));
        let line: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["message"], "refused");
        assert_eq!(line["port"], 1);
        assert_eq!(line["level"], "DEBUG");
    }

    #[test]
    fn libraries_are_quieter_than_we_are() {
        let text = logged("", || {
            info!(target: "h2", "hidden");
            warn!(target: "h2", "heard");
        });
        assert!(text.contains("heard") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn a_typo_is_an_error() {
        for toml in ["levle = \"info\"", "level = \"loud\"", "format = \"xml\""] {
            let error = toml::from_str::<LogConfig>(toml).unwrap_err().to_string();
            assert!(error.contains("unknown"), "{error}");
        }
    }
}
