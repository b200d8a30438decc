use proptest::prelude::*;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The key whose seed is 32 times `seed`, in PKCS#8 (RFC 8410 §7).
fn key(seed: u8, name: &str, kind: Kind) -> SigningKey {
    let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
    pkcs8.extend([seed; 32]);
    SigningKey::from_pkcs8(name, kind, &pkcs8).unwrap()
}

/// The example of the specification.
const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\n\
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
    \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
    \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

#[test]
fn notes_of_others_are_read_and_written_again() {
    let note: Note = EXAMPLE.parse().unwrap();
    assert_eq!(note.signatures.len(), 2);
    assert_eq!(note.to_string(), EXAMPLE);
    // A text may have empty lines of its own.
    let odd: Note = format!("one\n\n{EXAMPLE}").parse().unwrap();
    assert!(odd.text().starts_with("one\n\nexample.com"));
}

/// The key of the documentation of Go's `golang.org/x/mod/sumdb/note`.
#[test]
fn keys_of_others_are_read_and_written_again() {
    let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key: VerifierKey = text.parse().unwrap();
    assert_eq!(
        (key.name(), key.kind(), key.to_string().as_str()),
        ("PeterNeumann", Kind::Author, text)
    );
    let note = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    assert_eq!(note.parse::<Note>().unwrap().verify(&key), Ok(None));
    let other = note.replace("you think", "You think").parse::<Note>().unwrap();
    assert_eq!(other.verify(&key), Err(NoteError::Forged { name: "PeterNeumann".into() }));
    for wrong in [
        "",
        "a",
        "a+b",
        &text.replace("c74f", "c74e"),
        &text.replace("+A", "+B"),
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4",
    ] {
        assert_eq!(wrong.parse::<VerifierKey>(), Err(ParseKeyError), "{wrong}");
    }
}

#[test]
fn a_witness_says_when() {
    let (author, witness) = (key(1, "log", Kind::Author), key(2, "w", Kind::Witness));
    let mut note = Note::new("a\n".into(), author.sign("a\n", NOW));
    let absent = NoteError::NotSigned { name: "w".into() };
    assert_eq!(note.verify(witness.public()), Err(absent));
    note.add(witness.sign(note.text(), NOW));
    let mut read: Note = note.to_string().parse().unwrap();
    assert_eq!(read, note);
    assert_eq!(read.verify(author.public()), Ok(None));
    assert_eq!(read.verify(witness.public()), Ok(Some(NOW)));
    let later = UnixTime::from_secs(1_800_000_001);
    read.add(witness.sign(read.text(), later));
    assert_eq!((read.verify(witness.public()), read.signatures.len()), (Ok(Some(later)), 2));
    // The same key in another role is another key.
    let author_too = key(2, "w", Kind::Author);
    let absent = NoteError::NotSigned { name: "w".into() };
    assert_eq!(read.verify(author_too.public()), Err(absent));
    // One signature in its name that is wrong spoils the note.
    let mut forged = witness.sign(read.text(), NOW);
    forged.bytes[0] ^= 1;
    read.signatures.push(forged);
    assert_eq!(read.verify(witness.public()), Err(NoteError::Forged { name: "w".into() }));
}

#[test]
fn what_is_no_note_is_refused() {
    let many = format!("a\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(33));
    for wrong in [
        "",
        "a\n",
        "a\n\n",
        "a\n\nb\n",
        "a\t\n\n\u{2014} a AAAAAAA=\n",
        "a\n\n\u{2014} a AAAAAAA=",
        "a\n\n\u{2014} a AAAA\n",
        "a\n\n\u{2014}  AAAAAAA=\n",
        "a\n\n\u{2014} a+b AAAAAAA=\n",
        "a\n\n- a AAAAAAA=\n",
        &many,
        &format!("{}\n\n\u{2014} a AAAAAAA=\n", "a".repeat(MAX_BYTES)),
    ] {
        assert_eq!(wrong.parse::<Note>(), Err(NoteError::Malformed), "{wrong}");
    }
    assert_eq!(SigningKey::from_pkcs8("a", Kind::Author, b"").unwrap_err(), WrongKey);
}

proptest! {
    #[test]
    fn what_is_read_is_written_again(note in "[a-c\n\u{2014} =+]{0,40}(\n\n\u{2014} [a-z]{1,3} [A-Z]{8}\n){0,2}") {
        if let Ok(read) = note.parse::<Note>() {
            prop_assert_eq!(read.to_string().parse::<Note>(), Ok(read));
        }
    }
}
