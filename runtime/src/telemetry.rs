//! What a process says about itself: logs on stderr, metrics for Prometheus.

mod chain;
mod log;
mod metrics;

pub use chain::Chain;
pub use log::{InitLogError, LogConfig, LogFormat, LogLevel, init};
pub use metrics::{InitMetricsError, Metrics};
