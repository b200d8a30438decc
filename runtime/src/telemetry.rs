//! What a process says about itself: logs on stderr, metrics for Prometheus.

mod chain;
mod lines;
mod log;
mod metrics;

pub use chain::Chain;
pub use lines::LinesFile;
pub use log::{InitLogError, LogConfig, LogFormat, LogLevel, init};
pub use metrics::{InitMetricsError, Metrics};
