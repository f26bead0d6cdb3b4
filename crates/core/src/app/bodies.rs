//! How much memory all request bodies together may take while they are read (D-03).

use std::net::{IpAddr, Ipv4Addr};

use crate::shared::TenantId;
use crate::shares::{MEMBERS, OPEN, OwnedShare, Party, Shares};

const KIB: usize = 1024;
/// Most requests fit into this, and take no room.
pub(crate) const SMALL: usize = 4 * KIB;
/// In KiB, for bodies that say how long they are, and for those that do not: few clients send such JSON, and each must be
/// given room for the longest.
const OF_MEMBERS: [usize; 2] = [32 * KIB, 3 * KIB];
const OF_STRANGERS: [usize; 2] = [4 * KIB, KIB];

/// The memory for bodies that are not small. Strangers have their own, which is all that they can keep from others, and
/// one tenant's members have at most three quarters of the members'. A sender that finds none left waits, and sends
/// meanwhile into a full window of TCP.
pub struct Bodies {
    members: [Shares; 2],
    strangers: [Shares; 2],
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            members: OF_MEMBERS.map(|kib| Shares::new(kib, MEMBERS)),
            strangers: OF_STRANGERS.map(|kib| Shares::new(kib, OPEN)),
        }
    }
}

impl Bodies {
    /// Room for a body of at most `bytes`, a number that its sender may have `declared`. It is taken whole before more
    /// is read: bodies that grow into their places could each hold a part, and wait for one another.
    pub(crate) async fn take(
        &self,
        sender: Option<TenantId>,
        declared: bool,
        bytes: usize,
    ) -> Option<OwnedShare> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        let (shares, party) = match sender {
            Some(tenant) => (&self.members, Party::Tenant(tenant)),
            None => (&self.strangers, Party::Stranger(IpAddr::V4(Ipv4Addr::UNSPECIFIED))), // no address has a share of these
        };
        let [of_declared, of_others] = shares;
        (if declared { of_declared } else { of_others }).wait(party, kib).await
    }

    /// How many KiB are taken, of those whose senders are known, and how many there are.
    pub(crate) fn use_of_members(&self) -> (usize, usize) {
        let [(used, all), (more_used, more)] = self.members.each_ref().map(Shares::in_use);
        (used + more_used, all + more)
    }
}
