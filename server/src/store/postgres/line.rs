//! Where the database is, and connections to it.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config};

use super::OpenPostgresError;
use super::schema::Outdated;
use super::tls::Tls;

/// How long it may take to connect, with all that the database wants to know first.
const CONNECT: Duration = Duration::from_secs(3);

/// How many questions that change nothing can be asked side by side. Each line takes many at a time.
const READERS: usize = 4;

/// What every session is told. A server that hangs in the middle of its turn must not hold up the others;
/// a commit must never be cut short, because PostgreSQL would then report as done what no standby has.
const SESSION: &str = "SET application_name = 'claviger'; SET statement_timeout = 0; \
    SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '5s'; \
    SET default_transaction_isolation = 'read committed'; SET synchronous_commit = remote_apply; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3";

/// The way to the database.
pub(super) struct Route {
    config: Config,
    tls: Tls,
}

impl fmt::Debug for Route {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

/// A connection is lost, or something can't be done with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// Nobody answers.
    #[error("no answer within the time allowed")]
    Timeout(#[from] Elapsed),
    /// There is no connection, or nobody can say what became of it.
    #[error("the connection is lost")]
    Lost,
    /// The tables are not for this program any more.
    #[error(transparent)]
    Outdated(#[from] Outdated),
    /// The database says no, or the connection is lost.
    #[error("{}", describe(.0))]
    Database(#[from] tokio_postgres::Error),
}

/// What the database says, which the error itself keeps for its source.
fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |said| format!("the database says: {} ({})", said.message(), said.code().code()),
    )
}

impl LineError {
    /// Whether asking again has no other answer: the statement is at fault, not the moment.
    pub(super) fn is_final(&self) -> bool {
        let error = match self {
            Self::Database(error) => error,
            Self::Outdated(_) => return true,
            Self::Timeout(_) | Self::Lost => return false,
        };
        error.code().is_some_and(|code| {
            [
                SqlState::UNDEFINED_TABLE,
                SqlState::UNDEFINED_COLUMN,
                SqlState::SYNTAX_ERROR,
                SqlState::INSUFFICIENT_PRIVILEGE,
                SqlState::DATATYPE_MISMATCH,
            ]
            .contains(code)
        })
    }
}

impl Route {
    /// Reads where the database is.
    ///
    /// # Errors
    ///
    /// [`OpenPostgresError`].
    pub(super) fn parse(url: &str, ca_file: Option<&Path>) -> Result<Self, OpenPostgresError> {
        let mut config: Config = in_our_terms(url).parse().map_err(OpenPostgresError::Url)?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite).connect_timeout(CONNECT);
        // One that accepts connections and does not answer must not stand before the others.
        config.load_balance_hosts(LoadBalanceHosts::Random);
        if config.get_ssl_mode() == SslMode::Prefer {
            // Whoever can cut a connection could make "prefer" mean "without".
            let local = config.get_hosts().iter().all(is_local)
                && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
            config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
        }
        Ok(Self { config, tls: Tls::new(ca_file)? })
    }

    /// Connects to a server of the database that takes writes. What it notifies of is `heard`.
    ///
    /// # Errors
    ///
    /// [`LineError`].
    pub(super) async fn connect(&self, heard: Option<Heard>) -> Result<Line, LineError> {
        let connecting = async {
            let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
            let mut driver = JoinSet::new();
            driver.spawn(async move {
                while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                    if let (AsyncMessage::Notification(_), Some(heard)) = (message, &heard) {
                        heard.0.notify_one();
                    }
                }
                if let Some(heard) = heard {
                    heard.0.notify_one();
                }
            });
            client.batch_execute(SESSION).await?;
            Ok(Line { client, _driver: driver })
        };
        timeout(CONNECT, connecting).await?
    }
}

/// Whom we connect to with TLS is always verified, by name: that is what libpq calls `verify-full`, and
/// the least that it may be where an operator asks for any kind of verification.
fn in_our_terms(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else { return url.to_owned() };
    let required = |parameter| match parameter {
        "sslmode=verify-full" | "sslmode=verify-ca" => "sslmode=require",
        other => other,
    };
    let query: Vec<_> = query.split('&').map(required).collect();
    format!("{place}?{}", query.join("&"))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|addr: IpAddr| addr.is_loopback())
        }
    }
}

/// That something was notified of.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Notify>);

impl Heard {
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }
}

/// A connection. It ends when it is dropped, and with it whatever it was in the middle of.
#[derive(Debug)]
pub(super) struct Line {
    client: Client,
    _driver: JoinSet<()>,
}

impl Line {
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_lost(&self) -> bool {
        self.client.is_closed()
    }
}

/// Several connections, each made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    slots: [Mutex<Option<Arc<Line>>>; READERS],
    next: AtomicUsize,
}

impl Lines {
    /// One of them, and where it is kept.
    ///
    /// # Errors
    ///
    /// [`LineError`] if it can't be made.
    pub(super) async fn line(&self, route: &Route) -> Result<(usize, Arc<Line>), LineError> {
        let at = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(READERS).unwrap_or(0);
        let mut found = None;
        if let Some(slot) = self.slots.get(at) {
            let mut slot = slot.lock().await;
            if slot.as_ref().is_none_or(|line| line.is_lost()) {
                *slot = Some(Arc::new(route.connect(None).await?));
            }
            found.clone_from(&*slot);
        }
        match found {
            Some(line) => Ok((at, line)),
            None => Ok((at, Arc::new(route.connect(None).await?))),
        }
    }

    /// The one kept there does not answer.
    pub(super) async fn give_up(&self, at: usize) {
        if let Some(slot) = self.slots.get(at) {
            *slot.lock().await = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Route::parse(url, None).unwrap().config.get_ssl_mode()
    }

    #[test]
    fn tls_is_required_unless_the_database_is_here_or_the_url_says_so() {
        assert_eq!(mode("postgresql://u@db.example.org/d"), SslMode::Require);
        assert_eq!(mode("postgresql://u@127.0.0.1,[::1],localhost/d"), SslMode::Disable);
        assert_eq!(mode("postgresql://u@127.0.0.1,10.0.0.1/d"), SslMode::Require);
        assert_eq!(mode("postgresql:///d?host=/run/postgresql"), SslMode::Disable);
        assert_eq!(mode("postgresql://u@10.0.0.1/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgresql://u@localhost/d?hostaddr=10.0.0.1"), SslMode::Require);
        assert_eq!(mode("postgresql://u@localhost/d?hostaddr=127.0.0.1"), SslMode::Disable);
        assert_eq!(mode("postgresql://u@localhost/d?sslmode=require"), SslMode::Require);
    }

    #[test]
    fn any_kind_of_verification_that_is_asked_for_is_the_whole_of_it() {
        for asked in ["verify-full", "verify-ca"] {
            let url = format!("postgresql://u@localhost/d?connect_timeout=3&sslmode={asked}");
            assert_eq!(mode(&url), SslMode::Require);
        }
        Route::parse("postgresql://u@localhost/d?sslmode=verify", None).unwrap_err();
    }

    #[test]
    fn the_password_is_never_shown() {
        let route = Route::parse("postgresql://u:geheim@db.example.org/d", None).unwrap();
        assert!(!format!("{route:?}").contains("geheim"));
        let wrong = Route::parse("postgresql://u:geheim@db.example.org:no/d", None).unwrap_err();
        let said = format!("{wrong:?} {wrong} {}", claviger_runtime::telemetry::Chain(&wrong));
        assert!(!said.contains("geheim"), "{said}");
    }
}
