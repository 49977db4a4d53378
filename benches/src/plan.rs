//! The order of a run: which servers in which scenarios, and who comes first.

use std::ops::RangeInclusive;

use crate::peer::{Peer, Places};
use crate::report;
use crate::scenario::{Form, Scenario};

/// Who is measured in what.
pub struct Plan {
    scenarios: Vec<(Scenario, Vec<Peer>)>,
    /// Servers that cannot run here, and why.
    pub missing: Vec<(Peer, String)>,
}

impl Plan {
    /// The plan of a form. Empty lists mean what the form has; servers that are not here are left out.
    pub fn new(form: Form, scenarios: &[Scenario], peers: &[Peer], places: &Places) -> Self {
        let all_peers = <Peer as clap::ValueEnum>::value_variants();
        let all_scenarios = <Scenario as clap::ValueEnum>::value_variants();
        let missing: Vec<(Peer, String)> =
            all_peers.iter().filter_map(|&peer| Some((peer, peer.missing(places)?))).collect();
        let is_wanted = |scenario: Scenario, peer: Peer| {
            let is_named =
                if peers.is_empty() { scenario.measures(form, peer) } else { peers.contains(&peer) };
            is_named && scenario.applies_to(peer) && !missing.iter().any(|(absent, _)| *absent == peer)
        };
        let is_asked_for = |scenario: &Scenario| {
            if scenarios.is_empty() { scenario.belongs_to(form) } else { scenarios.contains(scenario) }
        };
        let chosen = all_scenarios.iter().copied().filter(is_asked_for);
        let scenarios = chosen
            .map(|scenario| {
                (scenario, all_peers.iter().copied().filter(|&peer| is_wanted(scenario, peer)).collect())
            })
            .collect();
        Self { scenarios, missing }
    }

    /// What the targets of the report compare, of what this plan has.
    #[must_use]
    pub fn of_targets(&self) -> Self {
        let compared: Vec<_> = report::compared().collect();
        let scenarios = self.scenarios.iter().map(|(scenario, peers)| {
            let is_compared = |peer: &Peer| compared.contains(&(&scenario.name(), &peer.name()));
            (*scenario, peers.iter().copied().filter(is_compared).collect())
        });
        Self { scenarios: scenarios.collect(), missing: Vec::new() }
    }

    /// All measurements in order, repetitions by their numbers. The servers of a scenario follow each other directly, and
    /// each repetition begins with another one, so that whatever drifts on the machine meets all of them.
    pub fn turns(&self, repetitions: RangeInclusive<usize>) -> impl Iterator<Item = (usize, Scenario, Peer)> {
        repetitions.flat_map(move |repetition| {
            self.scenarios.iter().flat_map(move |(scenario, peers)| {
                let mut order = peers.clone();
                order.rotate_left((repetition - 1) % peers.len().max(1));
                order.into_iter().map(move |peer| (repetition, *scenario, peer))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn servers_change_places_with_each_repetition_and_absent_ones_are_named() {
        let nowhere = Places {
            programs: PathBuf::from("/nowhere"),
            peers: PathBuf::from("/nowhere"),
            scratch: PathBuf::from("/nowhere"),
            postgres_url: None,
        };
        let plan = Plan::new(Form::Full, &[], &[], &nowhere);
        assert_eq!((plan.turns(1..=1).count(), plan.missing.len()), (0, 9));

        let plan = Plan {
            scenarios: vec![(Scenario::Rooms, vec![Peer::FidibusMemory, Peer::Hocuspocus, Peer::RelayTokio])],
            missing: Vec::new(),
        };
        let firsts: Vec<Peer> = plan.turns(1..=3).step_by(3).map(|(_, _, peer)| peer).collect();
        assert_eq!(firsts, [Peer::FidibusMemory, Peer::Hocuspocus, Peer::RelayTokio]);
    }

    #[test]
    fn of_the_targets_is_what_they_compare() {
        let peers = <Peer as clap::ValueEnum>::value_variants();
        let scenarios = <Scenario as clap::ValueEnum>::value_variants();
        // A name that a target spells wrongly would be measured by nobody.
        for (scenario, peer) in report::compared() {
            assert!(scenarios.iter().any(|known| known.name() == scenario), "{scenario}");
            assert!(peers.iter().any(|known| known.name() == peer), "{peer}");
        }
        let plan = Plan {
            scenarios: vec![(Scenario::Fanout500Busy, peers.to_vec()), (Scenario::Slow, peers.to_vec())],
            missing: Vec::new(),
        };
        let turns: Vec<_> = plan.of_targets().turns(2..=2).collect();
        let fanout = |peer| (2, Scenario::Fanout500Busy, peer);
        assert_eq!(turns.len(), 3, "slow compares a server with itself");
        for peer in [Peer::FidibusMemory, Peer::Hocuspocus, Peer::RelayTokio] {
            assert!(turns.contains(&fanout(peer)));
        }
    }
}
