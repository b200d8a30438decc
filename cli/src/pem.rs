//! PEM (RFC 7468), for certificates and private keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One certificate.
pub(crate) fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der).to_string()
}

/// One PKCS #8 private key; wiped on drop.
pub(crate) fn private_key(der: &[u8]) -> Zeroizing<String> {
    encode("PRIVATE KEY", der)
}

fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    /// Bytes that fill one line of 64 characters.
    const LINE: usize = 48;

    let lines = der.chunks(LINE);
    // Room for everything: a buffer that grows would leave pieces of a key behind.
    let room = lines
        .len()
        .saturating_mul(65)
        .saturating_add(label.len().saturating_mul(2))
        .saturating_add(64);
    let mut pem = Zeroizing::new(String::with_capacity(room));
    pem.push_str("-----BEGIN ");
    pem.push_str(label);
    pem.push_str("-----\n");
    for line in lines {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_64_characters_long() {
        let want = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n{}\nBw==\n-----END CERTIFICATE-----\n",
            "BwcH".repeat(16),
            "BwcH".repeat(16),
        );
        assert_eq!(certificate(&[7; 97]), want);
    }

    #[test]
    fn a_key_is_never_moved_in_memory_while_it_is_written() {
        let key = private_key(&[1; 138]);
        assert!(key.len() <= key.capacity());
        assert!(key.capacity() < key.len() + 65, "one allocation, made to measure");
    }
}
