//! How much of the sending each installation may use: its requests in flight, and less when its
//! receiver is in trouble. Pure bookkeeping of one worker; forgotten when it ends.

use std::collections::HashMap;

use pgrx::Uuid;

/// After this many failures without a success the receiver is probed with one request at a time.
const TROUBLED_AFTER: u32 = 3;

#[derive(Default)]
struct Lane {
    in_flight: usize,
    failures: u32,
}

/// The lanes of all installations that have requests in flight or a receiver in trouble.
#[derive(Default)]
pub struct Lanes {
    lanes: HashMap<Uuid, Lane>,
}

impl Lanes {
    /// A request of the installation went out.
    pub fn started(&mut self, installation: Uuid) {
        self.lanes.entry(installation).or_default().in_flight += 1;
    }

    /// A request of the installation came back. `healthy`: the receiver answered, whatever it said
    /// about this delivery.
    pub fn finished(&mut self, installation: Uuid, healthy: bool) {
        let Some(lane) = self.lanes.get_mut(&installation) else {
            return;
        };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.failures = if healthy {
            0
        } else {
            lane.failures.saturating_add(1)
        };
        if lane.in_flight == 0 && lane.failures == 0 {
            self.lanes.remove(&installation);
        }
    }

    /// Installations whose room differs from `most`, and the room each has left.
    pub fn rooms(&self, most: usize) -> (Vec<Uuid>, Vec<i32>) {
        self.lanes
            .iter()
            .map(|(installation, lane)| {
                let most = if lane.failures >= TROUBLED_AFTER {
                    1
                } else {
                    most
                };
                let room = most.saturating_sub(lane.in_flight);
                (*installation, i32::try_from(room).unwrap_or(i32::MAX))
            })
            .unzip()
    }
}
