//! What a policy says of itself, by annotations.

use std::fmt;

use cedar_policy::{Effect, Policy as CedarPolicy};
use claviger_core::decision::{AuditLevel, Obligations, Rate};

use crate::load::{LoadError, line_of};

/// The longest name of a policy, in bytes.
const MAX_NAME: usize = 128;

/// The longest text of a policy about itself, in bytes.
const MAX_TEXT: usize = 1_024;

/// What a policy does to what it matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Does {
    /// It permits.
    Permit,
    /// It forbids, whatever others permit.
    Forbid,
}

/// A policy, and what it says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// `file.cedar#name`: the name is that of `@id`, or `policy` and its number in the file, from 0.
    pub name: String,
    /// The line on which it begins, from 1.
    pub line: Option<usize>,
    /// What it does.
    pub does: Does,
    /// `@mode("observe")`: whether it only says what it would do.
    pub observes: bool,
    /// `@reason`: why there is such a policy.
    pub reason: Option<String>,
    /// `@rate`, `@approval` and `@audit`: what has to be done, too.
    pub obligations: Obligations,
    /// `@suggested`: it was proposed by the program, and from what.
    pub suggested: Option<String>,
}

impl Rule {
    /// What `policy` in `file`, which reads `text`, says of itself.
    pub(crate) fn of(policy: &CedarPolicy, file: &str, text: &str) -> Result<Self, LoadError> {
        // Where things stand is known only to what the policy is made of.
        let made_of = policy.as_ref();
        let line = made_of.loc().map(|at| line_of(text, at.start()));
        let does = match policy.effect() {
            Effect::Permit => Does::Permit,
            Effect::Forbid => Does::Forbid,
        };
        let mut rule = Self {
            name: policy.id().to_string(),
            line,
            does,
            observes: false,
            reason: None,
            obligations: Obligations::default(),
            suggested: None,
        };
        for (key, annotation) in made_of.annotations() {
            let key: &str = key.as_ref();
            rule.take(key, annotation.as_ref()).map_err(|reason| {
                let at = annotation.loc.as_ref().map(|at| line_of(text, at.start()));
                LoadError::new(file, at.or(line), format!("@{key}: {reason}"))
            })?;
        }
        rule.name = format!("{file}#{}", rule.name);
        Ok(rule)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "id" => self.name = name(value)?,
            "reason" => self.reason = Some(words(value)?),
            "suggested" => self.suggested = Some(words(value)?),
            "mode" => self.observes = one_of(value, &[("observe", true), ("enforce", false)])?,
            "rate" | "approval" | "audit" if self.does == Does::Forbid => {
                return Err("it is for policies that permit".to_owned());
            }
            "rate" => self.obligations.rate = Some(rate(value)?),
            "approval" => self.obligations.approval = one_of(value, &[("human", true)])?,
            "audit" => {
                let levels = [AuditLevel::Standard, AuditLevel::Detailed, AuditLevel::Full];
                let names = ["standard", "detailed", "full"];
                let levels: Vec<_> = names.into_iter().zip(levels).collect();
                self.obligations.audit = one_of(value, &levels)?;
            }
            _ => {
                return Err("there is no such annotation; there are @id, @reason, @mode, @rate, \
                            @approval, @audit and @suggested"
                    .to_owned());
            }
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn name(value: &str) -> Result<String, String> {
    let sound = (1..=MAX_NAME).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
    if sound {
        return Ok(value.to_owned());
    }
    Err(format!("a name has 1 to {MAX_NAME} characters of `A-Z a-z 0-9 . _ / -`"))
}

fn words(value: &str) -> Result<String, String> {
    if !(1..=MAX_TEXT).contains(&value.len()) || value.chars().any(char::is_control) {
        return Err(format!("it has 1 to {MAX_TEXT} bytes without control characters"));
    }
    Ok(value.to_owned())
}

fn one_of<T: Copy>(value: &str, values: &[(&str, T)]) -> Result<T, String> {
    values.iter().find(|(name, _)| *name == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        format!("it is {}", names.join(" or "))
    })
}

/// A rate such as `5/1m`: so many times in so much time, in seconds, minutes, hours or days.
fn rate(value: &str) -> Result<Rate, String> {
    let wrong =
        || "a rate is written as \"5/1m\": so many times in so many s, m, h or d".to_owned();
    let (times, span) = value.split_once('/').ok_or_else(wrong)?;
    let unit = span.chars().last().ok_or_else(wrong)?;
    let seconds: u32 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count = number(span.strip_suffix(unit).unwrap_or_default()).ok_or_else(wrong)?;
    let times = number(times).ok_or_else(wrong)?;
    let seconds = count.checked_mul(seconds).filter(|seconds| *seconds <= MAX_RATE_SECONDS);
    let seconds = seconds.ok_or("a rate is counted over 30 days at most")?;
    Ok(Rate { times, seconds })
}

/// The longest time that a rate is counted over.
const MAX_RATE_SECONDS: u32 = 30 * 86_400;

/// A number from 1, in digits only.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_number| digits)
}

/// What has to be done if all of these permit: the strictest of each.
pub(crate) fn strictest(rules: &[&Rule]) -> Obligations {
    rules.iter().map(|rule| rule.obligations).fold(Obligations::default(), |all, one| Obligations {
        rate: match (all.rate, one.rate) {
            (Some(a), Some(b)) => Some(rarer(a, b)),
            (rate, None) | (None, rate) => rate,
        },
        approval: all.approval || one.approval,
        audit: all.audit.max(one.audit),
    })
}

/// The rate that allows less in the long run; of two that allow the same, the one that allows fewer
/// at once.
fn rarer(a: Rate, b: Rate) -> Rate {
    // Widened, no product overflows.
    let product = |times: u32, seconds: u32| u64::from(times).saturating_mul(seconds.into());
    let in_the_long_run = product(a.times, b.seconds).cmp(&product(b.times, a.seconds));
    if in_the_long_run.then(a.times.cmp(&b.times)).is_le() { a } else { b }
}
