//! A finding: one row of the report.

use serde::Serialize;

use crate::error::{Error, Kind, exit};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// It could not be looked at, or makes no sense here.
    Skipped,
    Warn,
    Fail,
}

#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Stable: scripts look for it.
    pub name: &'static str,
    pub status: Status,
    pub finding: String,
    /// More of the finding, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What to do; one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// What the program ends with because of it.
    #[serde(skip)]
    pub exit: u8,
}

impl Check {
    fn new(name: &'static str, status: Status, finding: impl Into<String>) -> Check {
        Check { name, status, finding: finding.into(), details: Vec::new(), advice: None, exit: exit::OK }
    }

    pub fn ok(name: &'static str, finding: impl Into<String>) -> Check {
        Check::new(name, Status::Ok, finding)
    }

    pub fn skipped(name: &'static str, why: impl Into<String>) -> Check {
        Check::new(name, Status::Skipped, why)
    }

    pub fn warn(name: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Check {
        Check { advice: Some(advice.into()), ..Check::new(name, Status::Warn, finding) }
    }

    /// Something that has to be set right: exit code 3.
    pub fn fail(name: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Check {
        let failed = Check::new(name, Status::Fail, finding);
        Check { advice: Some(advice.into()), exit: exit::CONFIG, ..failed }
    }

    /// A failure whose message says what to do. As at the start of a mount, a refusal is a matter of configuration.
    pub fn error(name: &'static str, e: &Error) -> Check {
        let exit = match e.kind() {
            Kind::AccessDenied | Kind::NotFound => exit::CONFIG,
            kind => kind.row().exit,
        };
        let network = "check the network, proxies, --endpoint-url and https://health.aws.amazon.com, and ask again";
        let advice = e.kind().is_transient().then(|| network.to_owned());
        Check { exit, advice, ..Check::new(name, Status::Fail, e.to_string()) }
    }

    /// Where the message does not say it.
    pub fn advise(mut self, what: &str) -> Check {
        self.advice.get_or_insert_with(|| what.to_owned());
        self
    }

    pub fn with(mut self, details: Vec<String>) -> Check {
        self.details = details;
        self
    }

    /// As a warning at most.
    pub fn softened(mut self) -> Check {
        self.status = self.status.min(Status::Warn);
        self.exit = exit::OK;
        self
    }
}
