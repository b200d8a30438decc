//! What policies speak of: the attributes they look at and what they compare them with. Two questions
//! that differ in nothing of it get the same answer.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Policy;
use serde_json::{Map, Value};

/// What some policies speak of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Vocabulary {
    /// Every attribute, of identities and of the context, by its last name: `tier`.
    attributes: BTreeSet<String>,
    /// The texts that an attribute is compared with.
    texts: BTreeMap<String, BTreeSet<String>>,
    /// The numbers that an attribute is compared with.
    numbers: BTreeMap<String, BTreeSet<i64>>,
    /// Patterns that an attribute is held against, each as its parts between the stars.
    patterns: BTreeMap<String, BTreeSet<Vec<String>>>,
    /// Entities by name: type and id.
    entities: BTreeSet<(String, String)>,
    /// Attributes that are used other than to compare them with what is written in the policy.
    open: BTreeSet<String>,
}

impl Vocabulary {
    /// What `policy` speaks of.
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut words = Self::default();
        // A policy that was parsed from text has such a form.
        if let Ok(json) = policy.to_json() {
            words.read(&json);
        }
        let named = policy.entity_literals();
        words.entities = named
            .into_iter()
            .map(|uid| (uid.type_name().to_string(), uid.id().unescaped().to_owned()))
            .collect();
        words
    }

    /// What these policies speak of together.
    pub(crate) fn of_all(policies: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for words in policies {
            all.attributes.extend(words.attributes);
            all.open.extend(words.open);
            all.entities.extend(words.entities);
            for (attribute, texts) in words.texts {
                all.texts.entry(attribute).or_default().extend(texts);
            }
            for (attribute, numbers) in words.numbers {
                all.numbers.entry(attribute).or_default().extend(numbers);
            }
            for (attribute, patterns) in words.patterns {
                all.patterns.entry(attribute).or_default().extend(patterns);
            }
        }
        all
    }

    /// Whether any policy looks at `attribute`.
    pub(crate) fn mentions(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }

    /// Every attribute that a policy looks at.
    pub(crate) const fn attributes(&self) -> &BTreeSet<String> {
        &self.attributes
    }

    /// The texts that `attribute` is compared with, and one of each pattern.
    pub(crate) fn texts(&self, attribute: &str) -> impl Iterator<Item = String> {
        let texts = self.texts.get(attribute).into_iter().flatten().cloned();
        let patterns = self.patterns.get(attribute).into_iter().flatten();
        texts.chain(patterns.map(|parts| parts.join("any")))
    }

    /// The numbers that `attribute` is compared with, each with its neighbours, at which comparisons
    /// change their mind.
    pub(crate) fn numbers(&self, attribute: &str) -> BTreeSet<i64> {
        let numbers = self.numbers.get(attribute).into_iter().flatten();
        numbers.flat_map(|n| [n.saturating_sub(1), *n, n.saturating_add(1)]).collect()
    }

    /// The patterns that `attribute` is held against.
    pub(crate) fn patterns(&self, attribute: &str) -> impl Iterator<Item = &Vec<String>> {
        self.patterns.get(attribute).into_iter().flatten()
    }

    /// Whether `attribute` is used other than to compare it with what is written in a policy.
    pub(crate) fn is_open(&self, attribute: &str) -> bool {
        self.open.contains(attribute)
    }

    /// The ids of the entities of type `kind` that are named.
    pub(crate) fn entities<'v>(&'v self, kind: &'v str) -> impl Iterator<Item = &'v str> {
        self.entities.iter().filter(move |(known, _)| known == kind).map(|(_, id)| id.as_str())
    }

    /// Whether the entity of type `kind` with this id is named.
    pub(crate) fn names(&self, kind: &str, id: &str) -> bool {
        self.entities.contains(&(kind.to_owned(), id.to_owned()))
    }

    /// Reads an expression of a policy's JSON form: an object whose one key is the operator.
    fn read(&mut self, json: &Value) {
        match json {
            Value::Object(fields) => {
                for (operator, operands) in fields {
                    self.operation(operator, operands);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.read(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn operation(&mut self, operator: &str, operands: &Value) {
        let fields = operands.as_object();
        match (operator, fields) {
            ("." | "has", Some(fields)) => {
                let left = fields.get("left").unwrap_or(&Value::Null);
                self.attributes.extend(attribute(fields));
                if operator == "." {
                    // Whoever compares it takes it out again.
                    self.open.extend(attribute(fields));
                }
                self.read(left);
            }
            ("like", Some(fields)) => self.pattern(fields),
            (
                "==" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "containsAll" | "containsAny",
                Some(fields),
            ) => self.comparison(fields),
            // Annotations are no expressions.
            ("annotations", _) => {}
            _ => self.read(operands),
        }
    }

    fn pattern(&mut self, fields: &Map<String, Value>) {
        let left = fields.get("left").unwrap_or(&Value::Null);
        let Some(attribute) = accessed(left) else {
            self.read(left);
            return;
        };
        self.attributes.insert(attribute.to_owned());
        let parts = fields.get("pattern").and_then(Value::as_array);
        let (mut pattern, mut part) = (Vec::new(), String::new());
        for piece in parts.into_iter().flatten() {
            match piece.get("Literal").and_then(Value::as_str) {
                Some(literal) => part.push_str(literal),
                None => pattern.push(std::mem::take(&mut part)),
            }
        }
        pattern.push(part);
        self.patterns.entry(attribute.to_owned()).or_default().insert(pattern);
    }

    fn comparison(&mut self, fields: &Map<String, Value>) {
        let null = Value::Null;
        let left = fields.get("left").unwrap_or(&null);
        let right = fields.get("right").unwrap_or(&null);
        for (side, other) in [(left, right), (right, left)] {
            let Some(attribute) = accessed(side) else {
                self.read(side);
                continue;
            };
            self.attributes.insert(attribute.to_owned());
            let mut literals = Literals::default();
            literals.read(other);
            if !literals.only {
                self.open.insert(attribute.to_owned());
            }
            self.texts.entry(attribute.to_owned()).or_default().extend(literals.texts);
            self.numbers.entry(attribute.to_owned()).or_default().extend(literals.numbers);
        }
    }
}

/// The attribute that `.` or `has` names.
fn attribute(fields: &Map<String, Value>) -> Option<String> {
    fields.get("attr").and_then(Value::as_str).map(str::to_owned)
}

/// The attribute that an expression is, if it is nothing but one: `context.evidence.tier` is `tier`.
fn accessed(json: &Value) -> Option<&str> {
    let mut fields = json.get(".")?.as_object()?;
    let name = fields.get("attr")?.as_str()?;
    while let Some(inner) = fields.get("left")?.get(".") {
        fields = inner.as_object()?;
    }
    fields.get("left")?.get("Var").map(|_variable| name)
}

/// What an expression consists of, if that is nothing but literals.
struct Literals {
    texts: Vec<String>,
    numbers: Vec<i64>,
    only: bool,
}

impl Default for Literals {
    fn default() -> Self {
        Self { texts: Vec::new(), numbers: Vec::new(), only: true }
    }
}

impl Literals {
    fn read(&mut self, json: &Value) {
        match json {
            Value::String(text) => self.texts.push(text.clone()),
            Value::Number(number) => self.numbers.extend(number.as_i64()),
            Value::Array(items) => items.iter().for_each(|item| self.read(item)),
            Value::Object(fields) => {
                for (operator, operands) in fields {
                    self.only &= matches!(operator.as_str(), "Value" | "Set");
                    self.read(operands);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
}
