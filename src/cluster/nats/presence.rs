//! That no two processes of one name live. It is for people who start a node twice: safety rests on the life in each
//! fence.
//!
//! All processes of a name hear one subject. Who begins asks there, some times; who lives answers. Of two who begin at
//! once the higher life goes on. Who lives also says so again and again, since whoever began may not have been heard.

use std::future::Future;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::seal::Seal;
use super::{Error, subscribe};

/// How often who begins asks, and how long it listens each time.
const ASKS: u32 = 3;
const LISTEN: Duration = Duration::from_millis(250);
/// Between two times that who lives says so.
const AGAIN: Duration = Duration::from_secs(2);

const BEGINS: u8 = 0;
const LIVES: u8 = 1;

struct Presence {
    client: Client,
    subject: String,
    life: u64,
    seal: Seal,
}

impl Presence {
    async fn say(&self, what: u8) -> Result<(), Error> {
        let mut said = vec![what];
        said.extend_from_slice(&self.life.to_le_bytes());
        let sealed = self.seal.close(&self.subject, &[], &said);
        let said = self.client.publish(self.subject.clone(), sealed.into()).await;
        said.map_err(|error| Error::Unreachable(error.to_string()))
    }

    /// What another process said, and its life.
    fn hear(&self, sealed: &[u8]) -> Option<(u8, u64)> {
        let (&what, life) = self.seal.open(&self.subject, &[], sealed)?.split_first()?;
        let life = u64::from_le_bytes(life.try_into().ok()?);
        (life != self.life).then_some((what, life))
    }
}

/// Looks whether another process of this name lives, and gives what is to be run to be seen by the next one.
pub async fn enter(
    client: &Client,
    subject: &str,
    node: &str,
    life: u64,
    seal: Seal,
    namesake: Box<dyn Fn(u64) + Send>,
) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
    let mut heard = subscribe(client, subject.to_owned()).await?;
    let presence = Presence { client: client.clone(), subject: subject.to_owned(), life, seal };
    for _ in 0..ASKS {
        presence.say(BEGINS).await?;
        let until = Instant::now() + LISTEN;
        while let Ok(Some(message)) = timeout_at(until, heard.next()).await {
            match presence.hear(&message.payload) {
                Some((LIVES, _)) => return Err(Error::Namesake(node.to_owned())),
                Some((BEGINS, other)) if other > life => return Err(Error::Namesake(node.to_owned())),
                _ => {}
            }
        }
    }
    Ok(async move {
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = heard.next() => message,
                _ = again.tick() => {
                    if presence.say(LIVES).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Some(message) = message else { return };
            match presence.hear(&message.payload) {
                Some((BEGINS, _)) if presence.say(LIVES).await.is_err() => return,
                Some((LIVES, other)) => namesake(other),
                _ => {}
            }
        }
    })
}
