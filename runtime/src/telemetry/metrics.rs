//! Metrics: counters, gauges and histograms, rendered for Prometheus.

use std::fmt;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::tasks::Tasks;

/// Upper bounds of the buckets of every histogram whose name ends in `_seconds`: from a look-up in
/// memory to a request that timed out.
const SECONDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// How often samples are folded into their buckets. Between two folds they are kept one by one, so
/// this bounds the memory of a process that nobody scrapes.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// What the `metrics` macros have recorded. Clones read the same recorder.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Starts to record, for the whole process and once.
    ///
    /// # Errors
    ///
    /// [`InitMetricsError`] if something else already records for this process.
    pub fn init(tasks: &Tasks) -> Result<Self, InitMetricsError> {
        let recorder = builder()?.install_recorder()?;
        let folded = recorder.clone();
        tasks.spawn("metrics", |stop| async move {
            while stop.run_until_cancelled(tokio::time::sleep(FOLD_EVERY)).await.is_some() {
                folded.run_upkeep();
            }
            Ok(())
        });
        Ok(Self(recorder))
    }

    /// Everything recorded so far, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// A recorder that belongs to nobody, for tests.
    #[cfg(test)]
    pub(crate) fn detached() -> (Self, metrics_exporter_prometheus::PrometheusRecorder) {
        let recorder = builder().unwrap().build_recorder();
        (Self(recorder.handle()), recorder)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

/// Metrics can't be recorded.
#[derive(Debug, thiserror::Error)]
#[error("metrics can be started only once per process")]
pub struct InitMetricsError(#[from] BuildError);

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_a_histogram() {
        let (metrics, recorder) = Metrics::detached();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("claviger_test_seconds").record(0.003);
            metrics::counter!("claviger_test_total").increment(2);
        });
        let text = metrics.render();
        assert!(text.contains("claviger_test_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("claviger_test_seconds_bucket{le=\"0.0025\"} 0"), "{text}");
        assert!(text.contains("claviger_test_total 2"), "{text}");
    }
}
