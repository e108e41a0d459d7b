//! Whatever a template says, it takes memory and time within bounds. By itself, so that the peak is its own.

#![cfg(all(feature = "server", target_os = "linux"))]

use std::fs;

use boxoffice::testing::fuzz::TARGETS;
use boxoffice::testing::random::{Random, seed};

/// How much more memory than before the whole process may have had: a rendering takes 4 MiB at the most, and what is freed
/// is not given back at once.
const GROWTH_KIB_MAX: u64 = 24 << 10;

/// A figure of this process's memory, in KiB.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// What makes much of little, if it may, put together at random.
fn template(dice: &mut Random) -> String {
    let values = [
        "x",
        "y",
        "x ~ y",
        "x ~ x ~ x",
        "[x, y, x, y] | join(x)",
        "x | replace('', y)",
        "y | replace('x', x)",
        "x | upper",
        "x | tojson",
        "[x, x] | tojson",
        "event | tojson",
        "l",
        "[x, y, 1, x]",
        "'x' * 9",
        "x | length * 999999999999999999",
        "data.seats",
        "data.seats | length",
        "x in y",
        "x == y",
        "x < y ~ x",
        "x | string | trim",
        "data.nobody | default(x)",
        "event.time | time('%255Y%255Y%255Y')",
        "l | first",
        "l | last ~ x",
        "x if x else y",
        "-x",
        "x | tojson | tojson",
    ];
    let mut template = "{% set x = 'xxxxxxxxxxxxxxxxxxxx' %}{% set y = data.id %}{% set l = [1, 2, x] %}".to_owned();
    let mut ends = Vec::new();
    for _ in 0..dice.below(60) {
        let value = *dice.pick(&values);
        match dice.below(9) {
            0..3 => template += &format!("{{% set {} = {value} %}}", dice.pick(&["x", "y", "l"])),
            3 => template += &format!("{{{{ {value} }}}}"),
            4 => {
                template += &format!("{{% set {} %}}{{{{ x }}}}{{{{ {value} }}}}{{% endset %}}", dice.pick(&["x", "y"]))
            }
            5 if ends.len() < 20 => {
                template += &format!("{{% for x in {} %}}", dice.pick(&["l", "data.seats", "[x, y, x, y, x, y]"]));
                ends.push("{% endfor %}");
            }
            6 if ends.len() < 20 => {
                template += "{% autoescape false %}";
                ends.push("{% endautoescape %}");
            }
            7 if ends.len() < 20 => {
                template += &format!("{{% if {value} %}}");
                ends.push("{% endif %}");
            }
            _ => template += ends.pop().unwrap_or("x"),
        }
    }
    ends.reverse();
    template + &ends.concat()
}

#[test]
fn whatever_a_template_says_it_takes_no_more_than_it_may() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let (_, render) = TARGETS.iter().find(|(name, _)| *name == "templates").unwrap();
    let mut dice = Random(seed);
    // Whatever is made once is made.
    render(b"{{ event }}");
    let before = memory("VmRSS");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    for _ in 0..400 {
        render(template(&mut dice).as_bytes());
    }
    let grown = memory("VmHWM").saturating_sub(before);
    println!("{grown} KiB more than {before} KiB");
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
}
