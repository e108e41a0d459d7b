//! Sends messages: to a chat API of Telegram's shape, and by SMTP.

use std::time::Duration;

use anyhow::{Context as _, Result};
use boxoffice_listener::{Listener, lock};
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::response::{Code, Severity};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor};
use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use serde_json::json;

use crate::store::{Channel, Message, Outcome, RETRY_AFTER_MAX, Store};

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait when there is nothing to be sent.
const IDLE: Duration = Duration::from_millis(100);

/// The ways in which messages go.
#[derive(Default)]
pub struct Post {
    chat: Option<Chat>,
    mail: Option<(AsyncSmtpTransport<Tokio1Executor>, Mailbox)>,
}

struct Chat {
    client: Client,
    /// With the bot's token, so that it is never shown.
    url: String,
}

/// What the chat answers when something is wrong.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
}

impl Post {
    pub fn new() -> Self {
        Self::default()
    }

    /// With a chat.
    ///
    /// # Errors
    /// There is no TLS.
    pub fn with_chat(self, url: &str, token: &str) -> Result<Self> {
        let client = Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none()).build()?;
        let chat = Chat { client, url: format!("{}/bot{token}/sendMessage", url.trim_end_matches('/')) };
        Ok(Self { chat: Some(chat), ..self })
    }

    /// With mail.
    ///
    /// # Errors
    /// What is wrong with the URL or the address.
    pub fn with_mail(self, url: &str, password: Option<&str>, from: &str) -> Result<Self> {
        let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user.to_owned());
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(url).context("--smtp-url")?.timeout(Some(TIMEOUT));
        if let (Some(user), Some(password)) = (user, password) {
            transport = transport.credentials(Credentials::new(user, password.to_owned()));
        }
        Ok(Self { mail: Some((transport.build(), from.parse().context("--smtp-from")?)), ..self })
    }

    /// What there is.
    pub fn channels(&self) -> Vec<Channel> {
        let chat = self.chat.is_some().then_some(Channel::Telegram);
        chat.into_iter().chain(self.mail.is_some().then_some(Channel::Email)).collect()
    }

    async fn send(&self, message: &Message) -> Outcome {
        let closed = || Outcome::Later("this way is not configured any more".into(), Duration::ZERO);
        match message.channel {
            Channel::Telegram => match &self.chat {
                Some(chat) => chat.send(message).await,
                None => closed(),
            },
            Channel::Email => match &self.mail {
                Some((transport, from)) => mail(transport, from, message).await,
                None => closed(),
            },
        }
    }
}

impl Chat {
    async fn send(&self, message: &Message) -> Outcome {
        let body = json!({"chat_id": message.address, "text": format!("{}\n{}", message.title, message.text)});
        // Whoever is asked again for what it has done already knows it by this.
        let request = self.client.post(&self.url).header("Idempotency-Key", &message.event_id).json(&body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Later(error.without_url().to_string(), Duration::ZERO),
        };
        let status = response.status();
        if status.is_success() {
            return Outcome::Sent;
        }
        let answer: Answer = response.json().await.unwrap_or_default();
        let why = format!("{status}: {}", answer.description);
        match status {
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => Outcome::Never(why),
            _ => Outcome::Later(why, Duration::from_secs(answer.parameters.retry_after.unwrap_or_default())),
        }
    }
}

async fn mail(transport: &AsyncSmtpTransport<Tokio1Executor>, from: &Mailbox, message: &Message) -> Outcome {
    let to = match message.address.parse::<Mailbox>() {
        Ok(to) => to,
        Err(error) => return Outcome::Never(format!("the address: {error}")),
    };
    let mail = Mail::builder()
        .from(from.clone())
        .to(to)
        .subject(&message.title)
        // The same each time that it is sent.
        .message_id(Some(format!("<{}@boxoffice>", message.event_id)))
        .header(ContentType::TEXT_PLAIN)
        .body(message.text.clone());
    match mail {
        Err(error) => Outcome::Never(error.to_string()),
        Ok(mail) => match transport.send(mail).await {
            Ok(_) => Outcome::Sent,
            Err(error) if error.status().is_some_and(is_about_the_mail) => Outcome::Never(error.to_string()),
            Err(error) => Outcome::Later(error.to_string(), Duration::ZERO),
        },
    }
}

/// Whether a mail server says no for good, and of this mail: not of who sends it, whose password may be mended.
fn is_about_the_mail(code: Code) -> bool {
    code.severity == Severity::PermanentNegativeCompletion && !matches!(u16::from(code), 530 | 534 | 535 | 538)
}

/// Sends what is to be sent, in all ways side by side, for ever.
///
/// # Errors
/// The database fails.
pub async fn send(post: &Post, shared: &Listener<Store>, rate: u32) -> Result<()> {
    tokio::try_join!(send_by(Channel::Telegram, post, shared, rate), send_by(Channel::Email, post, shared, rate),)
        .map(drop)
}

/// Sends what is to be sent in one way, one after the other and so many a second at the most.
async fn send_by(channel: Channel, post: &Post, shared: &Listener<Store>, rate: u32) -> Result<()> {
    let pause = Duration::from_secs(1) / rate;
    loop {
        let next = lock(&shared.store).next(channel)?;
        let Some(message) = next else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        let outcome = post.send(&message).await;
        // Nothing is said of what may get through later, but where somebody looks.
        if let Outcome::Never(why) = &outcome {
            tracing::warn!(event = message.event_id, channel = message.channel.as_str(), why, "a message is not taken");
        }
        lock(&shared.store).settle(&message, &outcome)?;
        // Who wants to be left alone means all messages.
        let asked = if let Outcome::Later(_, least) = outcome { least.min(RETRY_AFTER_MAX) } else { Duration::ZERO };
        tokio::time::sleep(pause.max(asked)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// A mail server that answers `refused` to what begins with `command`.
    async fn serve(listener: TcpListener, command: &'static str, refused: &'static str) -> std::io::Result<()> {
        loop {
            let mut stream = BufReader::new(listener.accept().await?.0);
            stream.write_all(b"220 here\r\n").await?;
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 0 {
                let answer = match line.trim_end() {
                    said if said.starts_with(command) => refused,
                    said if said.starts_with("EHLO") => "250-here\r\n250 AUTH PLAIN",
                    said if said.starts_with("AUTH") => "235 come in",
                    "DATA" => "354 say on",
                    _ => "250 well",
                };
                stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
                line.clear();
            }
        }
    }

    async fn sent(command: &'static str, refused: &'static str) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://me@{}", listener.local_addr().unwrap());
        let post = Post::new().with_mail(&url, Some("hunter2"), "from@example.com").unwrap();
        let server = tokio::spawn(serve(listener, command, refused));
        let outcome = post.send(&Message::to(Channel::Email, "anna@example.com")).await;
        server.abort();
        outcome
    }

    #[tokio::test]
    async fn a_mail_server_that_refuses_us_is_asked_again_and_one_that_refuses_the_mail_is_not() {
        for (command, refused, is_final) in [
            ("AUTH", "535 5.7.8 who are you", false),
            ("MAIL", "530 5.7.0 who are you", false),
            ("RCPT", "451 not now", false),
            ("RCPT", "550 5.1.1 no such user", true),
        ] {
            match sent(command, refused).await {
                Outcome::Never(why) => assert!(is_final && why.contains("550"), "{refused}: {why}"),
                Outcome::Later(why, _) => assert!(!is_final && !why.contains("hunter2"), "{refused}: {why}"),
                other => panic!("{refused}: {other:?}"),
            }
        }
    }
}
