//! A made-up trace: what happens to a cluster, step by step.

use std::fmt;
use std::time::Duration;

use pilotfish::topology::{Member, Observation, Operator};

use super::dice::Dice;
use super::member;
use super::simulation::{Simulation, nonsense};

/// Where members live, each place with the two names that its member may go by.
const PLACES: [[&str; 2]; 5] = [["a", "A"], ["b", "B"], ["c", "C"], ["d", "D"], ["e", "E"]];

/// A member's place, and which of its names it has just now.
pub type Placed = (usize, usize);

#[derive(Clone)]
pub enum Step {
    /// A check of the node at this place came back.
    Heard(usize, Box<Observation>),
    /// Time passed.
    Nothing,
    Suspect(usize),
    Operator(usize, Operator),
    Members(Vec<Placed>),
    Grace(Duration),
    Reset,
    /// pilotfish itself stood still until now.
    StoodStill,
}

#[derive(Clone)]
pub struct Script {
    pub members: Vec<Placed>,
    pub played_twice: bool,
    /// Each after some time has passed.
    pub steps: Vec<(Duration, Step)>,
}

pub fn name(placed: Placed) -> &'static str {
    PLACES[placed.0][placed.1]
}

pub fn members(placed: &[Placed]) -> Vec<Member> {
    placed.iter().map(|&placed| member(name(placed), PLACES[placed.0][0])).collect()
}

impl Script {
    pub fn made_up(seed: u64) -> Script {
        let mut dice = Dice::new(seed);
        let size = 1 + dice.below(PLACES.len());
        let mut simulation = Simulation::new(&mut dice, size);
        // One trace in ten knows no sense at all, one in three is sane throughout.
        let nonsense_percent = dice.pick(&[0, 0, 0, 2, 5, 10, 20, 40, 60, 100]);
        let length = 20 + dice.below(41);
        let mut steps = Vec::with_capacity(length);
        for _ in 0..length {
            if dice.chance(60) {
                simulation.live(&mut dice);
            }
            let pause =
                dice.pick(&[0, 0, 1, 50, 100, 100, 100, 1_000, 1_000, 1_000, 2_000, 5_000, 29_000, 31_000]);
            let step = made_up_step(&mut dice, &simulation, size, nonsense_percent);
            steps.push((Duration::from_millis(pause), step));
        }
        let members = (0..size).map(|place| (place, 0)).collect();
        Script { members, played_twice: dice.chance(25), steps }
    }
}

fn made_up_step(dice: &mut Dice, simulation: &Simulation, size: usize, nonsense_percent: usize) -> Step {
    let place = dice.below(size);
    match dice.below(100) {
        0..84 if dice.chance(nonsense_percent) => Step::Heard(place, nonsense(dice).into()),
        0..84 => Step::Heard(place, simulation.answer(dice, place).into()),
        84..90 => Step::Nothing,
        90..93 => Step::Suspect(place),
        93..96 => {
            let wish = dice.pick(&[Operator::Ready, Operator::Ready, Operator::Drain, Operator::Maint]);
            Step::Operator(place, wish)
        }
        96..98 => {
            let stays = |place: usize| dice.chance(85).then(|| (place, dice.below(2)));
            Step::Members((0..size).filter_map(stays).collect())
        }
        98 => Step::Grace(Duration::from_secs(dice.pick(&[1, 10, 30, 60]))),
        _ if dice.chance(40) => Step::Reset,
        _ if dice.chance(60) => Step::StoodStill,
        _ => Step::Nothing,
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "members {}", names(&self.members))?;
        let mut now = Duration::ZERO;
        for (pause, step) in &self.steps {
            now += *pause;
            writeln!(f, "{:8.3}  {step}", now.as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |place: &usize| PLACES[*place][0];
        match self {
            Step::Heard(place, observation) => write!(f, "{} says {}", at(place), in_words(observation)),
            Step::Nothing => write!(f, "nothing"),
            Step::Suspect(place) => write!(f, "a dial of {} failed", at(place)),
            Step::Operator(place, wish) => write!(f, "{wish} {}", at(place)),
            Step::Members(placed) => write!(f, "members {}", names(placed)),
            Step::Grace(grace) => write!(f, "leader_grace {grace:?}"),
            Step::Reset => write!(f, "reset"),
            Step::StoodStill => write!(f, "pilotfish stood still"),
        }
    }
}

pub fn in_words(observation: &Observation) -> String {
    let r = match observation {
        Observation::Silent(silence) => return format!("nothing: {}", silence.kind.as_str()),
        Observation::Answered(report) => report,
    };
    let role = r.role.as_str();
    let mut words = format!("{} {role} {}, timeline {:?}", r.status, r.state, r.timeline);
    let marks = [(r.pause, "pause"), (r.noloadbalance, "noloadbalance")];
    let marks = marks.iter().filter(|(marked, _)| *marked).map(|(_, mark)| *mark);
    for mark in marks.chain(r.replication_state.as_deref()) {
        words.extend([", ", mark]);
    }
    words.extend([", of ", r.system_identifier.as_deref().unwrap_or("no stated cluster")]);
    words
}

fn names(placed: &[Placed]) -> String {
    placed.iter().map(|&placed| name(placed)).collect::<Vec<_>>().join(" ")
}
