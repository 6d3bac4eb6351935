//! Links: what lies between each ordered pair of hosts.
//!
//! A link has a latency drawn from a uniform range, of which a share may come from a second one (a tail: queues that
//! fill, a detour), a bandwidth shared by all connections of the pair, and a loss that shows as retransmission delay,
//! since TCP hides it. Setting up a connection may take longer than a packet does. It can be cut (nothing arrives), or
//! jammed (connections are accepted, their data does not arrive). The way back is a link of its own.

use wire::drive::Nanos;

use super::chance::{Chance, derive};
use super::time::{Between, SimTime};

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// One way.
    pub latency: Between,
    /// Bytes a second; absent: unlimited.
    pub bandwidth: Option<u64>,
    /// How many of a million segments (of 1,448 bytes) are lost and sent again.
    pub loss_ppm: u32,
    /// How many of a million messages have another latency, and which.
    pub tail: Option<(u32, Between)>,
    /// How much longer a connection that is asked for this way takes to stand.
    pub connect: Option<Between>,
}

impl LinkSpec {
    /// A link without loss, of unlimited bandwidth.
    pub const fn with_latency(latency: Between) -> LinkSpec {
        LinkSpec { latency, bandwidth: None, loss_ppm: 0, tail: None, connect: None }
    }
}

impl Default for LinkSpec {
    fn default() -> LinkSpec {
        LinkSpec::with_latency(Between::micros(200, 600))
    }
}

/// A host's link to itself: the loopback interface.
const LOOPBACK: LinkSpec = LinkSpec::with_latency(Between::micros(10, 30));

/// Linux's TCP: the first retransmission time-out, its upper bound, and when it gives up (tcp_retries2 = 15).
pub const RTO_MIN: Nanos = Nanos::from_millis(200);
/// The upper bound of a retransmission time-out.
pub const RTO_MAX: Nanos = Nanos::from_secs(120);
/// After this time without an acknowledgement a connection dies.
pub const GIVE_UP: Nanos = Nanos::from_millis(924_600);

const SEGMENT: u64 = 1_448;

/// One direction between two hosts.
#[derive(Clone, Debug)]
pub struct Link {
    spec: LinkSpec,
    default: LinkSpec,
    /// Nothing arrives.
    pub cut: bool,
    /// Connections are accepted, their data does not arrive.
    pub jam: bool,
    free_at: SimTime,
    latency: Chance,
    loss: Option<Box<Chance>>,
    tail: Option<Box<Chance>>,
    connect: Option<Box<Chance>>,
}

impl Link {
    fn new(seed: u64, from: &str, to: &str, default: LinkSpec) -> Link {
        let default = if from == to { LOOPBACK } else { default };
        let latency = derive(seed, &format!("link/{from}/{to}/latency"));
        Link {
            spec: default,
            default,
            cut: false,
            jam: false,
            free_at: SimTime::ZERO,
            latency,
            loss: None,
            tail: None,
            connect: None,
        }
    }

    /// When a small packet arrives that leaves now: a connection request, an acknowledgement.
    #[inline]
    pub fn packet(&mut self, now: SimTime) -> SimTime {
        now + self.latency.between(self.spec.latency)
    }
}

/// All links.
#[derive(Clone, Debug)]
pub struct Links {
    seed: u64,
    default: LinkSpec,
    names: Vec<String>,
    links: Vec<Vec<Link>>,
}

impl Links {
    /// No hosts yet.
    pub fn new(seed: u64, default: LinkSpec) -> Links {
        Links { seed, default, names: Vec::new(), links: Vec::new() }
    }

    /// Adds a host, linked to all others and to itself.
    pub fn add_host(&mut self, name: &str) {
        self.names.push(name.to_owned());
        for (from, row) in self.names.iter().zip(&mut self.links) {
            row.push(Link::new(self.seed, from, name, self.default));
        }
        let row = self.names.iter().map(|to| Link::new(self.seed, name, to, self.default)).collect();
        self.links.push(row);
    }

    /// The link from one host to another.
    #[inline]
    pub fn at(&mut self, from: u32, to: u32) -> &mut Link {
        &mut self.links[from as usize][to as usize]
    }

    /// Whether data does not get from one host to another.
    #[inline]
    pub fn blocked(&self, from: u32, to: u32) -> bool {
        let link = &self.links[from as usize][to as usize];
        link.cut | link.jam
    }

    /// Whether nothing at all gets from one host to another.
    #[inline]
    pub fn cut(&self, from: u32, to: u32) -> bool {
        self.links[from as usize][to as usize].cut
    }

    /// When `len` bytes arrive that leave `from` now.
    #[inline]
    pub fn transit(&mut self, now: SimTime, from: u32, to: u32, len: usize) -> SimTime {
        let link = &mut self.links[from as usize][to as usize];
        let mut leaves = now;
        if let Some(bandwidth) = link.spec.bandwidth {
            let nanos = u128::from(len as u64) * 1_000_000_000 / u128::from(bandwidth.max(1));
            leaves = leaves.max(link.free_at) + Nanos(nanos as u64);
            link.free_at = leaves;
        }
        let latency = link.latency.between(link.spec.latency);
        if link.spec.loss_ppm == 0 && link.spec.tail.is_none() {
            return leaves + latency;
        }
        let latency = self.tail(from, to).unwrap_or(latency);
        leaves + latency + self.retransmissions(from, to, len)
    }

    /// The latency of a message that belongs to the tail, if it does.
    fn tail(&mut self, from: u32, to: u32) -> Option<Nanos> {
        let (a, b) = (&self.names[from as usize], &self.names[to as usize]);
        let link = &mut self.links[from as usize][to as usize];
        let (share, latency) = link.spec.tail?;
        let chance =
            link.tail.get_or_insert_with(|| Box::new(derive(self.seed, &format!("link/{a}/{b}/tail"))));
        chance.share(share).then(|| chance.between(latency))
    }

    /// How much longer than its packets a connection from one host to another takes to stand.
    pub fn connect_takes(&mut self, from: u32, to: u32) -> Nanos {
        let (a, b) = (&self.names[from as usize], &self.names[to as usize]);
        let link = &mut self.links[from as usize][to as usize];
        let Some(longer) = link.spec.connect else { return Nanos::ZERO };
        let chance =
            link.connect.get_or_insert_with(|| Box::new(derive(self.seed, &format!("link/{a}/{b}/connect"))));
        chance.between(longer)
    }

    /// The delay by lost segments. A short message waits for the retransmission timer; in a longer one the segments
    /// behind the lost one show the gap after a round trip, unless the retransmission is lost as well.
    fn retransmissions(&mut self, from: u32, to: u32, len: usize) -> Nanos {
        let (a, b) = (&self.names[from as usize], &self.names[to as usize]);
        let link = &mut self.links[from as usize][to as usize];
        if link.spec.loss_ppm == 0 {
            return Nanos::ZERO;
        }
        let loss =
            link.loss.get_or_insert_with(|| Box::new(derive(self.seed, &format!("link/{a}/{b}/loss"))));
        let segments = (len as u64).div_ceil(SEGMENT).max(1);
        let round_trip = Nanos(link.spec.latency.high.0 * 2);
        let mut delay = Nanos::ZERO;
        for segment in 0..segments {
            let mut timeout = RTO_MIN;
            let mut first = true;
            while loss.share(link.spec.loss_ppm) && delay.0 < GIVE_UP.0 {
                let fast = first && segments - segment > 3;
                delay = Nanos(delay.0 + if fast { round_trip.0 } else { timeout.0 });
                timeout = Nanos((timeout.0 * 2).min(RTO_MAX.0));
                first = false;
            }
        }
        delay
    }

    /// Changes a link from now on; `None` gives it its starting behaviour back.
    pub fn set(&mut self, from: u32, to: u32, spec: Option<LinkSpec>) {
        let link = self.at(from, to);
        link.spec = spec.unwrap_or(link.default);
        if link.spec.bandwidth.is_none() {
            link.free_at = SimTime::ZERO;
        }
    }

    /// How a link behaves now.
    pub fn spec(&self, from: u32, to: u32) -> LinkSpec {
        self.links[from as usize][to as usize].spec
    }

    /// Ends all cuts and jams and gives every link its starting behaviour back.
    pub fn heal_all(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.cut = false;
            link.jam = false;
            link.spec = link.default;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_hosts(spec: LinkSpec) -> Links {
        let mut links = Links::new(7, spec);
        links.add_host("a");
        links.add_host("b");
        links
    }

    #[test]
    fn latency_is_in_its_range_and_bandwidth_is_shared() {
        let mut links = two_hosts(LinkSpec::default());
        for _ in 0..100 {
            let arrives = links.transit(SimTime(1_000), 0, 1, 50).since(SimTime(1_000));
            assert!((200_000..=600_000).contains(&arrives.0));
        }
        let latency = Between::exactly(Nanos::from_millis(1));
        links.set(0, 1, Some(LinkSpec { bandwidth: Some(1_000_000), ..LinkSpec::with_latency(latency) }));
        let at: Vec<u64> = (0..3).map(|_| links.transit(SimTime::ZERO, 0, 1, 1_000).0 / 1_000_000).collect();
        assert_eq!(at, [2, 3, 4]);
        links.set(0, 1, None);
        assert_eq!(links.spec(0, 1), LinkSpec::default());
    }

    #[test]
    fn loss_delays_and_leaves_latency_draws_alone() {
        let lossy = LinkSpec { loss_ppm: 500_000, ..LinkSpec::default() };
        let (mut with, mut without) = (two_hosts(lossy), two_hosts(LinkSpec::default()));
        let mut delayed = 0;
        for _ in 0..1_000 {
            let a = with.transit(SimTime::ZERO, 0, 1, 100);
            let b = without.transit(SimTime::ZERO, 0, 1, 100);
            assert!(a == b || a.since(b) >= RTO_MIN);
            delayed += u32::from(a != b);
        }
        assert!((400..600).contains(&delayed), "{delayed}");
    }

    #[test]
    fn a_tail_takes_its_share_and_leaves_the_other_draws_alone() {
        let tail = Between { low: Nanos::from_millis(50), high: Nanos::from_secs(5) };
        let spec = LinkSpec { tail: Some((100_000, tail)), ..LinkSpec::default() };
        let (mut with, mut without) = (two_hosts(spec), two_hosts(LinkSpec::default()));
        let mut late = 0;
        for _ in 0..1_000 {
            let a = with.transit(SimTime::ZERO, 0, 1, 100);
            let b = without.transit(SimTime::ZERO, 0, 1, 100);
            assert!(a == b || (tail.low..=tail.high).contains(&a.since(SimTime::ZERO)));
            late += u32::from(a != b);
        }
        assert!((60..140).contains(&late), "{late}");
    }

    #[test]
    fn streams_do_not_depend_on_the_order_of_hosts() {
        let mut links = Links::new(7, LinkSpec::default());
        links.add_host("b");
        links.add_host("lab");
        links.add_host("a");
        let mut two = two_hosts(LinkSpec::default());
        assert_eq!(links.transit(SimTime::ZERO, 2, 0, 9), two.transit(SimTime::ZERO, 0, 1, 9));
    }
}
