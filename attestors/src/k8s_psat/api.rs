//! The questions to an API server, and what its silence means.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::{LengthLimitError, Limited};
use k8s_openapi::api::authentication::v1::{
    TokenRequest, TokenReview, TokenReviewSpec, TokenReviewStatus,
};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount as Account};
use kube::api::PostParams;
use kube::client::{Body, ClientBuilder, DynBody};
use kube::config::{InClusterError, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use tower::BoxError;
use tower::util::{BoxService, MapResponseLayer};

use super::names::{MalformedName, Name, ServiceAccount};

/// The most bytes of an answer: etcd keeps no object that is larger.
const MAX_ANSWER: usize = 2 << 20;

/// How questions travel.
pub(super) type Transport = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// One API server.
pub(super) struct ApiServer(Client);

impl ApiServer {
    /// The API server that `kubeconfig` names, or else the one of the cluster that this runs in.
    pub(super) fn open(kubeconfig: Option<&Path>) -> Result<Self, OpenError> {
        let mut config = match kubeconfig {
            Some(path) => {
                let failed = |source: KubeconfigError| OpenError::Kubeconfig {
                    path: path.to_owned(),
                    source: Box::new(source),
                };
                let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
                Config::try_from(kubeconfig).map_err(failed)?
            }
            None => Config::incluster().map_err(|source| OpenError::InCluster(Box::new(source)))?,
        };
        if config.accept_invalid_certs || config.cluster_url.scheme() != Some(&Scheme::HTTPS) {
            return Err(OpenError::Insecure(config.cluster_url.to_string()));
        }
        // Whoever asks has a deadline, and asks again when they like.
        config.default_retry = false;
        let builder = ClientBuilder::try_from(config)
            .map_err(|source| OpenError::Client(Box::new(source)))?;
        Ok(Self::over(builder))
    }

    pub(super) fn over(transport: ClientBuilder<Transport>) -> Self {
        Self(transport.with_layer(&MapResponseLayer::new(bounded)).build())
    }

    /// What the API server says about `token`, as one for `audiences`.
    pub(super) async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenReviewStatus, ApiError> {
        let spec =
            TokenReviewSpec { audiences: Some(audiences.to_vec()), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.0.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer
            .map_err(|error| ApiError::of(error, "create tokenreviews.authentication.k8s.io"))?;
        answer.status.ok_or_else(|| ApiError::Nonsense("a review without a status".into()))
    }

    /// The pod of this name, if there is one.
    pub(super) async fn pod(&self, namespace: &Name, name: &Name) -> Result<Option<Pod>, ApiError> {
        let pods: Api<Pod> = Api::namespaced(self.0.clone(), namespace.as_str());
        pods.get_opt(name.as_str()).await.map_err(|error| ApiError::of(error, "get pods"))
    }

    /// The node of this name, if there is one.
    pub(super) async fn node(&self, name: &Name) -> Result<Option<Node>, ApiError> {
        let nodes: Api<Node> = Api::all(self.0.clone());
        nodes.get_opt(name.as_str()).await.map_err(|error| ApiError::of(error, "get nodes"))
    }

    /// The document at `path` that says how the cluster signs tokens.
    pub(super) async fn discover(&self, path: &str) -> Result<String, ApiError> {
        let request = Request::get(path).body(Vec::new());
        let request = request.map_err(|error| ApiError::Nonsense(error.into()))?;
        let right = "read its keys (the ClusterRole `system:service-account-issuer-discovery`)";
        self.0.request_text(request).await.map_err(|error| ApiError::of(error, right))
    }

    /// A new token of `account`, as `request` says.
    pub(super) async fn token(
        &self,
        account: &ServiceAccount,
        request: &TokenRequest,
    ) -> Result<TokenRequest, ApiError> {
        let accounts: Api<Account> = Api::namespaced(self.0.clone(), account.namespace.as_str());
        accounts
            .create_token_request(account.name.as_str(), &PostParams::default(), request)
            .await
            .map_err(|error| ApiError::of(error, "create serviceaccounts/token"))
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiServer(..)")
    }
}

fn bounded(response: Response<Box<DynBody>>) -> Response<Limited<Box<DynBody>>> {
    response.map(|body| Limited::new(body, MAX_ANSWER))
}

/// Why an API server can't be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kubeconfig does not say how.
    #[error("`{path}` is no kubeconfig that can be used", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a cluster around.
    #[error("not in a pod with a service account; name a `kubeconfig`")]
    InCluster(#[source] Box<InClusterError>),
    /// Anybody could answer.
    #[error(
        "anybody could answer for `{0}`: use an https URL and its certificate authority, and leave \
         insecure-skip-tls-verify out"
    )]
    Insecure(String),
    /// The kubeconfig's credentials can't be used.
    #[error("the credentials of the kubeconfig cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// The name of a service account is none.
    #[error("a setting is wrong")]
    Setting(#[from] MalformedName),
}

/// Why an API server did not answer a question.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(
        "the API server denies this program the right to {0}; grant it, as examples/kubernetes does"
    )]
    Denied(&'static str),
    #[error("the API server does not know this program; renew the credentials in the kubeconfig")]
    Stranger,
    /// Nobody is there, or nobody has time.
    #[error("the API server is away")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    #[error("the API server did not answer within {0:?}")]
    Late(Duration),
    #[error("the API server gives no answer that makes sense")]
    Nonsense(#[source] Box<dyn Error + Send + Sync>),
}

impl ApiError {
    /// What `error` means, where the question takes `right`.
    fn of(error: kube::Error, right: &'static str) -> Self {
        if let kube::Error::Api(status) = error {
            return match status.code {
                401 => Self::Stranger,
                403 => Self::Denied(right),
                429 | 500..=599 => Self::Away(status),
                _ => Self::Nonsense(status),
            };
        }
        let travelled = matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_));
        if travelled && !is_too_long(&error) {
            Self::Away(Box::new(error))
        } else {
            Self::Nonsense(Box::new(error))
        }
    }

    /// Whether the API server is not there to ask, rather than refusing to answer.
    pub(super) const fn is_away(&self) -> bool {
        match self {
            Self::Away(_) | Self::Late(_) => true,
            Self::Denied(_) | Self::Stranger | Self::Nonsense(_) => false,
        }
    }
}

fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_too_long)
}
