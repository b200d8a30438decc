//! Generates messages and stubs from every `.proto` file under `proto/`, in pure Rust.
//!
//! A field that holds a secret says so with the standard option `debug_redact`. Its message, and
//! every message that can contain it, is generated without `Debug`: what cannot be printed cannot
//! end up in a log.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use protox::Compiler;
use protox::prost_reflect::{DescriptorPool, FieldDescriptor};

/// The root of the `.proto` files, and the one file that has no package.
const ROOT: &str = "proto";
const WORKLOAD_API: &str = "proto/workloadapi.proto";

/// Certificates, bundles and policies: made once, served to many. `Bytes` shares them between responses, and
/// wipes a key if it was made with `Bytes::from_owner` from an owner that does.
const SHARED_BYTES: [&str; 12] = [
    ".claviger.agent.v1.PoliciesPiece",
    ".claviger.agent.v1.RevocationLists",
    ".claviger.policy.v1.SignedPolicies",
    ".X509SVID",
    ".X509SVIDResponse",
    ".X509BundlesResponse",
    ".JWTBundlesResponse",
    ".envoy.config.core.v3.DataSource",
    ".spiffe.broker",
    ".spire.api.agent.delegatedidentity.v1",
    ".spire.api.types.X509SVID",
    ".spire.api.types.X509Certificate",
];

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its folder this way")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let (workload, rest): (Vec<_>, Vec<_>) =
        proto_files(Path::new(ROOT))?.into_iter().partition(|path| path == Path::new(WORKLOAD_API));
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Without a package, its code is generated as `_.rs`.
    generate(&workload, &out.join("workload.bin"), None)?;
    generate(&rest, &out.join("broker.bin"), Some("packages.rs"))
}

/// Compiles `files`, writes their descriptors (for gRPC reflection) and their code; `include_file`
/// nests the modules as the packages are.
fn generate(
    files: &[PathBuf],
    descriptors: &Path,
    include_file: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let mut compiler = Compiler::new([ROOT])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let code = compiler.file_descriptor_set();
    fs::write(descriptors, compiler.include_source_info(false).encode_file_descriptor_set())?;

    let mut builder = tonic_prost_build::configure()
        .codec_path("crate::codec::SmallBuffers")
        .skip_debug(secret_messages(&compiler.descriptor_pool()));
    for path in SHARED_BYTES {
        builder = builder.bytes(path);
    }
    if let Some(file) = include_file {
        builder = builder.include_file(file);
    }
    Ok(builder.compile_fds(code)?)
}

/// Every `.proto` file under `folder`, in a stable order.
fn proto_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The messages with a redacted field, and those that can contain one, as prost paths.
fn secret_messages(pool: &DescriptorPool) -> BTreeSet<String> {
    let path = |name: &str| format!(".{name}");
    let mut secret = BTreeSet::new();
    loop {
        let holds_secret = |field: FieldDescriptor| {
            let kind = field.kind();
            let inner = kind.as_message().is_some_and(|m| secret.contains(&path(m.full_name())));
            inner || is_redacted(&field)
        };
        let found: BTreeSet<String> = pool
            .all_messages()
            .filter(|message| message.fields().any(holds_secret))
            .map(|message| path(message.full_name()))
            .collect();
        if found == secret {
            return secret;
        }
        secret = found;
    }
}

fn is_redacted(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options.get_field_by_name("debug_redact").and_then(|value| value.as_bool()).unwrap_or(false)
}
