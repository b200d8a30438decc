//! Flags as SPIRE's tools spell them: `-spiffeID x` is taken for `--spiffeID x`.

use std::ffi::OsString;

/// The arguments of a command line, each long flag with two hyphens. What follows `--` or `--exec`
/// belongs to another program and is left alone.
pub(crate) fn with_two_hyphens(
    arguments: impl IntoIterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut ours = true;
    arguments.into_iter().map(move |argument| {
        ours &= argument != "--" && argument != "--exec";
        match argument.to_str() {
            Some(text) if ours && is_long(text) => format!("-{text}").into(),
            Some(_) | None => argument,
        }
    })
}

/// One hyphen, and behind it a word of two characters or more that begins with a letter.
fn is_long(text: &str) -> bool {
    let Some(flag) = text.strip_prefix('-') else { return false };
    let word = flag.split_once('=').map_or(flag, |(word, _)| word);
    1 < word.len()
        && word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    fn spell(line: &str) -> String {
        let arguments = with_two_hyphens(line.split(' ').map(Into::into));
        arguments.map(|argument| argument.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_word_behind_one_hyphen_is_a_long_flag() {
        assert_eq!(spell("entry create -spiffeID x"), "entry create --spiffeID x");
        assert_eq!(spell("bundle set -id=spiffe://b.org"), "bundle set --id=spiffe://b.org");
        for kept in ["--id x", "audit tail -f", "x -", "ttl -12", "x -a=b", "x -ü2"] {
            assert_eq!(spell(kept), kept);
        }
    }

    #[test]
    fn the_arguments_of_another_program_are_left_alone() {
        let line = "svid watch -write /x --exec nginx -spam reload";
        assert_eq!(spell(line), "svid watch --write /x --exec nginx -spam reload");
        assert_eq!(spell("x -id a -- -id b"), "x --id a -- -id b");
    }

    #[test]
    fn spires_command_lines_work() {
        for line in [
            "claviger bundle set -id spiffe://b.org -format spiffe -path /x.json",
            "claviger bundle list -id spiffe://b.org",
            "claviger bundle delete -id spiffe://b.org -mode dissociate",
            "claviger bundle count -socketPath /x.sock",
            "claviger entry create -spiffeID spiffe://a.org/x -parentID spiffe://a.org/p \
             -selector unix:uid:1 -x509SVIDTTL 60 -federatesWith spiffe://b.org \
             -jwtSVIDIncludeJTI -disableX509SVIDPrefetch",
        ] {
            let words = line.split_ascii_whitespace().map(Into::into);
            Args::try_parse_from(with_two_hyphens(words)).unwrap();
        }
    }
}
