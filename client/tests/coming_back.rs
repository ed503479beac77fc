//! A client whose connection was lost resumes its TLS session, also with a server that was started again.

mod live;

use tern_testkit::{Ternd, TerndOptions};

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_tls_session() {
    let mut server = Ternd::start_with(TerndOptions { cores: 3, ..TerndOptions::default() });
    let (ann, mut events) = live::join(&server, "+15550001", "Ann").await;
    for _ in 0..3 {
        server.kill_and_restart();
        live::caught_up(&mut events).await;
        assert_eq!(server.metric("tern_handshakes_resumed_total"), 1);
        assert_eq!(server.metric("tern_handshakes_total"), 1);
    }
    ann.close().await;
}
