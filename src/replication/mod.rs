//! Full observations from a region's leader to its followers, node to node (design section 4.4): what a frame is, the
//! leader's side (`hub`), the follower's side (`follow`), and how a node asks its peers without the store (`scout`).
//! What a frame changes in a node is decided by `controller`; the routes that serve it are `web`'s.

pub mod follow;
pub mod frame;
pub mod http;
pub mod hub;
pub mod peers;
pub mod scout;
#[cfg(test)]
mod testing;
pub mod wire;

pub use follow::{Heard, Leader};
pub use frame::{Entry, Frame, Head};
pub use http::{HttpPeers, PeerFiles};
pub use hub::{Hub, NotServing, Serving, Subscription};
pub use peers::{NoPeers, PeerError, Peers, Refreshed, Seen};
