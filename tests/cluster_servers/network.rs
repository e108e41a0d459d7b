//! A network of machines: each in a network namespace of its own where that may be, else all on loopback.
//!
//! A machine of a namespace has two cables: one to the bridge that joins the machines, and one to those who call it. Either
//! can be pulled out.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use boxoffice::testing::random::Random;

use crate::run_name;

/// What begins the names of directories, namespaces and links of these tests; behind it stands the process, and a number.
const PREFIX: &str = "bo";

/// Which cable of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// To the other machines.
    Inner,
    /// To those who call.
    Outer,
}

impl Cable {
    fn letter(self) -> char {
        if self == Self::Inner { 'i' } else { 'o' }
    }
}

/// Where machines are.
pub enum Network {
    /// Each in a namespace of its own, of `10.<net>`.
    Namespaces { name: String, net: [u8; 2], machines: usize },
    /// All on this one, for want of what is told.
    Loopback { why: String },
}

impl Network {
    /// Lays cables between so many machines, if that may be.
    pub fn new(machines: usize) -> Self {
        remove_stale();
        let (name, net) = (run_name(PREFIX), free_net());
        // Whatever was laid by then goes with it.
        let network = Self::Namespaces { name, net, machines };
        match network.lay() {
            Ok(()) => network,
            Err(why) => Self::Loopback { why },
        }
    }

    fn lay(&self) -> Result<(), String> {
        let Self::Namespaces { name, net: [a, b], machines } = self else { return Ok(()) };
        ip(&["link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        ip(&["link", "set", name, "up"])?;
        for machine in 0..*machines {
            let space = self.space(machine);
            ip(&["netns", "add", &space])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            for cable in [Cable::Inner, Cable::Outer] {
                let (here, there) = (self.link(machine, cable), format!("{}0", cable.letter()));
                ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &space])?;
                let (other, bits) = match cable {
                    Cable::Inner => (None, 25),
                    Cable::Outer => (Some(129 + 4 * machine), 30),
                };
                let own = self.address(machine, cable);
                ip(&["-n", &space, "addr", "add", &format!("{own}/{bits}"), "dev", &there])?;
                ip(&["-n", &space, "link", "set", &there, "up"])?;
                match other {
                    Some(other) => ip(&["addr", "add", &format!("10.{a}.{b}.{other}/{bits}"), "dev", &here])?,
                    None => ip(&["link", "set", &here, "master", name])?,
                }
                ip(&["link", "set", &here, "up"])?;
            }
        }
        Ok(())
    }

    /// Why there are no cables to pull out, if there are none.
    pub fn lacks_cables(&self) -> Option<&str> {
        match self {
            Self::Namespaces { .. } => None,
            Self::Loopback { why } => Some(why),
        }
    }

    /// The address of a machine on a cable.
    pub fn address(&self, machine: usize, cable: Cable) -> IpAddr {
        let last = |machine: usize| if cable == Cable::Inner { 1 + machine } else { 130 + 4 * machine } as u8;
        match self {
            Self::Namespaces { net: [a, b], .. } => Ipv4Addr::new(10, *a, *b, last(machine)).into(),
            Self::Loopback { .. } => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// A program on a machine. It ends with the thread that starts it, however that ends.
    pub fn command(&self, machine: usize, program: &Path) -> Command {
        let mut command = match self {
            Self::Namespaces { .. } => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{}", self.space(machine))).arg("setpriv");
                command
            }
            Self::Loopback { .. } => Command::new("setpriv"),
        };
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }

    /// Pulls a cable out, as far as machine and program can tell, or puts it back in.
    pub fn set(&self, machine: usize, cable: Cable, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        match cable {
            // Here the end that is not the machine's: it keeps its addresses, and loses its carrier.
            Cable::Inner => ip(&["link", "set", &self.link(machine, cable), state]),
            // And here the other one: those who call lose no route, which would have them call somebody else.
            Cable::Outer => ip(&["-n", &self.space(machine), "link", "set", "o0", state]),
        }
        .unwrap();
    }

    fn space(&self, machine: usize) -> String {
        let Self::Namespaces { name, .. } = self else { panic!("there are no namespaces") };
        format!("{name}m{}", machine + 1)
    }

    fn link(&self, machine: usize, cable: Cable) -> String {
        let Self::Namespaces { name, .. } = self else { panic!("there are no cables") };
        format!("{name}{}{}", cable.letter(), machine + 1)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Namespaces { name, machines, .. } = &*self {
            for machine in 0..*machines {
                // What was never made cannot be removed.
                let _ = ip(&["netns", "del", &self.space(machine)]);
            }
            let _ = ip(&["link", "del", name]);
        }
    }
}

/// Asks `ip` for something.
fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {}", arguments.join(" "), complaint.trim())) }
}

/// A network that this machine does not know yet.
fn free_net() -> [u8; 2] {
    let known = Command::new("ip").args(["-4", "route"]).output();
    let known = known.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut random = Random(u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    loop {
        let [a, b] = [64 + random.below(128) as u8, random.below(256) as u8];
        if !known.contains(&format!("10.{a}.{b}.")) {
            return [a, b];
        }
    }
}

/// Removes what runs have left behind that were ended before they could.
fn remove_stale() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((net, _)) = name.split_once('m')
            && is_stale(net, PREFIX)
        {
            let _ = ip(&["netns", "del", &name]);
        }
    }
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().join("bridge").exists() && is_stale(&name, PREFIX) {
            let _ = ip(&["link", "del", &name]);
        }
    }
}

/// Whether a name is that of a run whose process is gone.
pub fn is_stale(name: &str, prefix: &str) -> bool {
    let process = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
    process.is_some_and(|process| process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists())
}
