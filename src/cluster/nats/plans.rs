//! Seating plans, by their SHA-256, in a stream of their own. What is larger than a message is in chunks, each on a
//! subject of its own, so that putting a plan again changes nothing, and mends a chunk that is damaged.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::api::ApiError;
use super::asks::NoAnswer;
use super::{Error, PAUSE, Shared};
use crate::cluster::Wire;
use crate::domain::seating_plan::PlanHash;

/// How long a chunk is, but the last.
const CHUNK_BYTES: usize = 512 << 10;
/// How long a plan is tried to be put or got.
const PATIENCE: Duration = Duration::from_secs(30);
/// In how many chunks the plan is.
const CHUNKS: &str = "Boxoffice-Chunks";
/// No plan is in more: 1 GiB.
const CHUNKS_MAX: usize = 2_048;

fn subject(shared: &Shared, hash: PlanHash, number: usize) -> String {
    format!("{}.{hash}.{number}", shared.names.plans())
}

pub async fn put(shared: &Shared, hash: PlanHash, plan: &[u8]) -> Result<(), Error> {
    if PlanHash::of(plan) != hash {
        return Err(Error::DamagedPlan(hash));
    }
    match get(shared, hash).await {
        Ok(Some(_)) => return Ok(()),
        // What is not whole, or damaged, is put again.
        Ok(None) | Err(Error::DamagedPlan(_)) => {}
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + PATIENCE;
    // An empty one has a chunk too.
    let count = plan.len().div_ceil(CHUNK_BYTES).max(1);
    for number in 0..count {
        let from = number * CHUNK_BYTES;
        let chunk = &plan[from..plan.len().min(from + CHUNK_BYTES)];
        let headers = vec![(CHUNKS.to_owned(), count.to_string())];
        let wire = Wire { headers, payload: chunk.to_vec() };
        let stream = shared.names.plans_stream();
        let subject = subject(shared, hash, number);
        let append = || shared.api.append(&stream, subject.clone(), wire.clone(), None, shared.api.patience());
        patiently("to take a plan", deadline, append).await?;
    }
    Ok(())
}

pub async fn get(shared: &Shared, hash: PlanHash) -> Result<Option<Vec<u8>>, Error> {
    let deadline = Instant::now() + PATIENCE;
    let (mut plan, mut count, mut number) = (Vec::new(), 1, 0);
    while number < count {
        let which = json!({ "last_by_subj": subject(shared, hash, number) });
        let stream = shared.names.plans_stream();
        let message = patiently("for a plan", deadline, || shared.api.message(&stream, which.clone())).await?;
        let Some(message) = message else { return Ok(None) };
        let said = message.wire.headers.iter().find(|(name, _)| name == CHUNKS);
        let said = said.and_then(|(_, count)| count.parse().ok()).filter(|count| (1..=CHUNKS_MAX).contains(count));
        count = said.ok_or(Error::DamagedPlan(hash))?;
        plan.extend_from_slice(&message.wire.payload);
        number += 1;
    }
    if PlanHash::of(&plan) != hash {
        return Err(Error::DamagedPlan(hash));
    }
    Ok(Some(plan))
}

/// Asks until there is an answer, or the time is over.
async fn patiently<T, F: Future<Output = Result<T, ApiError>>>(
    what: &'static str,
    deadline: Instant,
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(ApiError::NoAnswer(NoAnswer::TooLarge { bytes, max })) => return Err(Error::TooLarge { bytes, max }),
            Err(error) if Instant::now() < deadline => tracing::debug!(%error, "asked again {what}"),
            Err(ApiError::NoAnswer(_)) => return Err(Error::NoAnswer(what)),
            Err(error) => return Err(Error::Refused { what, why: error.to_string() }),
        }
        sleep(PAUSE).await;
    }
}
