"""Taproot outputs (BIP341): trees of leaf scripts, tweaks and control blocks."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.contract.errors import InvalidParameters
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import lift_x, tagged_hash
from coordinator.contract.tx import with_size

LEAF_VERSION = 0xC0
"""Tapscript (BIP342)."""


def leaf_hash(script: bytes, version: int = LEAF_VERSION) -> bytes:
    """``hash_TapLeaf(version || script)``."""
    return tagged_hash("TapLeaf", bytes((version,)), with_size(script))


def branch_hash(a: bytes, b: bytes) -> bytes:
    """``hash_TapBranch`` of two nodes, in lexicographic order."""
    return tagged_hash("TapBranch", a, b) if a < b else tagged_hash("TapBranch", b, a)


@dataclass(frozen=True, slots=True)
class ScriptTree:
    """A tree of leaves.

    Attributes:
        root: Merkle root.
        leaf_hashes: Hash of each leaf, in the order the leaves were given.
        paths: Merkle path of each leaf, concatenated 32-byte hashes from the leaf upwards.
    """

    root: bytes
    leaf_hashes: tuple[bytes, ...]
    paths: tuple[bytes, ...]

    @property
    def max_depth(self) -> int:
        return max(map(len, self.paths)) // 32


def huffman_tree(leaves: Sequence[tuple[int, bytes]]) -> ScriptTree:
    """The tree that rust-bitcoin's ``TaprootBuilder::with_huffman_tree`` builds of (weight, script) leaves.

    Repeatedly combines the two nodes of least weight into one of their summed weight; among equal weights
    the node with the lexicographically greatest hash goes first. With three or more equal leaves that rule
    decides the merkle root.

    Raises:
        InvalidParameters: No leaves.
    """
    if not leaves:
        raise InvalidParameters("a tree needs a leaf")
    hashes = [leaf_hash(script) for _, script in leaves]
    paths: list[list[bytes]] = [[] for _ in leaves]
    # (weight, hash to be taken greatest first, leaves below, hash)
    heap = [
        (weight, -int.from_bytes(node, "big"), [i], node)
        for i, ((weight, _), node) in enumerate(zip(leaves, hashes, strict=True))
    ]
    heapq.heapify(heap)
    while len(heap) > 1:
        weight_a, _, below_a, a = heapq.heappop(heap)
        weight_b, _, below_b, b = heapq.heappop(heap)
        for i in below_a:
            paths[i].append(b)
        for i in below_b:
            paths[i].append(a)
        node = branch_hash(a, b)
        heapq.heappush(heap, (weight_a + weight_b, -int.from_bytes(node, "big"), below_a + below_b, node))
    return ScriptTree(heap[0][3], tuple(hashes), tuple(b"".join(path) for path in paths))


@dataclass(frozen=True, slots=True)
class TaprootOutput:
    """A taproot output with scripts: internal key, tree and the output key they make.

    Attributes:
        internal_key: X-only internal key, 32 bytes.
        tree: The leaves.
        scripts: Leaf scripts, in the tree's order.
        tweak: ``hash_TapTweak(internal key || root)``, 32 bytes.
        output_key: X-only output key, 32 bytes.
        parity: 1 where the output key's y is odd.
    """

    internal_key: bytes
    tree: ScriptTree
    scripts: tuple[bytes, ...]
    tweak: bytes
    output_key: bytes
    parity: int

    @property
    def script_pubkey(self) -> bytes:
        return p2tr_script(self.output_key)

    def control_block(self, leaf: int) -> bytes:
        """Control block of a leaf, by its index."""
        return bytes((LEAF_VERSION | self.parity,)) + self.internal_key + self.tree.paths[leaf]


def tap_tweak(internal_key: bytes, root: bytes | None) -> bytes:
    """``hash_TapTweak(internal key || merkle root)``; no root where there are no scripts."""
    return tagged_hash("TapTweak", internal_key, root or b"")


def output_key(internal_key: bytes, tweak: bytes) -> tuple[bytes, int]:
    """X-only output key and its parity (BIP341 ``taproot_tweak_pubkey``).

    Raises:
        InvalidPoint: The internal key is not an x-only key.
        InvalidParameters: The tweak is out of range (negligible probability).
    """
    try:
        point = lift_x(internal_key).add(tweak).format()
    except ValueError:
        raise InvalidParameters("taproot tweak out of range") from None
    return point[1:], point[0] & 1


def taproot_output(internal_key: bytes, leaves: Sequence[tuple[int, bytes]]) -> TaprootOutput:
    """An output with an internal key and (weight, script) leaves in a Huffman tree."""
    tree = huffman_tree(leaves)
    tweak = tap_tweak(internal_key, tree.root)
    key, parity = output_key(internal_key, tweak)
    return TaprootOutput(internal_key, tree, tuple(script for _, script in leaves), tweak, key, parity)
