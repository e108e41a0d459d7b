//! The last hour of each sale, sampled, so that the operator's curves do not begin anew with each reload of the page.
//!
//! It is kept in memory only: what it shows can be had from the journal, and after a restart the curve begins again.

use std::collections::VecDeque;

use actix_web::web;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::App;
use super::config;
use crate::api::{PageRequest, SaleFigures};
use crate::domain::concert_option::OptionStatus;
use crate::domain::{OptionId, Timestamp};
use crate::error::Error;

/// Samples of the newest options.
#[derive(Debug)]
pub struct History {
    samples_max: usize,
    options_max: usize,
    sales: Mutex<HashMap<OptionId, VecDeque<SaleFigures>>>,
}

impl History {
    /// An empty one.
    #[must_use]
    pub fn new(settings: &config::History) -> Self {
        let most = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Self { samples_max: most(settings.samples), options_max: most(settings.options), sales: Mutex::default() }
    }

    /// What is known of an option after `since`, oldest first.
    #[must_use]
    pub fn of(&self, option: OptionId, since: Option<Timestamp>) -> Vec<SaleFigures> {
        let sales = self.sales.lock();
        let samples = sales.get(&option).into_iter().flatten();
        samples.filter(|sample| since.is_none_or(|since| sample.at > since)).copied().collect()
    }

    /// The options of which there are samples.
    #[must_use]
    pub fn options(&self) -> Vec<OptionId> {
        self.sales.lock().keys().copied().collect()
    }

    /// Adds a sample of each option; others are forgotten.
    fn add(&self, samples: Vec<(OptionId, SaleFigures)>) {
        let mut sales = self.sales.lock();
        let mut before = std::mem::take(&mut *sales);
        for (option, sample) in samples {
            let mut known = before.remove(&option).unwrap_or_default();
            if known.len() >= self.samples_max {
                known.pop_front();
            }
            known.push_back(sample);
            sales.insert(option, known);
        }
    }
}

/// Takes samples, for as long as the engine answers.
pub async fn note(app: web::Data<App>) {
    let mut interval = actix_web::rt::time::interval(app.settings.history.interval.0);
    loop {
        interval.tick().await;
        match sample(&app).await {
            Ok(samples) => app.history.add(samples),
            Err(error) => tracing::debug!(%error, "no samples of the sales"),
        }
    }
}

/// How the newest options sell that are neither closed nor cancelled.
async fn sample(app: &App) -> Result<Vec<(OptionId, SaleFigures)>, Error> {
    let concerts = app.engine.concerts(&PageRequest { limit: 500, cursor: None }).await?;
    let newest = concerts.items.iter().flat_map(|concert| concert.options.iter().rev().copied());
    let mut samples = Vec::new();
    for option in newest.take(app.history.options_max) {
        let status = app.engine.option(option).await?.status;
        if !matches!(status, OptionStatus::Closed | OptionStatus::Cancelled) {
            samples.push((option, app.engine.sale_figures(option).await?));
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::concert_option::Counts;
    use crate::domain::waiting_room;

    fn sample(at: u64) -> SaleFigures {
        let seats = Counts { available: 1, held: 0, sold: at, blocked: 0 };
        let line = waiting_room::Counts::default();
        SaleFigures { at: Timestamp::from_millis(at), seats, holds: 0, holds_expiring: 0, line }
    }

    #[test]
    fn it_keeps_the_last_samples_of_the_options_that_are_followed() {
        let settings = config::History { samples: 3, ..config::History::default() };
        let history = History::new(&settings);
        let (first, second) = (OptionId(1), OptionId(2));
        for at in 1..=5 {
            history.add(vec![(first, sample(at)), (second, sample(at))]);
        }
        assert_eq!(history.of(first, None), [sample(3), sample(4), sample(5)]);
        assert_eq!(history.of(first, Some(Timestamp::from_millis(4))), [sample(5)]);
        history.add(vec![(second, sample(6))]);
        assert_eq!(history.of(first, None), []);
        assert_eq!(history.of(second, None).len(), 3);
    }
}
