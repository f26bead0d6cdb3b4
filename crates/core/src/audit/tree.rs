//! The Merkle tree of RFC 6962 and RFC 9162 over SHA-256: hashes, roots, and proofs.
//!
//! A node is named by its level and its index: node `(l, i)` is the root of the leaves from `i · 2^l` up to `(i + 1) · 2^l`. Nodes
//! are kept by tiles of 256 hashes (C2SP tlog-tiles, height 8): the tile `(L, n)` holds the nodes `(8 · L, 256 · n)` and the 255
//! after it. Only whole tiles are kept; what is beyond them is of fewer than 256 leaves, or of tiles' roots.

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256.
pub type TreeHash = [u8; 32];

/// How many hashes a whole tile has.
pub const TILE_WIDTH: u64 = 256;

/// The hash of a leaf: of an entry's bytes.
pub fn leaf_hash(entry: &[u8]) -> TreeHash {
    sum(&[&[0], entry])
}

/// The hash of a node above two others.
pub fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    sum(&[&[1], left, right])
}

/// The root of a tree without leaves.
pub fn empty_root() -> TreeHash {
    fixed(digest(&SHA256, &[]).as_ref())
}

fn sum(parts: &[&[u8]]) -> TreeHash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    fixed(context.finish().as_ref())
}

fn fixed(bytes: &[u8]) -> TreeHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(bytes);
    hash
}

/// Hashes that stand side by side in one column; none where the bytes are not whole hashes.
pub(crate) fn hashes(bytes: &[u8]) -> Option<Vec<TreeHash>> {
    bytes.len().is_multiple_of(32).then(|| bytes.chunks_exact(32).map(fixed).collect())
}

/// What is left of a tree when only its growth and its root matter: the roots of the perfect trees that it is made of, the largest
/// first. A *compact range* from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeEdge {
    size: u64,
    roots: Vec<TreeHash>,
}

impl TreeEdge {
    /// The edge of a tree of this size; none where the number of roots is another one.
    pub fn new(size: u64, roots: Vec<TreeHash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: TreeHash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> TreeHash {
        fold(&self.roots).unwrap_or_else(empty_root)
    }

    /// Its roots, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.concat()
    }
}

/// The root over perfect trees that stand side by side, the largest first.
fn fold(roots: &[TreeHash]) -> Option<TreeHash> {
    let (last, others) = roots.split_last()?;
    Some(others.iter().rfold(*last, |right, left| node_hash(left, &right)))
}

/// The root over hashes that stand side by side on one level.
pub(crate) fn root_over(level: &[TreeHash]) -> TreeHash {
    let mut edge = TreeEdge::default();
    level.iter().for_each(|hash| edge.push(*hash));
    edge.root()
}

/// Leaves that stand side by side: from the first one up to the other, which is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from: u64,
    to: u64,
}

/// A node by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePlace {
    /// 0 for leaves.
    pub level: u32,
    /// Counted from the left.
    pub index: u64,
}

impl Span {
    fn len(self) -> u64 {
        self.to - self.from
    }

    /// Where RFC 6962 divides it: the largest power of two below its length.
    fn middle(self) -> u64 {
        self.from + (self.len().next_power_of_two() >> 1)
    }

    /// The perfect trees that it is made of, from left to right.
    fn nodes(self) -> Vec<NodePlace> {
        let (mut nodes, mut from) = (Vec::new(), self.from);
        while from < self.to {
            let room = (self.to - from).ilog2();
            let level = if from == 0 { room } else { room.min(from.trailing_zeros()) };
            nodes.push(NodePlace { level, index: from >> level });
            from += 1 << level;
        }
        nodes
    }
}

/// A proof that is to be made: each of its hashes is the root over a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofPlan(Vec<Span>);

impl ProofPlan {
    /// That the leaf of this index is in the tree of this size, which is larger than the index: from the leaf's sibling up.
    pub fn inclusion(index: u64, size: u64) -> Self {
        let (mut spans, mut here) = (Vec::new(), Span { from: 0, to: size });
        while here.len() > 1 {
            let middle = here.middle();
            let (left, right) = (Span { to: middle, ..here }, Span { from: middle, ..here });
            let (inside, sibling) = if index < middle { (left, right) } else { (right, left) };
            spans.push(sibling);
            here = inside;
        }
        spans.reverse();
        Self(spans)
    }

    /// That the tree of size `new` has the one of size `old` as its beginning; `old` is not 0.
    pub fn consistency(old: u64, new: u64) -> Self {
        let (mut spans, mut here, mut is_known) = (Vec::new(), Span { from: 0, to: new }, true);
        while here.to != old {
            let middle = here.middle();
            let (left, right) = (Span { to: middle, ..here }, Span { from: middle, ..here });
            if old <= middle {
                spans.push(right);
                here = left;
            } else {
                spans.push(left);
                (here, is_known) = (right, false);
            }
        }
        if !is_known {
            spans.push(here);
        }
        spans.reverse();
        Self(spans)
    }

    /// The root over the first leaves, as a proof of one hash.
    pub(crate) fn whole(size: u64) -> Self {
        Self(vec![Span { from: 0, to: size }])
    }

    /// The nodes that it takes.
    pub fn nodes(&self) -> Vec<NodePlace> {
        self.0.iter().flat_map(|span| span.nodes()).collect()
    }

    /// The proof, where each node is known.
    pub fn fill(&self, known: impl Fn(NodePlace) -> Option<TreeHash>) -> Option<Vec<TreeHash>> {
        self.0
            .iter()
            .map(|span| fold(&span.nodes().into_iter().map(&known).collect::<Option<Vec<_>>>()?))
            .collect()
    }
}

/// The root that follows from a leaf, its index, the tree's size and an inclusion proof; none where the proof has another length.
pub fn root_by_inclusion(leaf: TreeHash, index: u64, size: u64, proof: &[TreeHash]) -> Option<TreeHash> {
    if index >= size {
        return None;
    }
    let (mut hash, mut at, mut last) = (leaf, index, size - 1);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether a consistency proof shows that the tree of `new` has that of `old` as its beginning: RFC 9162, section 2.1.4.2.
pub fn is_consistent(old: (u64, TreeHash), new: (u64, TreeHash), proof: &[TreeHash]) -> bool {
    let ((old, old_root), (new, new_root)) = (old, new);
    if old == new || old == 0 {
        return proof.is_empty() && (old == 0 || old_root == new_root) && old <= new;
    }
    let path: Vec<TreeHash> = if old.is_power_of_two() {
        std::iter::once(old_root).chain(proof.iter().copied()).collect()
    } else {
        proof.to_vec()
    };
    let Some((first, path)) = path.split_first().filter(|_| old < new) else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut of_old, mut of_new) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (of_old, of_new) = (node_hash(sibling, &of_old), node_hash(sibling, &of_new));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            of_new = node_hash(&of_new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && of_old == old_root && of_new == new_root
}

/// A tile by its place: level 0 holds leaves, level 1 the roots of level 0's whole tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePlace {
    /// Its level.
    pub level: u8,
    /// Counted from the left.
    pub index: u64,
}

impl NodePlace {
    /// The tile that holds what the node is made of, and which of its hashes these are.
    pub fn tile(self) -> (TilePlace, std::ops::Range<usize>) {
        let (level, inside) = (self.level / 8, self.level % 8);
        let from = self.index << inside;
        let first = usize::try_from(from % TILE_WIDTH).unwrap_or(0);
        let tile = TilePlace { level: u8::try_from(level).unwrap_or(u8::MAX), index: from / TILE_WIDTH };
        (tile, first..first + (1 << inside))
    }
}

/// How many hashes a tile has in a tree of this size: 256 for a whole one, 0 for one that is not there.
pub fn tile_width(tile: TilePlace, size: u64) -> u64 {
    let on_level = size.checked_shr(8 * u32::from(tile.level)).unwrap_or(0);
    on_level.saturating_sub(tile.index * TILE_WIDTH).min(TILE_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<TreeHash> {
        (0..count).map(|number| leaf_hash(number.to_string().as_bytes())).collect()
    }

    /// MTH of RFC 6962, section 2.1, word by word.
    fn root_of(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() >> 1);
                node_hash(&root_of(left), &root_of(right))
            }
        }
    }

    fn node(leaves: &[TreeHash], place: NodePlace) -> Option<TreeHash> {
        let from = usize::try_from(place.index << place.level).ok()?;
        leaves.get(from..from + (1 << place.level)).map(root_of)
    }

    #[test]
    fn roots_are_those_that_rfc_6962_gives() {
        // The test vectors of Certificate Transparency: leaves "", 00, 10, 2021, 3031, …
        let known: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let mut edge = TreeEdge::default();
        assert_eq!(
            crate::shared::hex(&edge.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        known.iter().for_each(|leaf| edge.push(leaf_hash(leaf)));
        assert_eq!(
            crate::shared::hex(&edge.root()),
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
        );
    }

    #[test]
    fn an_edge_grows_as_the_tree_does_and_comes_back_from_its_bytes() {
        let all = leaves(70);
        let mut edge = TreeEdge::default();
        for size in 0..all.len() {
            assert_eq!(edge.root(), root_of(&all[..size]), "{size}");
            let read = hashes(&edge.to_bytes()).and_then(|roots| TreeEdge::new(edge.size(), roots));
            assert_eq!(read.as_ref(), Some(&edge), "{size}");
            edge.push(all[size]);
        }
        assert_eq!(TreeEdge::new(3, vec![[0; 32]]), None);
    }

    #[test]
    fn every_inclusion_proof_leads_to_the_root_and_to_no_other() {
        let all = leaves(40);
        for size in 1..=all.len() as u64 {
            let root = root_of(&all[..size as usize]);
            for index in 0..size {
                let plan = ProofPlan::inclusion(index, size);
                let proof = plan.fill(|place| node(&all, place)).unwrap();
                let leaf = all[index as usize];
                assert_eq!(root_by_inclusion(leaf, index, size, &proof), Some(root), "{index} of {size}");
                assert_ne!(root_by_inclusion([7; 32], index, size, &proof), Some(root));
                if index + 1 < size {
                    assert_ne!(root_by_inclusion(leaf, index + 1, size, &proof), Some(root));
                }
                assert_eq!(root_by_inclusion(leaf, index, size, &[proof, vec![[0; 32]]].concat()), None);
            }
        }
        assert_eq!(root_by_inclusion(all[0], 5, 5, &[]), None);
    }

    #[test]
    fn every_consistency_proof_holds_and_none_of_another_past() {
        let all = leaves(40);
        let root = |size: u64| root_of(&all[..size as usize]);
        for new in 1..=all.len() as u64 {
            for old in 1..=new {
                let proof = ProofPlan::consistency(old, new).fill(|place| node(&all, place)).unwrap();
                assert!(is_consistent((old, root(old)), (new, root(new)), &proof), "{old} to {new}");
                assert!(!is_consistent((old, [7; 32]), (new, root(new)), &proof), "{old} to {new}");
                assert!(!is_consistent((old, root(old)), (new, [7; 32]), &proof), "{old} to {new}");
                if old < new {
                    assert!(!is_consistent((new, root(new)), (old, root(old)), &proof), "{old} to {new}");
                }
            }
        }
        assert!(is_consistent((0, empty_root()), (3, root(3)), &[]));
    }

    #[test]
    fn nodes_are_found_in_tiles() {
        let found = |level, index| NodePlace { level, index }.tile();
        assert_eq!(found(0, 300), (TilePlace { level: 0, index: 1 }, 44..45));
        assert_eq!(found(3, 32), (TilePlace { level: 0, index: 1 }, 0..8));
        assert_eq!(found(8, 257), (TilePlace { level: 1, index: 1 }, 1..2));
        assert_eq!(found(9, 1), (TilePlace { level: 1, index: 0 }, 2..4));
        let width = |level, index, size| tile_width(TilePlace { level, index }, size);
        assert_eq!((width(0, 0, 256), width(0, 1, 256), width(0, 1, 300)), (256, 0, 44));
        assert_eq!((width(1, 0, 300), width(1, 0, 65_536), width(2, 0, 65_536)), (1, 256, 1));
    }
}
