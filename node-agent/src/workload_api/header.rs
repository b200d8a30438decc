//! The header that proves that a request was meant for this socket (SPIFFE Workload Endpoint §3,
//! §6): a program that can be made to call any URL cannot be made to add it.

use tonic::Status;
use tonic::metadata::MetadataMap;

const NAME: &str = "workload.spiffe.io";

/// Refuses a request unless it carries the header once, with the value `true`.
pub(crate) fn require_header(metadata: &MetadataMap) -> Result<(), Status> {
    require(metadata, NAME)
}

/// The same, for another API's header `name`.
pub(crate) fn require(metadata: &MetadataMap, name: &str) -> Result<(), Status> {
    let mut values = metadata.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn exactly_one_true_will_do() {
        let check = |values: &[&'static str]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append(NAME, value.parse().unwrap());
            }
            require_header(&metadata).map_err(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(check(&["true"]), Ok(()));
        let missing = (Code::InvalidArgument, "security header missing from request".to_owned());
        for bad in [
            [].as_slice(),
            &["True"],
            &["TRUE"],
            &["1"],
            &["false"],
            &["true "],
            &["true", "true"],
            &["true", "false"],
            &["true,true"],
        ] {
            assert_eq!(check(bad), Err(missing.clone()), "{bad:?}");
        }
    }
}
