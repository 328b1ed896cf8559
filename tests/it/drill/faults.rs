//! What goes wrong, and when it is right again.

use super::world::{Life, Ms, NODES, TTL, World};
use crate::topology::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Switchover,
    PostmasterKilled(usize),
    NodeKilled(usize),
    NodeFrozen(usize),
    PatroniKilled(usize),
    PatroniFrozen(usize),
    CutFromDcs(usize),
    /// pilotfish alone cannot reach a node's REST API.
    Unheard(usize),
    AllUnheard,
    DcsLost,
    ClockSet(usize, bool, Ms),
}

/// When it begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub fault: Fault,
    pub begins: Ms,
    pub ends: Ms,
}

/// Mostly what hits the leader: that is what matters. It is node 0 at first.
pub fn plan(dice: &mut Dice, length: Ms) -> Vec<Planned> {
    let node = |dice: &mut Dice| if dice.chance(50) { 0 } else { dice.below(NODES.len()) };
    let planned = |dice: &mut Dice| {
        let i = node(dice);
        let fault = match dice.below(12) {
            0 | 1 => Fault::Switchover,
            2 => Fault::PostmasterKilled(i),
            3 => Fault::NodeKilled(i),
            4 => Fault::NodeFrozen(i),
            5 => Fault::PatroniKilled(i),
            6 => Fault::PatroniFrozen(i),
            7 => Fault::CutFromDcs(i),
            8 => Fault::Unheard(i),
            9 => Fault::AllUnheard,
            10 => Fault::DcsLost,
            _ => Fault::ClockSet(i, dice.chance(70), dice.below(2 * TTL as usize) as Ms),
        };
        let begins = 300 + dice.below(length as usize * 2 / 3) as Ms;
        Planned { fault, begins, ends: begins + 200 + dice.below(2 * TTL as usize) as Ms }
    };
    (0..1 + dice.below(5)).map(|_| planned(dice)).collect()
}

pub fn begin(world: &mut World, fault: Fault) {
    match fault {
        Fault::Switchover => {
            if let Some(holder) = world.holder() {
                world.nodes[holder].leaves = true;
            }
        }
        Fault::PostmasterKilled(i) => world.crash(i),
        Fault::NodeKilled(i) => {
            world.crash(i);
            world.nodes[i].patroni = Life::Dead;
        }
        Fault::NodeFrozen(i) => {
            world.nodes[i].server_frozen = true;
            world.nodes[i].patroni = Life::Frozen;
        }
        Fault::PatroniKilled(i) => world.nodes[i].patroni = Life::Dead,
        Fault::PatroniFrozen(i) => world.nodes[i].patroni = Life::Frozen,
        Fault::CutFromDcs(i) => world.nodes[i].reaches_dcs = false,
        Fault::Unheard(i) => world.nodes[i].is_heard = false,
        Fault::AllUnheard => world.nodes.iter_mut().for_each(|node| node.is_heard = false),
        Fault::DcsLost => world.toggle_dcs(),
        Fault::ClockSet(i, back, by) => world.set_clock(i, back, by),
    }
}

/// What came in between may have hit the same node: it is made well all the same.
pub fn end(world: &mut World, fault: Fault) {
    match fault {
        Fault::Switchover | Fault::PostmasterKilled(_) | Fault::ClockSet(..) => {}
        Fault::NodeKilled(i) | Fault::PatroniKilled(i) | Fault::PatroniFrozen(i) => {
            world.nodes[i].patroni = Life::Runs;
        }
        Fault::NodeFrozen(i) => {
            world.nodes[i].server_frozen = false;
            world.nodes[i].patroni = Life::Runs;
        }
        Fault::CutFromDcs(i) => world.nodes[i].reaches_dcs = true,
        Fault::Unheard(i) => world.nodes[i].is_heard = true,
        Fault::AllUnheard => world.nodes.iter_mut().for_each(|node| node.is_heard = true),
        Fault::DcsLost => world.toggle_dcs(),
    }
}
