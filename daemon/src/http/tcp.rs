//! Binds TCP addresses.

use super::socket::ListenError;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Binds an address. Returns it with the port that was picked.
pub(super) async fn bind(
    address: SocketAddr,
    doing: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::Io {
        doing,
        what: address.to_string(),
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
