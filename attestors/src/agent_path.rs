//! Templates for the names of agents, such as `/x509pop/cn/{{ .Subject.CommonName }}`.
//!
//! SPIRE takes Go's templates, functions and all. This is what its documentation shows of them: text
//! and fields. Everything else is refused when the server starts, not when a node comes.
//!
//! What a node may choose (a common name, a host name) must not let it choose another node's name:
//! the first segment below `/spire/agent` is fixed, because it is what tells one kind of evidence
//! from another, and a value is a part of one segment and brings no slash of its own, unless it is a
//! path by its meaning.

use std::borrow::Cow;
use std::fmt;

use claviger_core::id::{ParseIdError, SpiffeId, TrustDomain};

/// What a template can ask for. Displayed as it is written.
pub(crate) trait Field: fmt::Display + Sized {
    /// The expressions that [`parse`](Self::parse) knows, for the operator.
    const KNOWN: &'static str;

    /// The field that `expression` means. Between its words is one space.
    fn parse(expression: &str) -> Option<Self>;

    /// Whether it is the same for every node.
    fn is_fixed(&self) -> bool;

    /// Whether its value may have several segments.
    fn may_be_path(&self) -> bool;
}

/// A template, checked.
#[derive(Debug)]
pub(crate) struct Template<F>(Vec<Part<F>>);

#[derive(Debug)]
enum Part<F> {
    Text(String),
    Field(F),
}

impl<F: Field> Template<F> {
    /// The template that is written `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseTemplateError> {
        let template = Self(parts(text)?);
        // Whatever is wrong with the text is wrong with every name that is made of it.
        let sample = template.0.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Field(_) => "x",
        });
        id_of(&sample.collect::<String>(), None).map_err(ParseTemplateError::Path)?;
        template.check_that_names_differ()?;
        Ok(template)
    }

    /// What it asks for.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &F> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field(field) => Some(field),
        })
    }

    /// Refuses a template that lets nodes choose the first segment, or gives all one name.
    fn check_that_names_differ(&self) -> Result<(), ParseTemplateError> {
        let mut slashes = 0_usize;
        let mut differ = false;
        for part in &self.0 {
            match part {
                Part::Text(text) => {
                    slashes = slashes.saturating_add(text.matches('/').count());
                }
                Part::Field(field) if field.is_fixed() => {}
                Part::Field(_) if slashes < 2 => return Err(ParseTemplateError::First),
                Part::Field(_) => differ = true,
            }
        }
        if differ { Ok(()) } else { Err(ParseTemplateError::Constant) }
    }

    /// The name of the agent whose fields have these values.
    pub(crate) fn render<'a>(
        &self,
        trust_domain: &TrustDomain,
        value: impl Fn(&F) -> Option<Cow<'a, str>>,
    ) -> Result<SpiffeId, RenderError> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Field(field) => {
                    let value = value(field)
                        .filter(|value| !value.is_empty())
                        .ok_or_else(|| RenderError::Missing(field.to_string()))?;
                    if value.contains('/') && !field.may_be_path() {
                        return Err(RenderError::Slash(field.to_string()));
                    }
                    path.push_str(&value);
                }
            }
        }
        id_of(&path, Some(trust_domain)).map_err(RenderError::Path)
    }
}

fn parts<F: Field>(mut text: &str) -> Result<Vec<Part<F>>, ParseTemplateError> {
    let mut parts = Vec::new();
    while let Some((before, rest)) = text.split_once("{{") {
        let (expression, after) = rest.split_once("}}").ok_or(ParseTemplateError::Unclosed)?;
        let words: Vec<&str> = expression.split_whitespace().collect();
        let expression = words.join(" ");
        let field = F::parse(&expression)
            .ok_or(ParseTemplateError::Unknown { expression, known: F::KNOWN })?;
        parts.extend([Part::Text(before.to_owned()), Part::Field(field)]);
        text = after;
    }
    parts.push(Part::Text(text.to_owned()));
    Ok(parts)
}

fn id_of(path: &str, trust_domain: Option<&TrustDomain>) -> Result<SpiffeId, ParseIdError> {
    // The path is one of its own, so that none gets around `/spire/agent`.
    if !path.starts_with('/') {
        return Err(ParseIdError::Path);
    }
    let path = format!("/spire/agent{path}");
    match trust_domain {
        Some(trust_domain) => trust_domain.join(&path),
        None => "example.org".parse::<TrustDomain>()?.join(&path),
    }
}

/// Why a string is not a template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ParseTemplateError {
    #[error("close each `{{{{` with `}}}}`")]
    Unclosed,
    #[error("`{{{{ {expression} }}}}` is not known here; write {known}")]
    Unknown { expression: String, known: &'static str },
    #[error("begin with `/`, and between slashes write letters, digits, `.`, `-`, `_` and fields")]
    Path(ParseIdError),
    #[error(
        "begin with a fixed segment, such as `/{{{{ .PluginName }}}}/`, so that no node can take the \
         name of an agent of another kind"
    )]
    First,
    #[error("name a field that differs from node to node; else all of them would be one agent")]
    Constant,
}

/// Why a node gets no name.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RenderError {
    #[error("the agent's name needs {0}, which the evidence does not have, or has twice")]
    Missing(String),
    #[error("the agent's name needs {0}, which would be more than one segment of a path")]
    Slash(String),
    #[error("the agent's name would not be a SPIFFE ID")]
    Path(ParseIdError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Eq, PartialEq)]
    enum Fruit {
        Kind,
        Name,
        Path,
    }

    impl fmt::Display for Fruit {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a fruit")
        }
    }

    impl Field for Fruit {
        const KNOWN: &'static str = "`.Kind`, `.Name`, `index .Path 0`";

        fn parse(expression: &str) -> Option<Self> {
            match expression {
                ".Kind" => Some(Self::Kind),
                ".Name" => Some(Self::Name),
                "index .Path 0" => Some(Self::Path),
                _ => None,
            }
        }

        fn is_fixed(&self) -> bool {
            *self == Self::Kind
        }

        fn may_be_path(&self) -> bool {
            *self == Self::Path
        }
    }

    fn render(template: &str, name: &str, path: &str) -> Result<String, RenderError> {
        let template: Template<Fruit> = Template::parse(template).unwrap();
        let trust_domain = "example.org".parse().unwrap();
        let id = template.render(&trust_domain, |field| match field {
            Fruit::Kind => Some("apple".into()),
            Fruit::Name => Some(name.to_owned().into()),
            Fruit::Path => Some(path.to_owned().into()),
        })?;
        Ok(id.path().to_owned())
    }

    #[test]
    fn text_and_fields_make_a_name() {
        for (template, name) in [
            ("/{{ .Kind }}/{{ .Name }}", "/spire/agent/apple/n"),
            ("/{{.Kind}}/{{\t.Name\n}}", "/spire/agent/apple/n"),
            ("/fixed/a-{{ .Name }}.b/c", "/spire/agent/fixed/a-n.b/c"),
            ("/fixed/{{ index  .Path  0 }}/{{ .Name }}", "/spire/agent/fixed/p/q/n"),
        ] {
            assert_eq!(render(template, "n", "p/q").unwrap(), name);
        }
    }

    #[test]
    fn a_node_cannot_take_another_name_by_its_own() {
        let missing = RenderError::Missing("a fruit".into());
        assert_eq!(render("/a/{{ .Name }}", "", "p").unwrap_err(), missing);
        for name in ["../x", "b/c", "/b", "b/", "/"] {
            let slash = RenderError::Slash("a fruit".into());
            assert_eq!(render("/a/{{ .Name }}", name, "p").unwrap_err(), slash, "{name}");
        }
        for name in [".", "..", "a b", "a%2fb", "\u{e9}", "a\0", "a\n", "a:b", &"x".repeat(2_048)] {
            let error = render("/a/{{ .Name }}", name, "p").unwrap_err();
            assert!(matches!(error, RenderError::Path(_)), "{name}: {error}");
        }
        for path in ["../x", "x/..", "x//y", "/x", "x/", ".", "x/./y"] {
            let error = render("/a/{{ index .Path 0 }}", "n", path).unwrap_err();
            assert!(matches!(error, RenderError::Path(_)), "{path}: {error}");
        }
    }

    #[test]
    fn everything_else_is_refused_at_start() {
        let parse = |text| Template::<Fruit>::parse(text).map(drop);
        assert_eq!(parse("/a/{{ .Name"), Err(ParseTemplateError::Unclosed));
        for text in ["/a/{{ .Nome }}", "/a/{{ .Name | lower }}", "/a/{{- .Name }}", "/a/{{ }}"] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, ParseTemplateError::Unknown { .. }), "{text}: {error}");
            assert!(error.to_string().contains("index .Path 0"), "{error}");
        }
        for text in ["", "a/{{ .Name }}", "/a//{{ .Name }}", "/a/../{{ .Name }}", "/a/{{ .Name }}/"]
        {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, ParseTemplateError::Path(_)), "{text}: {error}");
        }
        for text in ["/{{ .Name }}", "/{{ .Name }}/a", "/a{{ .Name }}/b", "/{{ index .Path 0 }}"] {
            assert_eq!(parse(text), Err(ParseTemplateError::First), "{text}");
        }
        for text in ["/a", "/{{ .Kind }}/b"] {
            assert_eq!(parse(text), Err(ParseTemplateError::Constant), "{text}");
        }
    }
}
