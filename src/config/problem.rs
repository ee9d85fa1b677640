//! What is wrong with one place of a value: the path to it, the reason, and what would be right. Where the value came
//! from (a key, a line of a file) is added by those who know.

use std::fmt;

use crate::model::FaultLevel;

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// An element of a list.
    Index(usize),
}

/// The way to a place, such as `spec.expect.json[0].op`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

impl Path {
    /// A path of one field.
    #[must_use]
    pub fn of(field: &str) -> Self {
        Self(vec![Step::Field(field.to_owned())])
    }

    /// The path to a field of this place.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.with(Step::Field(name.to_owned()))
    }

    /// The path to an element of this place.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The steps from the outside in.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) if n == 0 => f.write_str(name)?,
                // A name with dots would read as several fields.
                Step::Field(name) if name.contains('.') => write!(f, "[{name:?}]")?,
                Step::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: Path,
    /// The field's name is wrong, not its value.
    pub at_key: bool,
    /// Refused, or only doubtful.
    pub level: FaultLevel,
    /// What is wrong, to be read after the path.
    pub reason: String,
    /// What would be right.
    pub expected: String,
    /// The nearest known word.
    pub nearest: Option<String>,
}

impl Problem {
    /// A refused value.
    #[must_use]
    pub fn new(path: &Path, reason: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            path: path.clone(),
            at_key: false,
            level: FaultLevel::Fault,
            reason: reason.into(),
            expected: expected.into(),
            nearest: None,
        }
    }

    /// The same with a word that is near.
    #[must_use]
    pub fn near(mut self, nearest: Option<&str>) -> Self {
        self.nearest = nearest.map(str::to_owned);
        self
    }

    /// The same, but about the field's name.
    #[must_use]
    pub const fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }

    /// The same, but only doubtful.
    #[must_use]
    pub const fn hint(mut self) -> Self {
        self.level = FaultLevel::Hint;
        self
    }

    /// Path and reason as one sentence; the path is left out where it says no more than the key.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.path.steps().len() <= 1 { self.reason.clone() } else { format!("{}: {}", self.path, self.reason) }
    }
}

/// What is wrong with a name, without what is expected: that is told apart.
#[must_use]
pub fn name_reason(e: &crate::model::NameError) -> String {
    format!("{:?} is no valid {} name: {}", e.value, e.what, e.problem)
}

/// All problems found in one value.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a refused value.
    pub fn add(&mut self, path: &Path, reason: impl Into<String>, expected: impl Into<String>) {
        self.0.push(Problem::new(path, reason, expected));
    }

    /// Adds a refused value with a near word.
    pub fn add_near(
        &mut self,
        path: &Path,
        reason: impl Into<String>,
        expected: impl Into<String>,
        near: Option<&str>,
    ) {
        self.0.push(Problem::new(path, reason, expected).near(near));
    }

    /// Whether nothing was refused (hints do not count).
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|p| p.level == FaultLevel::Hint)
    }
}
