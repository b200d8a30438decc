//! Tools and their parameters: `tools.toml`.
//!
//! ```toml
//! [[tool]]
//! name = "execute_trade"
//! groups = ["trading"]
//!
//! [tool.parameters.symbol]
//! type = "text"
//! one-of = ["AAPL", "MSFT"]
//!
//! [tool.parameters.amount]
//! type = "number"
//! min = 1
//! max = 1000
//! ```
//!
//! Each gives policies an action, `call:execute_trade`. A call whose parameters are not as declared is
//! denied before policies are asked.

mod parameter;

use std::collections::{BTreeMap, BTreeSet};

use claviger_core::decision::{Action, Parameter, ToolName};
use serde::Deserialize;
use toml::Spanned;

use crate::groups::{Declared, Groups};
use crate::load::LoadError;
use crate::toml_file::{Text, TomlFile, nothing};
use parameter::Written as WrittenParameter;
pub use parameter::{Kind, Limits, ParameterName};

/// The file's name.
pub(crate) const FILE: &str = "tools.toml";

/// The most tools.
const MAX_TOOLS: usize = 1_000;

/// The most parameters of a tool.
const MAX_PARAMETERS: usize = 64;

/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 4_096;

/// A tool or a method.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: ToolName,
    /// What it does, for people.
    pub description: Option<String>,
    /// The groups that it is directly in.
    pub groups: BTreeSet<String>,
    /// What it is called with.
    pub parameters: BTreeMap<ParameterName, Limits>,
}

/// All tools.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tools {
    by_name: BTreeMap<ToolName, Tool>,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// What it declares as groups.
    #[serde(default)]
    pub(crate) group: Vec<Declared>,
    #[serde(default)]
    tool: Vec<Written>,
}

/// One `[[tool]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<ToolName>,
    description: Option<Spanned<String>>,
    #[serde(default = "nothing")]
    groups: Spanned<Vec<Spanned<Text>>>,
    #[serde(default)]
    parameters: BTreeMap<ParameterName, WrittenParameter>,
}

impl File {
    /// What it says of tools, whose groups are among `groups`.
    pub(crate) fn tools(self, file: TomlFile<'_>, groups: &Groups) -> Result<Tools, LoadError> {
        if let Some(first_too_many) = self.tool.get(MAX_TOOLS) {
            file.at_most(first_too_many.name.span(), self.tool.len(), MAX_TOOLS, "tools")?;
        }
        let mut by_name = BTreeMap::new();
        for written in self.tool {
            let span = written.name.span();
            let tool = written.checked(file, groups)?;
            if let Some(twice) = by_name.insert(tool.name.clone(), tool) {
                let reason = format!("the tool `{}` is declared twice", twice.name);
                return Err(file.wrong(span, reason));
            }
        }
        Ok(Tools { by_name })
    }
}

impl Written {
    fn checked(self, file: TomlFile<'_>, groups: &Groups) -> Result<Tool, LoadError> {
        let Self { name, description, groups: named, parameters } = self;
        file.at_most(name.span(), parameters.len(), MAX_PARAMETERS, "parameters")?;
        if let Some(text) = &description {
            let size = text.get_ref().len();
            file.at_most(text.span(), size, MAX_DESCRIPTION, "bytes of description")?;
        }
        let mut limits = BTreeMap::new();
        for (parameter, written) in parameters {
            limits.insert(parameter, written.checked(file)?);
        }
        Ok(Tool {
            name: name.into_inner(),
            description: description.map(Spanned::into_inner),
            groups: groups.all_declared(file, named)?,
            parameters: limits,
        })
    }
}

impl Tool {
    /// Whether `given` is what the tool may be called with.
    ///
    /// # Errors
    ///
    /// The reason why not: it names the parameter, and not its value.
    pub fn check(&self, given: &BTreeMap<String, Parameter>) -> Result<(), String> {
        if let Some(unknown) =
            given.keys().find(|name| !self.parameters.contains_key(name.as_str()))
        {
            let shown: String = unknown.chars().take(ParameterName::MAX_LEN).collect();
            return Err(format!("`{}` has no parameter {shown:?}", self.name));
        }
        for (name, limits) in &self.parameters {
            match given.get(name.as_str()) {
                None if limits.optional => {}
                None => return Err(format!("the parameter `{name}` is missing")),
                Some(value) => limits
                    .check(value)
                    .map_err(|reason| format!("the parameter `{name}` {reason}"))?,
            }
        }
        Ok(())
    }

    /// The action of its calls, in Cedar's words.
    fn declare(&self, schema: &mut String) {
        // Names need no quoting beyond quotation marks: see `ToolName` and `ParameterName`.
        let fields = self.parameters.iter().map(|(name, limits)| {
            let mark = if limits.optional { "?" } else { "" };
            format!("\"{name}\"{mark}: {}", limits.kind.in_cedar())
        });
        let fields = fields.collect::<Vec<_>>().join(", ");
        schema.push_str(&format!(
            "\naction \"{}{}\" in [call] appliesTo {{ principal: Identity, resource: Tool, \
             context: {{ time: Long, risk: Long, purpose?: String, evidence?: Evidence, \
             transport?: Transport, parameters: {{ {fields} }} }} }};\n",
            Action::CALL,
            self.name
        ));
    }
}

impl Tools {
    /// The tool of this name.
    #[must_use]
    pub fn named(&self, name: &ToolName) -> Option<&Tool> {
        self.by_name.get(name)
    }

    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.by_name.values()
    }

    /// What the schema says of them.
    pub(crate) fn schema(&self) -> String {
        let mut schema = String::new();
        self.iter().for_each(|tool| tool.declare(&mut schema));
        schema
    }
}

#[cfg(test)]
mod tests;
