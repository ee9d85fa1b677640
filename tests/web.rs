//! The web room over a real socket: every endpoint, parameter, header and status of design section 6's table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

#[path = "support/web_server.rs"]
mod web_server;
#[path = "support/web_view.rs"]
mod web_view;

#[path = "support/web_cluster_view.rs"]
mod web_cluster_view;

#[path = "support/web_api.rs"]
mod api;
#[path = "support/web_cluster.rs"]
mod cluster;
#[path = "support/web_connection.rs"]
mod connection;
#[path = "support/web_gtg.rs"]
mod gtg;
#[path = "support/web_health.rs"]
mod health;
#[path = "support/web_hot.rs"]
mod hot;
#[path = "support/web_openapi.rs"]
mod openapi;
#[path = "support/web_page.rs"]
mod page;
