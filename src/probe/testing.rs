//! Checks and targets for this room's unit tests.

use std::{sync::Arc, time::Duration};

use crate::model::{ServiceName, Severity, Target, TargetName, target::Check};

pub fn check() -> Check {
    Check { host_header: "svc".to_owned(), ..Check::http("127.0.0.1", 80, "/__health") }
}

pub fn target(name: &str, check: Check, interval: Duration) -> Arc<Target> {
    let name = TargetName::new(name).unwrap();
    Arc::new(Target {
        service: ServiceName::of_target(&name),
        name,
        path: check.path.clone(),
        categories: Vec::new(),
        ack: None,
        check: Arc::new(check),
        interval,
        severity: Severity::MEDIUM,
        business_impact: String::new(),
        technical_summary: String::new(),
        panic_guide: String::new(),
    })
}
