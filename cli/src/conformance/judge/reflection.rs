//! Whether the service is the standard's, no more and no less (SPIFFE Workload Endpoint §7).

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use super::super::answer::Answer;
use super::super::notes::{Notes, ensure};
use super::super::observe::Observed;

/// Name, request, response; all but two answer with a stream.
const METHODS: [(&str, &str, &str); 7] = [
    ("FetchX509SVID", ".X509SVIDRequest", ".X509SVIDResponse"),
    ("FetchX509Bundles", ".X509BundlesRequest", ".X509BundlesResponse"),
    ("FetchJWTSVID", ".JWTSVIDRequest", ".JWTSVIDResponse"),
    ("FetchJWTBundles", ".JWTBundlesRequest", ".JWTBundlesResponse"),
    ("ValidateJWTSVID", ".ValidateJWTSVIDRequest", ".ValidateJWTSVIDResponse"),
    ("FetchWITSVID", ".WITSVIDRequest", ".WITSVIDResponse"),
    ("FetchWITBundles", ".WITBundlesRequest", ".WITBundlesResponse"),
];

/// Those of the optional profile may be missing.
const OPTIONAL: &str = "WIT";

const UNARY: [&str; 2] = ["FetchJWTSVID", "ValidateJWTSVID"];

/// Message, and its fields as `number name type`; `*` is repeated.
const MESSAGES: [(&str, &[&str]); 17] = [
    ("X509SVIDRequest", &[]),
    (
        "X509SVIDResponse",
        &[
            "1 svids *.X509SVID",
            "2 crl *bytes",
            "3 federated_bundles *.X509SVIDResponse.FederatedBundlesEntry",
        ],
    ),
    (
        "X509SVID",
        &[
            "1 spiffe_id string",
            "2 x509_svid bytes",
            "3 x509_svid_key bytes",
            "4 bundle bytes",
            "5 hint string",
        ],
    ),
    ("X509BundlesRequest", &[]),
    ("X509BundlesResponse", &["1 crl *bytes", "2 bundles *.X509BundlesResponse.BundlesEntry"]),
    ("JWTSVIDRequest", &["1 audience *string", "2 spiffe_id string"]),
    ("JWTSVIDResponse", &["1 svids *.JWTSVID"]),
    ("JWTSVID", &["1 spiffe_id string", "2 svid string", "3 hint string"]),
    ("JWTBundlesRequest", &[]),
    ("JWTBundlesResponse", &["1 bundles *.JWTBundlesResponse.BundlesEntry"]),
    ("ValidateJWTSVIDRequest", &["1 audience string", "2 svid string"]),
    ("ValidateJWTSVIDResponse", &["1 spiffe_id string", "2 claims .google.protobuf.Struct"]),
    ("WITSVIDRequest", &["1 spiffe_id string"]),
    ("WITSVIDResponse", &["1 svids *.WITSVID"]),
    (
        "WITSVID",
        &["1 spiffe_id string", "2 wit_svid string", "3 wit_svid_key string", "4 hint string"],
    ),
    ("WITBundlesRequest", &[]),
    ("WITBundlesResponse", &["1 bundles *.WITBundlesResponse.BundlesEntry"]),
];

pub(super) fn judge(observed: &Observed, notes: &mut Notes) {
    let offered = "gRPC reflection is offered";
    match &observed.second.reflection {
        Some(Answer::Given(files)) => {
            notes.should(6, offered, Ok(()));
            described(files, notes);
        }
        Some(Answer::Unasked) | None => {}
        Some(other) => notes.should(6, offered, Err(other.to_string())),
    }
}

fn described(files: &[FileDescriptorProto], notes: &mut Notes) {
    let services = files.iter().filter(|file| file.package().is_empty()).flat_map(|f| &f.service);
    let Some(service) = services.into_iter().find(|service| service.name() == "SpiffeWorkloadAPI")
    else {
        let seen = Err("the service is not described".to_owned());
        return notes.must(6, "reflection describes SpiffeWorkloadAPI", seen);
    };
    let methods: Vec<_> = service.method.iter().map(method).collect();
    let standard: Vec<_> = METHODS
        .iter()
        .map(|(name, request, response)| signature(name, request, response, !UNARY.contains(name)))
        .collect();
    for found in &methods {
        let seen = ensure(standard.contains(found), || found.clone());
        notes.must(6, "the service has the standard's RPCs and no other", seen);
    }
    for wanted in standard.iter().filter(|wanted| !wanted.contains(OPTIONAL)) {
        let seen = ensure(methods.contains(wanted), || format!("it lacks {wanted}"));
        notes.must(6, "the service has the standard's RPCs and no other", seen);
    }
    let messages = files.iter().filter(|f| f.package().is_empty()).flat_map(|f| &f.message_type);
    for message in messages {
        fields(message, notes);
    }
}

fn method(method: &prost_types::MethodDescriptorProto) -> String {
    let plain = signature(
        method.name(),
        method.input_type(),
        method.output_type(),
        method.server_streaming(),
    );
    if method.client_streaming() { format!("stream of {plain}") } else { plain }
}

fn signature(name: &str, request: &str, response: &str, streaming: bool) -> String {
    let stream = if streaming { "stream " } else { "" };
    format!("{name}({request}) returns ({stream}{response})")
}

fn fields(message: &DescriptorProto, notes: &mut Notes) {
    let Some((name, standard)) = MESSAGES.iter().find(|(name, _)| *name == message.name()) else {
        return;
    };
    let mut found: Vec<_> = message.field.iter().map(field).collect();
    found.sort_unstable();
    // The request for WIT-SVIDs had no field in earlier versions of the standard.
    let early = *name == "WITSVIDRequest" && found.is_empty();
    let seen = ensure(early || found == *standard, || format!("{name} {found:?}"));
    notes.must(6, "the messages have the standard's fields and no other", seen);
}

fn field(field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated { "*" } else { "" };
    let kind = match (field.r#type(), field.type_name()) {
        (Type::String, _) => "string",
        (Type::Bytes, _) => "bytes",
        (_, "") => "scalar",
        (_, message) => message,
    };
    format!("{} {} {repeated}{kind}", field.number(), field.name())
}
