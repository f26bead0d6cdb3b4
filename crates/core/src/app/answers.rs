//! How much memory all answers together may take while their clients take them (D-02).

use super::SMALL;
use crate::shares::{MEMBERS, OPEN, OwnedShare, Party, STRANGERS, Shares};

const KIB: usize = 1024;
/// In KiB.
const OF_MEMBERS: usize = 24 * KIB;
const OF_STRANGERS: usize = 4 * KIB;
const OF_OPERATORS: usize = 8 * KIB;
/// What an answer of unknown length is taken for: the buffers between its source and its client, and an encoder.
const UNKNOWN: usize = 1024 * KIB;

/// Marks an answer of which no more is in memory than so many bytes: it flows from where it is kept to its client.
#[derive(Debug, Clone, Copy)]
pub struct Flowing(pub(crate) u64);

/// The memory for answers that are not small. One tenant's members have at most three quarters of the members', one
/// address half of the strangers', and neither keeps anything from operators.
pub struct Answers {
    members: Shares,
    strangers: Shares,
    operators: Shares,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            members: Shares::new(OF_MEMBERS, MEMBERS),
            strangers: Shares::new(OF_STRANGERS, STRANGERS),
            operators: Shares::new(OF_OPERATORS, OPEN),
        }
    }
}

impl Answers {
    /// Whether an answer of so many bytes, if that is known, is so small that it takes no room.
    pub(crate) fn is_small(bytes: Option<u64>) -> bool {
        bytes.is_some_and(|bytes| bytes <= SMALL as u64)
    }

    /// Room for an answer; `None` when there is none. Nobody waits for room, since what waits holds its answer all the same.
    pub(crate) fn take(&self, taker: Party, bytes: Option<u64>) -> Option<OwnedShare> {
        let bytes = bytes.map_or(Some(UNKNOWN), |bytes| usize::try_from(bytes).ok())?;
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        let shares = match taker {
            Party::Tenant(_) => &self.members,
            Party::Stranger(_) => &self.strangers,
            Party::Operator => &self.operators,
        };
        shares.take_owned(taker, kib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::TenantId;

    const PAGE: Option<u64> = Some(150 * 1024);

    fn tenant(number: u128) -> Party {
        Party::Tenant(TenantId::from_uuid(uuid::Uuid::from_u128(number)))
    }

    /// As much room as there is, in KiB.
    fn fill(answers: &Answers, taker: Party) -> (usize, Vec<OwnedShare>) {
        let rooms: Vec<_> = std::iter::from_fn(|| answers.take(taker, PAGE)).collect();
        (rooms.len() * 150, rooms)
    }

    #[test]
    fn d_02_neither_a_tenant_nor_an_address_nor_all_strangers_have_all_room_and_none_is_lost() {
        let answers = Answers::default();
        for _ in 0..2 {
            let (of_one, _held) = fill(&answers, tenant(1));
            let (of_other, _held_too) = fill(&answers, tenant(2));
            assert!(of_one <= 18 * KIB && of_one > 17 * KIB, "{of_one}");
            assert!(of_other > 5 * KIB && of_one + of_other <= 24 * KIB, "{of_other}");
            let strangers = (0..=255).map(|n| fill(&answers, Party::Stranger([192, 0, 2, n].into())));
            let strangers: Vec<_> = strangers.collect();
            assert!(strangers[0].0 <= 2 * KIB, "{}", strangers[0].0);
            assert!(strangers.iter().map(|held| held.0).sum::<usize>() <= 4 * KIB);
            assert!(answers.take(Party::Operator, PAGE).is_some());
        }
    }

    #[test]
    fn d_02_an_answer_of_unknown_length_takes_room_too() {
        let answers = Answers::default();
        let held: Vec<_> = std::iter::from_fn(|| answers.take(Party::Operator, None)).collect();
        assert_eq!(held.len(), OF_OPERATORS * KIB / UNKNOWN);
        assert!(!Answers::is_small(None) && Answers::is_small(Some(4096)) && !Answers::is_small(Some(4097)));
    }
}
