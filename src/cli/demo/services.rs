//! The demo's small HTTP services, in this process, on the ports it is given: `/` names the service, `/health` says
//! whether it is well, `/health/flip` changes that. The answers are the software-aware load balancer's
//! (`{"Result": …, "Message": …}`), save that an ill service answers 503 instead of 200.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections served at once by one service.
const MAX_CONNECTIONS: usize = 64;
/// A request's head must arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// One running service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name; in `bellwether demo` also its target's.
    pub name: String,
    /// Where it answers.
    pub address: SocketAddr,
}

/// The running services; they end with the token.
#[derive(Debug)]
pub struct Services {
    /// In the order of their names' list.
    pub all: Vec<Service>,
    tasks: TaskTracker,
}

impl Services {
    /// Returns once every service has ended; cancel the token first.
    pub async fn ended(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What one service says of itself.
#[derive(Debug)]
struct State {
    name: String,
    healthy: AtomicBool,
}

/// Starts one service for each `(name, address)`, all healthy; port 0 takes a free one.
///
/// # Errors
/// When an address cannot be had; it is named.
pub async fn start(wanted: &[(String, SocketAddr)], shutdown: &CancellationToken) -> io::Result<Services> {
    let tasks = TaskTracker::new();
    let mut all = Vec::with_capacity(wanted.len());
    for (name, address) in wanted {
        let bound = TcpListener::bind(address).await;
        let listener =
            bound.map_err(|e| io::Error::new(e.kind(), format!("{name} cannot listen on {address}: {e}")))?;
        all.push(Service { name: name.clone(), address: listener.local_addr()? });
        let state = Arc::new(State { name: name.clone(), healthy: AtomicBool::new(true) });
        tasks.spawn(accept(listener, state, shutdown.clone(), tasks.clone()));
    }
    Ok(Services { all, tasks })
}

async fn accept(listener: TcpListener, state: Arc<State>, shutdown: CancellationToken, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((slot, listener.accept().await))
            } => accepted,
        };
        let Some((slot, accepted)) = accepted else { return };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: it passes as connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (state, shutdown) = (Arc::clone(&state), shutdown.clone());
        tasks.spawn(async move {
            let serve = service_fn(move |request| {
                let answer = answer(&state, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), serve);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                // A broken connection is its client's affair.
                _ = connection => {}
            }
            drop(slot);
        });
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return said(StatusCode::METHOD_NOT_ALLOWED, false, "only GET is answered here");
    }
    match request.uri().path() {
        "/" => said(StatusCode::OK, true, &format!("This is API: {}", state.name)),
        // `bellwether health` asks this.
        "/__live" => said(StatusCode::OK, true, "it lives"),
        "/health" => health(state.healthy.load(Ordering::SeqCst), "OK", "flipped: not healthy"),
        "/health/flip" => {
            let healthy = !state.healthy.fetch_xor(true, Ordering::SeqCst);
            let message = if healthy { "healthy again" } else { "not healthy any more" };
            said(StatusCode::OK, healthy, &format!("{} is {message}", state.name))
        }
        _ => said(StatusCode::NOT_FOUND, false, "there are /, /health and /health/flip"),
    }
}

fn health(healthy: bool, good: &str, bad: &str) -> Response<Full<Bytes>> {
    if healthy { said(StatusCode::OK, true, good) } else { said(StatusCode::SERVICE_UNAVAILABLE, false, bad) }
}

fn said(status: StatusCode, result: bool, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({"Result": result, "Message": message}).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(agent: &ureq::Agent, address: SocketAddr, path: &str) -> (u16, serde_json::Value) {
        let (agent, url) = (agent.clone(), format!("http://{address}{path}"));
        tokio::task::spawn_blocking(move || {
            let mut answer = agent.get(&url).call().unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
        })
        .await
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flip_turns_health_to_503_and_back_and_the_token_ends_all() {
        let shutdown = CancellationToken::new();
        let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let services = start(&[("a-1".to_owned(), free), ("b-1".to_owned(), free)], &shutdown).await.unwrap();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)))
            .build();
        let agent = config.new_agent();
        let (a, b) = (services.all[0].address, services.all[1].address);
        assert_eq!(
            get(&agent, a, "/").await,
            (200, serde_json::json!({"Result": true, "Message": "This is API: a-1"}))
        );
        assert_eq!(get(&agent, a, "/health").await, (200, serde_json::json!({"Result": true, "Message": "OK"})));
        let (status, flipped) = get(&agent, a, "/health/flip").await;
        assert_eq!((status, &flipped["Result"]), (200, &serde_json::json!(false)));
        assert_eq!(get(&agent, a, "/health").await.0, 503);
        assert_eq!(get(&agent, b, "/health").await.0, 200, "each service has a health of its own");
        assert_eq!(get(&agent, a, "/health/flip").await.1["Result"], serde_json::json!(true));
        assert_eq!(get(&agent, a, "/health").await.0, 200);
        assert_eq!(get(&agent, a, "/nothing").await.0, 404);
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), services.ended()).await.unwrap();
        assert!(tokio::net::TcpStream::connect(a).await.is_err());
    }
}
