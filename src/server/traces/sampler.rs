//! Which traces are kept.

/// As `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// Whether the word of who began a trace goes first.
    parent_based: bool,
    /// Of 2^63 traces, how many.
    kept: u64,
}

/// All of them.
const ALL: u64 = 1 << 63;
/// How many of them, unless it is said.
const BY_DEFAULT: f64 = 0.01;

impl Default for Sampler {
    fn default() -> Self {
        Self { parent_based: true, kept: share(BY_DEFAULT) }
    }
}

impl Sampler {
    /// The sampler of this name, with the share of traces that the argument names. What is wrong with either is said to `warn`, and the
    /// default taken.
    pub(super) fn read(name: Option<&str>, argument: Option<&str>, mut warn: impl FnMut(&'static str, String)) -> Self {
        const ALLOWED: &str = "parentbased_traceidratio, traceidratio, parentbased_always_on, parentbased_always_off, always_on or always_off";
        let name = name.unwrap_or("parentbased_traceidratio");
        let (parent_based, root) = name.strip_prefix("parentbased_").map_or((false, name), |root| (true, root));
        let kept = match root {
            "always_on" => ALL,
            "always_off" => 0,
            "traceidratio" => Self::ratio(argument, warn),
            _ => {
                warn("OTEL_TRACES_SAMPLER", format!("{name:?} must be {ALLOWED}"));
                return Self { kept: Self::ratio(argument, warn), ..Self::default() };
            }
        };
        Self { parent_based, kept }
    }

    fn ratio(argument: Option<&str>, mut warn: impl FnMut(&'static str, String)) -> u64 {
        let Some(text) = argument else { return share(BY_DEFAULT) };
        match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => share(ratio),
            _ => {
                warn("OTEL_TRACES_SAMPLER_ARG", format!("{text:?} must be a number from 0 to 1"));
                share(BY_DEFAULT)
            }
        }
    }

    /// Whether the trace is kept whose id ends with this half; `parent` is what was decided of it before.
    pub(super) fn keeps(self, half: u64, parent: Option<bool>) -> bool {
        match parent {
            Some(kept) if self.parent_based => kept,
            _ => half >> 1 < self.kept,
        }
    }
}

/// Of 2^63.
fn share(ratio: f64) -> u64 {
    (ratio * ALL as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, argument: &str) -> (Sampler, Vec<&'static str>) {
        let given = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let mut wrong = Vec::new();
        let sampler = Sampler::read(given(name), given(argument), |variable, _| wrong.push(variable));
        (sampler, wrong)
    }

    #[test]
    fn names_and_shares_are_those_of_opentelemetry() {
        const RATIO: u64 = 92_233_720_368_547_760;
        for (name, argument, parent_based, kept) in [
            ("", "", true, RATIO),
            ("", "0.5", true, ALL / 2),
            ("parentbased_traceidratio", "1", true, ALL),
            ("parentbased_traceidratio", "0", true, 0),
            ("traceidratio", "0.01", false, RATIO),
            ("traceidratio", "", false, RATIO),
            ("parentbased_always_on", "", true, ALL),
            ("parentbased_always_off", "nonsense", true, 0),
            ("always_on", "0.5", false, ALL),
            ("always_off", "", false, 0),
        ] {
            assert_eq!(read(name, argument), (Sampler { parent_based, kept }, vec![]), "{name} {argument}");
        }
        let (sampler, argument) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
        for (name, given, wrong) in [
            ("jaeger_remote", "", vec![sampler]),
            ("ALWAYS_ON", "", vec![sampler]),
            ("", "1.1", vec![argument]),
            ("traceidratio", "-0.1", vec![argument]),
            ("", "NaN", vec![argument]),
            ("", "1%", vec![argument]),
            ("nonsense", "nonsense", vec![sampler, argument]),
        ] {
            let read = read(name, given);
            assert_eq!((read.0.kept, read.1), (RATIO, wrong), "{name} {given}");
        }
        let both = read("nonsense", "1").0;
        assert_eq!(both, Sampler { parent_based: true, kept: ALL }, "what is wrong is the name alone");
    }

    #[test]
    fn a_trace_is_kept_by_its_parent_or_by_its_id() {
        let half = read("parentbased_traceidratio", "0.5").0;
        for (id, parent, kept) in [
            (0, None, true),
            (u64::MAX / 2, None, true),
            (u64::MAX / 2 + 1, None, false),
            (u64::MAX, None, false),
            (u64::MAX, Some(true), true),
            (0, Some(false), false),
        ] {
            assert_eq!(half.keeps(id, parent), kept, "{id} {parent:?}");
        }
        let alone = read("traceidratio", "0.5").0;
        assert!(alone.keeps(0, Some(false)) && !alone.keeps(u64::MAX, Some(true)), "only the id counts");
        let [all, none] = ["always_on", "always_off"].map(|name| read(name, "").0);
        assert!(all.keeps(u64::MAX, None) && all.keeps(u64::MAX, Some(false)));
        assert!(!none.keeps(0, None) && !none.keeps(0, Some(true)));
    }
}
