//! The tree of a log as it is stored: whole tiles, and beyond them the leaves of entries and the roots of tiles.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{
    NodePlace, ProofPlan, TILE_WIDTH, TilePlace, TreeHash, empty_root, hashes, root_over, tile_width,
};
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::from_row;

const TILES: &str = "select t.level, t.index, t.hashes from unnest($2::smallint[], $3::bigint[]) w (level, index) \
     join audit_tiles t on t.log = $1 and t.level = w.level and t.index = w.index";
const LEAVES: &str =
    "select leaf as hash from audit_entries where log = $1 and index >= $2 and index < $3 order by index";
const ROOTS: &str = "select root as hash from audit_tiles where log = $1 and level = $2 and index >= $3 and index < $4 order by index";

struct StoredTile {
    level: i16,
    index: i64,
    hashes: Vec<u8>,
}
from_row!(StoredTile { level, index, hashes });

struct StoredHash {
    hash: Vec<u8>,
}
from_row!(StoredHash { hash });

/// A tree of one log, at one of its sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredTree {
    pub(crate) log: i32,
    pub(crate) size: u64,
}

/// A tile that has become whole.
pub(super) struct NewTile {
    pub(super) place: TilePlace,
    pub(super) root: TreeHash,
    pub(super) hashes: Vec<u8>,
}

impl StoredTree {
    /// A proof in this tree.
    ///
    /// # Errors
    /// As the database answers; `core.internal` where what it takes is not there.
    pub(crate) async fn proof(self, tx: &mut TenantTx<'_>, plan: &ProofPlan) -> Result<Vec<TreeHash>> {
        let nodes = self.nodes(tx, &plan.nodes()).await?;
        plan.fill(|place| nodes.get(&place).copied()).ok_or_else(broken)
    }

    /// The root of the tree, from what is stored of it.
    ///
    /// # Errors
    /// As [`proof`](Self::proof).
    pub(crate) async fn root(self, tx: &mut TenantTx<'_>) -> Result<TreeHash> {
        if self.size == 0 {
            return Ok(empty_root());
        }
        self.proof(tx, &ProofPlan::whole(self.size)).await?.into_iter().next().ok_or_else(broken)
    }

    async fn nodes(
        self,
        tx: &mut TenantTx<'_>,
        wanted: &[NodePlace],
    ) -> Result<BTreeMap<NodePlace, TreeHash>> {
        let places: BTreeSet<TilePlace> = wanted.iter().map(|node| node.tile().0).collect();
        let (whole, begun): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|place| tile_width(*place, self.size) == TILE_WIDTH);
        let mut tiles = self.whole_tiles(tx, &whole).await?;
        for place in begun {
            let from = place.index * TILE_WIDTH;
            let row = self.row(tx, place.level, from, from + tile_width(place, self.size)).await?;
            tiles.insert(place, row);
        }
        let node = |place: NodePlace| {
            let (tile, inside) = place.tile();
            Some((place, root_over(tiles.get(&tile)?.get(inside)?)))
        };
        wanted.iter().map(|place| node(*place).ok_or_else(broken)).collect()
    }

    async fn whole_tiles(
        self,
        tx: &mut TenantTx<'_>,
        places: &[TilePlace],
    ) -> Result<BTreeMap<TilePlace, Vec<TreeHash>>> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let levels: Vec<i16> = places.iter().map(|place| i16::from(place.level)).collect();
        let indexes: Vec<i64> = places.iter().map(|place| number(place.index)).collect();
        let found: Vec<StoredTile> = tx.rows(TILES, &[&self.log, &levels, &indexes]).await?;
        let tile = |tile: StoredTile| {
            let place =
                TilePlace { level: u8::try_from(tile.level).ok()?, index: u64::try_from(tile.index).ok()? };
            Some((place, hashes(&tile.hashes)?))
        };
        found.into_iter().map(|found| tile(found).ok_or_else(broken)).collect()
    }

    /// The hashes of one level of tiles, from one up to another.
    pub(super) async fn row(
        self,
        tx: &mut TenantTx<'_>,
        level: u8,
        from: u64,
        to: u64,
    ) -> Result<Vec<TreeHash>> {
        let (from, to) = (number(from), number(to));
        let rows: Vec<StoredHash> = match level {
            0 => tx.rows(LEAVES, &[&self.log, &from, &to]).await?,
            above => tx.rows(ROOTS, &[&self.log, &i16::from(above - 1), &from, &to]).await?,
        };
        let row: Option<Vec<TreeHash>> = rows.iter().map(|row| row.hash.as_slice().try_into().ok()).collect();
        row.filter(|row| row.len() as i64 == to - from).ok_or_else(broken)
    }

    /// The tiles that become whole as these leaves are added to the tree.
    pub(super) async fn grown(self, tx: &mut TenantTx<'_>, leaves: &[TreeHash]) -> Result<Vec<NewTile>> {
        let (mut tiles, mut fresh, mut before, mut level) = (Vec::new(), leaves.to_vec(), self.size, 0);
        loop {
            let begun = before % TILE_WIDTH;
            if begun + (fresh.len() as u64) < TILE_WIDTH {
                return Ok(tiles);
            }
            let mut row = match begun {
                0 => Vec::new(),
                _ => self.row(tx, level, before - begun, before).await?,
            };
            row.extend(fresh);
            fresh = Vec::new();
            for (nth, hashes) in row.chunks_exact(TILE_WIDTH as usize).enumerate() {
                let root = root_over(hashes);
                let place = TilePlace { level, index: before / TILE_WIDTH + nth as u64 };
                tiles.push(NewTile { place, root, hashes: hashes.concat() });
                fresh.push(root);
            }
            (before, level) = (before / TILE_WIDTH, level + 1);
        }
    }
}

fn broken() -> Error {
    Error::internal("what is stored of the tree over an audit log is not whole")
}

pub(crate) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
