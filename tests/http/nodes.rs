//! A node of a cluster, as those see it who look at it.

use std::time::Duration;

use boxoffice::testing::cluster::{Cable, MemoryStream};
use futures_util::StreamExt as _;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::Server;
use crate::live::{next, open};

#[tokio::test]
async fn a_node_without_news_lets_those_go_who_look_at_it_and_takes_no_others() {
    let (stream, cable) = (MemoryStream::default(), Cable::default());
    let owner = Server::node(&stream, "ada", &Cable::default()).await;
    let option = owner.option(2).await;
    let follower = Server::node(&stream, "ben", &cable).await;
    let path = format!("/v1/options/{option}/live");
    let (mut socket, _) = open(&follower, &path, &[]).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "snapshot", "it is told how things are");
    cable.cut();
    let goodbye = loop {
        if let Message::Close(frame) = socket.next().await.expect("a goodbye").unwrap() {
            break frame.unwrap();
        }
    };
    assert_eq!(u16::from(goodbye.code), 1012, "{goodbye:?}");
    let health = follower.get("/readyz", "").await.body;
    assert_eq!(health["ready"], false, "{health}");
    let (status, problem) = open(&follower, &path, &[]).await.err().unwrap();
    assert_eq!((status.as_u16(), &problem["code"]), (503, &"no_owner".into()), "{problem}");
    cable.mend();
    follower.ready().await;
    let again = async {
        loop {
            match open(&follower, &path, &[]).await {
                Ok((socket, _)) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let mut socket = timeout(Duration::from_secs(20), again).await.expect("others are let in again");
    assert_eq!(next(&mut socket).await["type"], "snapshot");
}
