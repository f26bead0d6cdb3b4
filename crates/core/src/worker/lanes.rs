//! Whose job is next: a deficit round robin over tenants, in which those that have hardly used their share come first.
//!
//! Each tenant has an account of run time, which each round fills by the tenant's weight. It may begin jobs until the account
//! is used up, and then waits for its next turn. What is charged is how long jobs run, not how many there are: a tenant of
//! long jobs does not get more of the process than one of short ones.
//!
//! A tenant that becomes active is served before those with a backlog, as fq_codel does for packets (RFC 8290): with ten
//! thousand tenants a whole round takes too long for somebody who has one job. Unlike there, it is so for as long as the
//! account lasts: each time it comes, it may use a turn's worth of it. A newcomer's account holds some rounds' worth, so that
//! a few short jobs, one after the other, wait for no round, also on a machine so busy that each takes long. From then on it
//! gets what a round fills, as everybody does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use crate::db::Lane;
use crate::shared::TenantId;

/// Nobody owes more than this: a job of a day does not keep its tenant out for a week.
const MOST_DEBT: i64 = 3_600_000_000;
/// What a weight of 1 adds to the account in each round, in microseconds of run time.
const QUANTUM: i64 = 50_000;
/// How many rounds' worth an account holds at most, and a newcomer's at first.
const MOST_KEPT: i64 = 5;
/// What a kind of job is believed to take before one has run: so long that none is claimed ahead of a free slot.
const UNKNOWN: i64 = 1_000_000;
/// Lanes that one claim asks at most.
const MOST_ASKED: usize = 64;
/// Tenants that one claim passes over at most, since their jobs are too long to be claimed ahead of a free slot.
const MOST_PASSED: usize = 64;
/// Lanes that are known at most; the rest are found again when there is room.
const MOST_KNOWN: usize = 100_000;

/// What is known of the lanes with jobs, and whose turn it is.
#[derive(Default)]
pub(super) struct Lanes {
    flows: HashMap<TenantId, Flow>,
    /// Tenants that have just come, or come again: they are served before all others.
    fresh: VecDeque<TenantId>,
    /// Tenants that have something left to spend: before the round.
    unfinished: VecDeque<TenantId>,
    /// All tenants of `flows`, in the order of their next turns.
    round: VecDeque<TenantId>,
    known: usize,
    /// How long the jobs of a kind have run lately, in microseconds.
    run_times: HashMap<&'static str, i64>,
    steering: Steering,
}

/// What operators have said, and what the process may do: see [`Lanes::steer`].
#[derive(Debug, Clone, Default)]
pub(super) struct Steering {
    /// The kinds that this process runs and nobody has paused, with how many of each one tenant may have running.
    pub(super) kinds: BTreeMap<&'static str, Option<u16>>,
    /// Tenants that are paused or suspended.
    pub(super) paused: std::collections::HashSet<TenantId>,
    /// Weights other than 1.
    pub(super) weights: HashMap<TenantId, i64>,
}

/// One tenant's lanes and account.
#[derive(Default)]
struct Flow {
    /// Where each lane begins: no job before this id is left. The most urgent lane comes first.
    lanes: BTreeMap<(u8, &'static str), Uuid>,
    account: i64,
    /// What of the account it keeps until it comes again, or until its next turn.
    kept: i64,
    /// How many of its jobs have been claimed here and are not over.
    running: BTreeMap<&'static str, usize>,
    /// Whether it is among the fresh or the unfinished.
    is_ahead: bool,
}

/// How many jobs of one lane a claim asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LaneQuota {
    pub(super) lane: Lane,
    /// The ids from here on.
    pub(super) from: Uuid,
    pub(super) quota: usize,
    /// How many of the kind may run in the tenant, in all processes together.
    pub(super) at_most: Option<u16>,
    /// What each was charged, in microseconds.
    pub(super) each: i64,
}

/// How much can be claimed.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClaimRoom {
    /// Jobs that could begin at once.
    pub(super) slots: usize,
    /// How long those may take in all that are claimed ahead of a free slot, in microseconds.
    pub(super) ahead: i64,
    /// How many jobs of one tenant may run at a time.
    pub(super) of_a_tenant: usize,
}

impl ClaimRoom {
    /// How many jobs of this length fit, at most.
    fn fits(&self, each: i64) -> usize {
        self.slots + usize::try_from(self.ahead / each).unwrap_or(0)
    }

    /// What is left after so many of this length.
    fn less(self, count: usize, each: i64) -> Self {
        let ahead = i64::try_from(count.saturating_sub(self.slots)).unwrap_or(i64::MAX);
        Self {
            slots: self.slots.saturating_sub(count),
            ahead: self.ahead - ahead.saturating_mul(each),
            ..self
        }
    }
}

/// What one claim has asked for so far.
struct Pass {
    room: ClaimRoom,
    asks: Vec<LaneQuota>,
    /// How many tenants it has passed over.
    passed: usize,
}

impl Pass {
    /// Whether more can be asked.
    fn has_room(&self) -> bool {
        (self.room.slots > 0 || self.room.ahead > 0)
            && self.asks.len() < MOST_ASKED
            && self.passed < MOST_PASSED
    }
}

impl Lanes {
    /// Jobs have come into a lane, from this id on: their tenant is served before the round, as far as its account goes. One
    /// that is not known is a newcomer.
    pub(super) fn wake(&mut self, lane: Lane, from: Uuid) {
        let turn = self.steering.quantum(lane.tenant);
        let flow = self.note(lane, from, self.steering.most(lane.tenant));
        flow.spend(turn);
        if flow.goes_ahead() {
            self.fresh.push_back(lane.tenant);
        }
    }

    /// A look has found jobs in a lane, which may have waited for long: a tenant that is not known takes its place in the
    /// round. Thousands that are found at a start, each as a newcomer, would be served before one that comes then.
    pub(super) fn find(&mut self, lane: Lane, from: Uuid) {
        self.note(lane, from, 0);
        self.resume(lane.tenant);
    }

    /// Notes where a lane begins, and what is on the account of its tenant where that is not known.
    fn note(&mut self, lane: Lane, from: Uuid, account: i64) -> &mut Flow {
        let flow = self.flows.entry(lane.tenant).or_insert_with(|| {
            self.round.push_back(lane.tenant);
            Flow { account, ..Flow::default() }
        });
        let key = (lane.priority, lane.kind);
        if let Some(begins) = flow.lanes.get_mut(&key) {
            *begins = from.min(*begins);
        } else if self.known < MOST_KNOWN {
            flow.lanes.insert(key, from);
            self.known += 1;
        }
        flow
    }

    /// Lets a tenant go on that has jobs, and something left to spend: its lanes were empty, or it had been charged too much.
    fn resume(&mut self, tenant: TenantId) {
        if self.flows.get_mut(&tenant).is_some_and(Flow::goes_ahead) {
            self.unfinished.push_back(tenant);
        }
    }

    /// Takes over what operators have said since.
    pub(super) fn steer(&mut self, steering: Steering) {
        self.steering = steering;
    }

    /// The lanes to claim from next. Their quotas are charged to the tenants' accounts.
    pub(super) fn plan(&mut self, room: ClaimRoom) -> Vec<LaneQuota> {
        let asks = self.go_round(room);
        // Where everybody who could be served is in debt, the rounds that pass until one is not are taken at once.
        if asks.is_empty() && room.slots > 0 && self.skip_rounds(room) { self.go_round(room) } else { asks }
    }

    /// One round at most.
    fn go_round(&mut self, room: ClaimRoom) -> Vec<LaneQuota> {
        let mut pass = Pass { room, asks: Vec::new(), passed: 0 };
        self.serve_ahead(&mut pass);
        // While one of those waits for a free slot, nobody of the round is claimed ahead of it: none would become free.
        if pass.passed == 0 {
            self.serve_round(&mut pass);
        }
        pass.asks
    }

    /// Those before the round.
    fn serve_ahead(&mut self, pass: &mut Pass) {
        let (fresh, unfinished) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.unfinished));
        self.fresh = self.serve_queue(fresh, pass);
        let left = self.serve_queue(unfinished, pass);
        let later = std::mem::replace(&mut self.unfinished, left);
        self.unfinished.extend(later);
    }

    /// Serves a queue from its beginning, and gives back who is left in it. Those who go on are unfinished from here on.
    fn serve_queue(&mut self, mut queue: VecDeque<TenantId>, pass: &mut Pass) -> VecDeque<TenantId> {
        let mut waiting = Vec::new();
        while pass.has_room()
            && let Some(tenant) = queue.pop_front()
        {
            if !self.has_room(tenant, pass.room) {
                waiting.push(tenant); // it is the first again when there is a free slot
                pass.passed += 1;
            } else if self.serve(tenant, pass) {
                self.unfinished.push_back(tenant);
            }
        }
        waiting.into_iter().rev().for_each(|tenant| queue.push_front(tenant));
        queue
    }

    /// Those whose turn it is.
    fn serve_round(&mut self, pass: &mut Pass) {
        let mut due = Vec::new();
        for _ in 0..self.round.len() {
            if !pass.has_room() {
                break;
            }
            let Some(tenant) = self.round.pop_front() else { break };
            if !self.has_room(tenant, pass.room) {
                due.push(tenant); // as above
                pass.passed += 1;
            } else if pass.asks.iter().any(|ask| ask.lane.tenant == tenant) {
                due.push(tenant); // no lane twice in one claim
            } else if self.begin_turn(tenant, pass.room) && self.serve(tenant, pass) {
                self.unfinished.push_back(tenant);
            }
        }
        due.into_iter().rev().for_each(|tenant| self.round.push_front(tenant));
    }

    /// Whether what a tenant would begin next fits into the room: what takes long is not claimed ahead of a free slot.
    fn has_room(&self, tenant: TenantId, room: ClaimRoom) -> bool {
        let first = self.flows.get(&tenant).and_then(|flow| flow.first_lane(tenant, &self.steering, room));
        first.is_none_or(|(lane, ..)| room.fits(self.run_time(lane.kind)) > 0)
    }

    /// Begins a tenant's turn: its account is filled, and its next one is at the end of the round. Says whether it has one: a
    /// tenant without jobs is forgotten when its account is that of a newcomer again.
    fn begin_turn(&mut self, tenant: TenantId, room: ClaimRoom) -> bool {
        let Some(flow) = self.flows.get_mut(&tenant) else { return false };
        // Not while it has as many running as it may: what it owes for those it still owes.
        if flow.lanes.is_empty() || flow.first_lane(tenant, &self.steering, room).is_some() {
            let filled = flow.account + self.steering.quantum(tenant);
            flow.account = filled.min(self.steering.most(tenant));
            flow.spend(self.steering.quantum(tenant));
        }
        let idle = flow.lanes.is_empty() && flow.running.is_empty();
        if idle && flow.account == self.steering.most(tenant) {
            self.flows.remove(&tenant);
            return false;
        }
        self.round.push_back(tenant);
        true
    }

    /// What a tenant begins, as far as its account and the room go. Says whether it goes on before the round.
    fn serve(&mut self, tenant: TenantId, pass: &mut Pass) -> bool {
        let ask = self.ask(tenant, pass.room);
        let Some(flow) = self.flows.get_mut(&tenant) else { return false };
        flow.is_ahead = ask.is_some() && flow.has_more();
        if let Some(ask) = ask {
            pass.room = pass.room.less(ask.quota, ask.each);
            pass.asks.push(ask);
        }
        flow.is_ahead
    }

    fn ask(&mut self, tenant: TenantId, room: ClaimRoom) -> Option<LaneQuota> {
        let flow = self.flows.get_mut(&tenant).filter(|flow| flow.to_spend() > 0)?;
        let (lane, from, most) = flow.first_lane(tenant, &self.steering, room)?;
        let each = self.run_times.get(lane.kind).copied().unwrap_or(UNKNOWN).max(1);
        let affords = usize::try_from(flow.to_spend() / each).unwrap_or(usize::MAX).max(1);
        let quota = affords.min(room.fits(each)).min(most);
        if quota == 0 {
            return None; // too long to be claimed ahead
        }
        flow.account -= each * i64::try_from(quota).unwrap_or(0);
        *flow.running.entry(lane.kind).or_default() += quota;
        let at_most = self.steering.kinds.get(lane.kind).copied().flatten();
        Some(LaneQuota { lane, from, quota, at_most, each })
    }

    /// Fills the accounts as so many rounds would that the next turn takes the first of those who can be served out of debt.
    /// Says whether there is one.
    fn skip_rounds(&mut self, room: ClaimRoom) -> bool {
        let steering = &self.steering;
        let able =
            |(tenant, flow): &(&TenantId, &mut Flow)| flow.first_lane(**tenant, steering, room).is_some();
        let mut able: Vec<_> = self.flows.iter_mut().filter(able).collect();
        let rounds =
            able.iter().map(|(tenant, flow)| -flow.account.min(0) / steering.quantum(**tenant)).min();
        for (tenant, flow) in &mut able {
            flow.account += rounds.unwrap_or(0) * steering.quantum(**tenant);
        }
        rounds.is_some()
    }

    /// What came of asking: how many jobs were claimed, and the last one's id. A lane that had fewer is empty.
    pub(super) fn claimed(&mut self, ask: &LaneQuota, count: usize, last: Option<Uuid>) {
        let Some(flow) = self.flows.get_mut(&ask.lane.tenant) else { return };
        let missing = ask.quota.saturating_sub(count);
        let back = ask.each * i64::try_from(missing).unwrap_or(0);
        flow.account = (flow.account + back).min(self.steering.most(ask.lane.tenant));
        flow.release(ask.lane.kind, missing);
        let key = (ask.lane.priority, ask.lane.kind);
        if missing > 0 {
            // Not where somebody has rung meanwhile for an id that the claim did not see.
            if flow.lanes.get(&key).is_some_and(|begins| *begins == ask.from)
                && flow.lanes.remove(&key).is_some()
            {
                self.known -= 1;
            }
        } else if let (Some(begins), Some(last)) = (flow.lanes.get_mut(&key), last)
            && *begins == ask.from
        {
            *begins = last;
        }
        self.resume(ask.lane.tenant); // with another lane
    }

    /// A job is over: what it took is charged, in place of what was `charged` when it was claimed.
    pub(super) fn finished(&mut self, tenant: TenantId, kind: &'static str, took: Duration, charged: i64) {
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        let known = self.run_times.entry(kind).or_insert(took);
        *known += (took - *known) / 8;
        let Some(flow) = self.flows.get_mut(&tenant) else { return };
        let account = flow.account.saturating_sub(took - charged);
        flow.account = account.clamp(-MOST_DEBT, self.steering.most(tenant));
        flow.release(kind, 1);
        self.resume(tenant);
    }

    /// The shortest that any kind takes, in microseconds.
    pub(super) fn shortest(&self) -> i64 {
        self.run_times.values().copied().min().unwrap_or(UNKNOWN).max(1)
    }

    /// What a job of this kind is believed to take, in microseconds.
    pub(super) fn run_time(&self, kind: &str) -> i64 {
        self.run_times.get(kind).copied().unwrap_or(UNKNOWN).max(1)
    }
}

impl Steering {
    /// What a round adds to a tenant's account.
    fn quantum(&self, tenant: TenantId) -> i64 {
        QUANTUM * self.weights.get(&tenant).copied().unwrap_or(1).max(1)
    }

    /// What an account holds at most.
    fn most(&self, tenant: TenantId) -> i64 {
        MOST_KEPT * self.quantum(tenant)
    }
}

impl Flow {
    /// Lets it spend a turn's worth, as far as its account goes.
    fn spend(&mut self, turn: i64) {
        self.kept = (self.account - turn).max(0);
    }

    /// Puts it before the round, where it may begin something and is not there yet. Says whether that is so.
    fn goes_ahead(&mut self) -> bool {
        let goes = !self.is_ahead && self.has_more();
        self.is_ahead |= goes;
        goes
    }

    fn to_spend(&self) -> i64 {
        self.account - self.kept
    }

    /// Whether it may begin one more of its jobs before its next turn.
    fn has_more(&self) -> bool {
        self.to_spend() > 0 && !self.lanes.is_empty()
    }

    /// The most urgent lane that may be asked now, where it begins, and how many jobs of it may begin.
    fn first_lane(
        &self,
        tenant: TenantId,
        steering: &Steering,
        room: ClaimRoom,
    ) -> Option<(Lane, Uuid, usize)> {
        let all: usize = self.running.values().sum();
        let of_tenant = room.of_a_tenant.saturating_sub(all);
        if of_tenant == 0 || steering.paused.contains(&tenant) {
            return None;
        }
        self.lanes.iter().find_map(|((priority, kind), from)| {
            let most = *steering.kinds.get(kind)?;
            let running = self.running.get(kind).copied().unwrap_or(0);
            let room =
                most.map_or(of_tenant, |most| usize::from(most).saturating_sub(running).min(of_tenant));
            (room > 0).then_some((Lane { tenant, kind, priority: *priority }, *from, room))
        })
    }

    fn release(&mut self, kind: &'static str, count: usize) {
        if let Some(running) = self.running.get_mut(kind) {
            *running = running.saturating_sub(count);
            if *running == 0 {
                self.running.remove(kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "a.short";
    const LONG: &str = "a.long";

    fn lanes() -> Lanes {
        let mut lanes = Lanes::default();
        let kinds =
            [(SHORT, None), (LONG, None), ("a.new", None), ("a.capped", Some(2))].into_iter().collect();
        lanes.steer(Steering { kinds, ..Steering::default() });
        lanes.run_times = [(SHORT, 1_000), (LONG, 100_000), ("a.capped", 1_000)].into_iter().collect();
        lanes
    }

    fn slots(slots: usize) -> ClaimRoom {
        ClaimRoom { slots, ahead: 0, of_a_tenant: slots }
    }

    fn lane(tenant: u128, kind: &'static str) -> Lane {
        Lane { tenant: TenantId::from_uuid(Uuid::from_u128(tenant)), kind, priority: 1 }
    }

    /// So many of the process's slots, each busy until its job's end; jobs take as long as their kind does.
    struct Process {
        lanes: Lanes,
        slots: usize,
        now: u64,
        busy: Vec<(u64, LaneQuota, u64)>,
        served: HashMap<TenantId, u64>,
    }

    impl Process {
        fn new(slots: usize) -> Self {
            Self { lanes: lanes(), slots, now: 0, busy: Vec::new(), served: HashMap::new() }
        }

        /// Runs jobs of lanes that never end, for so many microseconds.
        fn run(&mut self, until: u64) {
            while self.now < until {
                let asks =
                    self.lanes.plan(ClaimRoom { slots: self.slots - self.busy.len(), ..slots(self.slots) });
                for ask in asks {
                    let takes = if ask.lane.kind == LONG { 100_000 } else { 1_000 };
                    self.lanes.claimed(&ask, ask.quota, Some(Uuid::max()));
                    self.busy.extend((0..ask.quota).map(|_| (self.now + takes, ask.clone(), takes)));
                }
                let next = self.busy.iter().map(|(end, ..)| *end).min().expect("something runs");
                self.now = next;
                for (_, ask, takes) in self.busy.extract_if(.., |(end, ..)| *end <= next).collect::<Vec<_>>()
                {
                    *self.served.entry(ask.lane.tenant).or_default() += takes;
                    self.lanes.finished(
                        ask.lane.tenant,
                        ask.lane.kind,
                        Duration::from_micros(takes),
                        ask.each,
                    );
                }
            }
        }

        fn share(&self, one: Lane, of: Lane) -> f64 {
            self.served[&one.tenant] as f64 / self.served[&of.tenant] as f64
        }
    }

    #[test]
    fn t_22_run_time_is_shared_and_not_the_number_of_jobs() {
        let mut process = Process::new(4);
        process.lanes.wake(lane(1, SHORT), Uuid::nil());
        process.lanes.wake(lane(2, LONG), Uuid::nil());
        process.run(30_000_000);
        let share = process.share(lane(1, SHORT), lane(2, LONG));
        assert!((0.8..1.25).contains(&share), "{share}");
    }

    #[test]
    fn t_22_a_weight_of_three_is_three_times_the_run_time() {
        let mut process = Process::new(4);
        process.lanes.steering.weights.insert(lane(2, SHORT).tenant, 3);
        for tenant in 1..=2 {
            process.lanes.wake(lane(tenant, SHORT), Uuid::nil());
        }
        process.run(10_000_000);
        let share = process.share(lane(2, SHORT), lane(1, SHORT));
        assert!((2.7..3.3).contains(&share), "{share}");
    }

    #[test]
    fn t_22_who_has_just_become_active_is_next_whoever_has_a_backlog() {
        let mut lanes = lanes();
        (1..=10_000).for_each(|tenant| lanes.wake(lane(tenant, SHORT), Uuid::nil()));
        for _ in 0..10_000 {
            let asks = lanes.plan(slots(10)); // each has had its first turn
            asks.iter().for_each(|ask| {
                lanes.claimed(ask, ask.quota, Some(Uuid::max()));
                (0..ask.quota).for_each(|_| {
                    lanes.finished(ask.lane.tenant, SHORT, Duration::from_millis(20), ask.each);
                });
            });
        }
        lanes.wake(lane(0, SHORT), Uuid::nil());
        assert_eq!(lanes.plan(slots(1)).first().map(|ask| ask.lane), Some(lane(0, SHORT)));
    }

    #[test]
    fn t_22_who_comes_is_next_also_where_ten_thousand_have_just_been_found() {
        let mut lanes = lanes();
        (1..=10_000).for_each(|tenant| lanes.find(lane(tenant, SHORT), Uuid::nil()));
        lanes.wake(lane(0, SHORT), Uuid::nil());
        let first = lanes.plan(slots(1)).remove(0);
        assert_eq!(first.lane, lane(0, SHORT));
        lanes.claimed(&first, 0, None); // there was nothing more
        assert_eq!(lanes.plan(slots(1)).first().map(|ask| ask.lane), Some(lane(1, SHORT)));
    }

    #[test]
    fn t_22_who_comes_while_no_slot_is_free_is_next_when_one_is() {
        let mut lanes = lanes();
        (1..=100).for_each(|tenant| lanes.find(lane(tenant, SHORT), Uuid::nil()));
        lanes.wake(lane(0, "a.new"), Uuid::nil()); // nobody knows how long its job takes
        let ahead = ClaimRoom { slots: 0, ..slots(1) };
        let ahead = ClaimRoom { ahead: 250_000, ..ahead };
        assert_eq!(lanes.plan(ahead), [], "nobody takes the slot that is free next");
        assert_eq!(lanes.plan(slots(1)).first().map(|ask| ask.lane), Some(lane(0, "a.new")));
    }

    #[test]
    fn t_22_who_comes_again_and_again_with_one_long_job_is_no_newcomer_each_time() {
        let mut process = Process::new(1);
        process.lanes.wake(lane(1, SHORT), Uuid::nil());
        for _ in 0..200 {
            process.lanes.wake(lane(2, LONG), Uuid::nil());
            process.run(process.now + 100_000);
            let ask = LaneQuota { lane: lane(2, LONG), from: Uuid::max(), quota: 1, at_most: None, each: 0 };
            process.lanes.claimed(&ask, 0, None); // it had only one
        }
        let share = process.share(lane(2, LONG), lane(1, SHORT));
        assert!(share < 1.3, "{share}");
    }

    /// One job of the lane is there, and is run: says whether it was the next one.
    fn is_next(lanes: &mut Lanes, lane: Lane, room: ClaimRoom, takes: u64) -> bool {
        lanes.wake(lane, Uuid::nil());
        let asks = lanes.plan(room);
        let next = asks.first().is_some_and(|ask| ask.lane == lane);
        for ask in asks {
            let count = if ask.lane == lane { 1 } else { ask.quota };
            lanes.claimed(&ask, count, Some(Uuid::max()));
            let takes = Duration::from_micros(if ask.lane == lane { takes } else { 20_000 });
            (0..count).for_each(|_| lanes.finished(ask.lane.tenant, ask.lane.kind, takes, ask.each));
        }
        next
    }

    #[test]
    fn t_22_who_comes_with_one_short_job_after_the_other_is_next_each_time() {
        let ahead = ClaimRoom { ahead: 250_000, ..slots(1) };
        // On a busy machine short jobs take long, too: a lookup of permissions, and the handler.
        for (takes, count) in [(1_000, 40), (40_000, 6)] {
            for (kind, room) in [(SHORT, slots(1)), (SHORT, ahead), ("a.new", slots(1)), ("a.new", ahead)] {
                let mut lanes = lanes();
                (1..=10_000).for_each(|tenant| lanes.find(lane(tenant, LONG), Uuid::nil()));
                for job in 0..count {
                    let next = is_next(&mut lanes, lane(0, kind), room, takes);
                    assert!(next, "{kind}, job {job} of {takes} µs, {room:?}");
                }
            }
        }
    }

    #[test]
    fn t_22_who_comes_with_one_short_job_after_the_other_gets_no_more_than_the_others() {
        let mut process = Process::new(1);
        (1..=10).for_each(|tenant| process.lanes.wake(lane(tenant, SHORT), Uuid::nil()));
        for job in 0..20_000 {
            if job == 4_000 {
                process.served.clear(); // what newcomers have at first is used up
            }
            process.lanes.wake(lane(0, SHORT), Uuid::nil());
            process.run(process.now + 1_000);
            let ask = LaneQuota { lane: lane(0, SHORT), from: Uuid::max(), quota: 1, at_most: None, each: 0 };
            process.lanes.claimed(&ask, 0, None); // it had only one
        }
        let share = process.share(lane(0, SHORT), lane(1, SHORT));
        assert!((0.8..1.1).contains(&share), "{share}");
    }

    #[test]
    fn t_22_a_newcomer_with_a_backlog_has_one_turn_before_the_others() {
        let mut lanes = lanes();
        (1..=100).for_each(|tenant| lanes.find(lane(tenant, SHORT), Uuid::nil()));
        lanes.wake(lane(0, SHORT), Uuid::nil());
        let asks = lanes.plan(slots(80));
        let quotas: Vec<_> = asks.iter().map(|ask| (ask.lane, ask.quota)).collect();
        assert_eq!(quotas, [(lane(0, SHORT), 50), (lane(1, SHORT), 30)]);
    }

    #[test]
    fn t_22_who_owes_something_pays_it_back_also_while_it_has_no_jobs() {
        let mut lanes = lanes();
        assert!(is_next(&mut lanes, lane(0, SHORT), slots(1), 450_000));
        let ask = LaneQuota { lane: lane(0, SHORT), from: Uuid::max(), quota: 1, at_most: None, each: 0 };
        lanes.claimed(&ask, 0, None); // it had only one
        assert!(lanes.flows[&lane(0, SHORT).tenant].account < 0);
        (0..10).for_each(|_| drop(lanes.plan(slots(1))));
        assert_eq!((lanes.flows.len(), lanes.round.len()), (0, 0), "it would be a newcomer");
    }

    #[test]
    fn t_22_who_comes_now_and_then_is_next_for_as_long_as_it_stays_below_its_share() {
        let mut lanes = lanes();
        (1..=100).for_each(|tenant| lanes.find(lane(tenant, LONG), Uuid::nil()));
        for job in 0..1_000 {
            assert!(is_next(&mut lanes, lane(0, SHORT), slots(1), 1_000), "job {job}");
            for ask in (0..5).flat_map(|_| lanes.plan(slots(1))).collect::<Vec<_>>() {
                let count = if ask.lane == lane(0, SHORT) { 0 } else { ask.quota };
                lanes.claimed(&ask, count, Some(Uuid::max()));
                let takes = Duration::from_millis(100);
                (0..count).for_each(|_| lanes.finished(ask.lane.tenant, LONG, takes, ask.each));
            }
        }
    }

    #[test]
    fn t_22_a_turn_goes_on_where_a_lane_held_less_than_was_charged_or_a_job_took_less() {
        let mut lanes = lanes();
        (1..=100).for_each(|tenant| lanes.find(lane(tenant, SHORT), Uuid::nil()));
        lanes.wake(lane(0, SHORT), Uuid::nil());
        lanes.wake(lane(0, "a.new"), Uuid::nil());
        let room = slots(1_000);
        let new = lanes.plan(room).swap_remove(0);
        assert_eq!(new.lane, lane(0, "a.new"));
        assert_eq!(new.quota, 1, "nobody knows how long its jobs take");
        lanes.claimed(&new, 1, Some(Uuid::max()));
        lanes.finished(new.lane.tenant, "a.new", Duration::from_millis(1), new.each);
        // Before the round, and after at most one whose turn is not over either.
        let soon = |asks: &[LaneQuota], lane| asks.iter().take(2).find(|ask| ask.lane == lane).cloned();
        let again = soon(&lanes.plan(room), lane(0, "a.new")).expect("it took less than was charged");
        lanes.claimed(&again, 0, None);
        assert!(soon(&lanes.plan(room), lane(0, SHORT)).is_some(), "there were none left");
    }

    #[test]
    fn what_is_urgent_comes_first_and_what_is_paused_or_capped_waits() {
        let mut lanes = lanes();
        let urgent = Lane { priority: 0, ..lane(1, SHORT) };
        lanes.wake(lane(1, LONG), Uuid::nil());
        lanes.wake(urgent, Uuid::nil());
        lanes.wake(lane(2, "a.capped"), Uuid::nil());
        lanes.wake(lane(3, SHORT), Uuid::nil());
        lanes.steering.paused.insert(lane(3, SHORT).tenant);
        let asks = lanes.plan(slots(100));
        assert_eq!(asks[0].lane, urgent);
        let capped = asks.iter().find(|ask| ask.lane.kind == "a.capped").expect("it is asked");
        assert_eq!(capped.quota, 2);
        assert_eq!(asks.len(), 2, "{asks:?}");
        lanes.claimed(&asks[0], 0, None);
        lanes.claimed(&asks[1], 2, Some(Uuid::max()));
        assert_eq!(lanes.plan(slots(10))[0].lane, lane(1, LONG), "the urgent lane is empty");
        lanes.finished(lane(2, "a.capped").tenant, "a.capped", Duration::from_millis(1), 1_000);
        assert!(lanes.plan(slots(10)).iter().any(|ask| ask.lane.kind == "a.capped" && ask.quota == 1));
        lanes.steering.kinds.remove(SHORT);
        lanes.steering.paused.clear();
        assert!(lanes.plan(slots(10)).iter().all(|ask| ask.lane.kind != SHORT), "nobody runs that kind here");
    }

    #[test]
    fn a_lane_is_forgotten_when_it_is_empty_but_not_what_has_been_rung_for_meanwhile() {
        let (mut lanes, early, late) = (lanes(), Uuid::from_u128(5), Uuid::from_u128(9));
        lanes.wake(lane(1, SHORT), late);
        let asks = lanes.plan(slots(4));
        assert_eq!((asks[0].from, asks[0].quota), (late, 4));
        lanes.wake(lane(1, SHORT), early); // by a transaction that has committed late
        lanes.claimed(&asks[0], 1, Some(late));
        lanes.finished(lane(1, SHORT).tenant, SHORT, Duration::from_millis(1), 1_000);
        let asks = lanes.plan(slots(4));
        assert_eq!(asks[0].from, early);
        lanes.claimed(&asks[0], 0, None);
        (0..MOST_KEPT).for_each(|_| assert!(lanes.plan(slots(4)).is_empty()));
        assert_eq!((lanes.known, lanes.flows.len(), lanes.round.len()), (0, 0, 0), "nothing is kept of it");
    }

    #[test]
    fn nobody_holds_all_slots_and_what_is_long_is_not_claimed_ahead() {
        let mut lanes = lanes();
        lanes.wake(lane(1, LONG), Uuid::nil());
        let room = ClaimRoom { slots: 4, ahead: 50_000, of_a_tenant: 3 };
        (0..5).for_each(|_| drop(lanes.plan(room)));
        assert_eq!(lanes.flows[&lane(1, LONG).tenant].running[LONG], 3);
        lanes.wake(lane(2, SHORT), Uuid::nil());
        lanes.wake(lane(3, LONG), Uuid::nil());
        let asks = lanes.plan(ClaimRoom { slots: 0, ahead: 10_000, of_a_tenant: 100 });
        assert_eq!(asks.iter().map(|ask| (ask.lane, ask.quota)).collect::<Vec<_>>(), [(lane(2, SHORT), 10)]);
    }
}
