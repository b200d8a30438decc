//! Documents that are written as text, which is how they arrive in tickets, logs and test data.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// How a file holds a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// In hexadecimal digits.
    Hex,
    /// In base64 (RFC 4648 §4 or §5).
    Base64,
    /// In base64 between `-----BEGIN …-----` and `-----END …-----` (RFC 7468).
    Pem,
}

impl Encoding {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Pem => "pem",
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What people paste may lack its padding.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Every document that `file` can be read as, the plainest first: hexadecimal digits are base64, too.
#[must_use]
pub fn readings(file: &[u8]) -> Vec<(Encoding, Cow<'_, [u8]>)> {
    let mut readings = vec![(Encoding::Plain, Cow::Borrowed(file))];
    let mut add = |encoding, document: Vec<u8>| {
        if !document.is_empty() {
            readings.push((encoding, Cow::Owned(document)));
        }
    };
    let Ok(text) = str::from_utf8(file) else { return readings };
    if text.contains("-----BEGIN ") {
        // One document in a frame; a chain of certificates is read as it is.
        if let Ok(block) = pem::parse(text) {
            add(Encoding::Pem, block.into_contents());
        }
        return readings;
    }
    let compact: String = text.split_ascii_whitespace().collect();
    let digits = compact.strip_prefix("0x").unwrap_or(&compact);
    if let Ok(document) = hex::decode(digits) {
        add(Encoding::Hex, document);
    }
    for alphabet in [STANDARD, URL_SAFE] {
        if let Ok(document) = alphabet.decode(&compact) {
            add(Encoding::Base64, document);
            break;
        }
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readings of `file` beside the plain one, as text.
    fn decoded(file: &str) -> Vec<(Encoding, String)> {
        let readings = readings(file.as_bytes());
        assert_eq!(readings[0], (Encoding::Plain, Cow::Borrowed(file.as_bytes())));
        let text = |document: &[u8]| String::from_utf8_lossy(document).into_owned();
        readings[1..].iter().map(|(encoding, document)| (*encoding, text(document))).collect()
    }

    #[test]
    fn text_is_decoded_however_it_is_wrapped() {
        for hex in ["68656c6c6f21", "0x68656C6C6F21\n", "68 65 6c\n6c 6f 21"] {
            assert_eq!(decoded(hex)[0], (Encoding::Hex, "hello!".to_owned()), "{hex}");
        }
        for base64 in ["aGVsbG8/Pz8=", "aGVs\nbG8/\r\nPz8", "aGVsbG8_Pz8"] {
            assert_eq!(decoded(base64), [(Encoding::Base64, "hello???".to_owned())], "{base64}");
        }
        let pem = "-----BEGIN ATTESTATION-----\naGVsbG8=\n-----END ATTESTATION-----\n";
        assert_eq!(decoded(pem), [(Encoding::Pem, "hello".to_owned())]);
    }

    #[test]
    fn what_is_no_text_is_left_alone() {
        for file in ["", " \n", "{\"a\":1}", "hello world!", "-----BEGIN X-----\n!\n"] {
            assert_eq!(decoded(file), [], "{file}");
        }
        assert_eq!(readings(b"\xff\xfe").len(), 1);
    }
}
