//! The small edits: `ack`, `unack`, `enable`, `disable`, `cluster-ack`. Each is one request to any node, which writes
//! the same key that `etcdctl put` would.

use std::{io::Write, time::Duration};

use clap::Args;
use serde_json::json;

use super::{
    http::{Client, ClientError, segment},
    values,
};
use crate::{
    clock::Clock,
    model::{CategoryName, TargetName, Timestamp},
};

fn target(text: &str) -> Result<TargetName, String> {
    TargetName::new(text).map_err(|e| e.to_string())
}

fn category(text: &str) -> Result<CategoryName, String> {
    CategoryName::new(text).map_err(|e| e.to_string())
}

fn message(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty; an empty message is no ack".to_owned()) } else { Ok(text.to_owned()) }
}

/// Flags of `ack`.
#[derive(Args, Clone, Debug)]
pub struct AckArgs {
    /// The target whose failure has been seen
    #[arg(value_parser = target)]
    target: TargetName,
    /// Why the failure does not count
    #[arg(long, short, value_parser = message)]
    message: String,
    /// Who acks [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// When the ack ends by itself, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = |t: &str| t.parse::<Timestamp>().map_err(|e| e.to_string()))]
    until: Option<Timestamp>,
    /// How long the ack lasts, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = values::positive_duration, conflicts_with = "until")]
    lasting: Option<Duration>,
}

/// Flags of `unack`.
#[derive(Args, Clone, Debug)]
pub struct UnackArgs {
    /// The target
    #[arg(value_parser = target)]
    target: TargetName,
}

/// Flags of `enable`.
#[derive(Args, Clone, Debug)]
pub struct EnableArgs {
    /// The category; this also clears its sticky latch
    #[arg(value_parser = category)]
    category: CategoryName,
    /// Why; logged
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Who asks [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Flags of `disable`.
#[derive(Args, Clone, Debug)]
pub struct DisableArgs {
    /// The category
    #[arg(value_parser = category)]
    category: CategoryName,
    /// Why
    #[arg(long, short, value_name = "REASON", value_parser = message)]
    message: String,
    /// Who asks [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Flags of `cluster-ack`.
#[derive(Args, Clone, Debug)]
pub struct ClusterAckArgs {
    /// What is known about the cluster's state
    #[arg(long, short, value_parser = message, required_unless_present = "clear", conflicts_with = "clear")]
    message: Option<String>,
    /// Remove the cluster ack
    #[arg(long)]
    clear: bool,
    /// Who acks [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// The name of who sits here: behind `sudo` the one who called it.
#[must_use]
pub fn user_name(env: impl Fn(&str) -> Option<String>) -> String {
    ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| env(name).filter(|v| !v.trim().is_empty())).unwrap_or_else(
        || {
            let uid = rustix::process::getuid().as_raw();
            let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            name_of(uid, &users).unwrap_or_else(|| format!("uid {uid}"))
        },
    )
}

/// A user's name in the text of `/etc/passwd`.
fn name_of(uid: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

fn by(given: Option<&String>) -> String {
    given.cloned().unwrap_or_else(|| user_name(|name| std::env::var(name).ok()))
}

fn put(client: &Client, path: &str, body: &serde_json::Value) -> Result<(), ClientError> {
    client.edit("PUT", path, Some(("application/json", body.to_string().into_bytes()))).map(|_| ())
}

/// Acks a target.
///
/// # Errors
/// When the node does not answer or refuses.
pub fn ack(args: &AckArgs, client: &Client, clock: &Clock, out: &mut dyn Write) -> anyhow::Result<()> {
    let until = args.until.or_else(|| args.lasting.map(|d| clock.now().wall.plus(d)));
    let by = by(args.by.as_ref());
    let mut body = json!({"message": args.message, "by": by});
    if let (Some(until), Some(fields)) = (until, body.as_object_mut()) {
        fields.insert("until".to_owned(), json!(until));
    }
    put(client, &format!("/api/v1/acks/{}", segment(args.target.as_str())), &body)?;
    let end = until.map_or_else(|| "until it is removed".to_owned(), |t| format!("until {t}"));
    writeln!(out, "{} acked by {by} {end}: {}", args.target, args.message)?;
    Ok(())
}

/// Removes a target's ack.
///
/// # Errors
/// When the node does not answer or refuses.
pub fn unack(args: &UnackArgs, client: &Client, out: &mut dyn Write) -> anyhow::Result<()> {
    client.edit("DELETE", &format!("/api/v1/acks/{}", segment(args.target.as_str())), None)?;
    writeln!(out, "{} is no longer acked", args.target)?;
    Ok(())
}

/// Switches a category on.
///
/// # Errors
/// When the node does not answer or refuses.
pub fn enable(args: &EnableArgs, client: &Client, out: &mut dyn Write) -> anyhow::Result<()> {
    switch(client, &args.category, true, args.message.as_ref(), by(args.by.as_ref()))?;
    writeln!(out, "category {} is enabled", args.category)?;
    Ok(())
}

/// Switches a category off.
///
/// # Errors
/// When the node does not answer or refuses.
pub fn disable(args: &DisableArgs, client: &Client, out: &mut dyn Write) -> anyhow::Result<()> {
    switch(client, &args.category, false, Some(&args.message), by(args.by.as_ref()))?;
    writeln!(out, "category {} is disabled: its /__gtg answers 503 until it is enabled", args.category)?;
    Ok(())
}

fn switch(
    client: &Client,
    category: &CategoryName,
    enabled: bool,
    reason: Option<&String>,
    by: String,
) -> Result<(), ClientError> {
    let mut body = json!({"enabled": enabled, "by": by});
    if let (Some(reason), Some(fields)) = (reason, body.as_object_mut()) {
        fields.insert("reason".to_owned(), json!(reason));
    }
    put(client, &format!("/api/v1/categories/{}/enabled", segment(category.as_str())), &body)
}

/// Puts or clears the cluster ack.
///
/// # Errors
/// When the node does not answer or refuses.
pub fn cluster_ack(args: &ClusterAckArgs, client: &Client, out: &mut dyn Write) -> anyhow::Result<()> {
    match &args.message {
        Some(message) => {
            let by = by(args.by.as_ref());
            put(client, "/api/v1/cluster-ack", &json!({"message": message, "by": by}))?;
            writeln!(out, "cluster acked by {by}: {message}")?;
        }
        None => {
            client.edit("DELETE", "/api/v1/cluster-ack", None)?;
            writeln!(out, "the cluster ack is removed")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_behind_sudo_is_the_one_who_acks() {
        let env = |name: &str| match name {
            "USER" => Some("root".to_owned()),
            "SUDO_USER" => Some("ada".to_owned()),
            _ => None,
        };
        assert_eq!(user_name(env), "ada");
        assert_eq!(user_name(|n| (n == "USER").then(|| "bob".to_owned())), "bob");
        assert!(!user_name(|_| None).is_empty());
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(1000, users).as_deref(), Some("ada"));
        assert_eq!(name_of(7, users), None);
    }
}
