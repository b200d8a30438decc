//! An error with its causes.

use std::error::Error;
use std::fmt;

/// Writes an error and everything that caused it on one line, separated by `: `.
///
/// Our errors don't repeat their source in their own text, so this is how they are logged.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the port")]
    struct BadPort(#[source] ParseIntError);

    #[test]
    fn causes_follow_in_order() {
        let error = BadPort("x".parse::<u16>().unwrap_err());
        assert_eq!(
            Chain(&error).to_string(),
            "cannot read the port: invalid digit found in string"
        );
    }
}
