"""Taproot outputs and sighashes against the published BIP341 vectors, and transactions."""

from typing import Any

import pytest

from coordinator.contract import schnorr
from coordinator.contract.errors import InvalidParameters, InvalidTransaction
from coordinator.contract.musig2 import key_agg
from coordinator.contract.script import p2tr_script, push, push_number
from coordinator.contract.secp import N, has_even_y, public_key
from coordinator.contract.taproot import (
    branch_hash,
    huffman_tree,
    leaf_hash,
    output_key,
    tap_tweak,
)
from coordinator.contract.tx import Input, SighashCache, Transaction
from coordinator.contract.utxo import OutPoint, Output
from support.vectors import load

unhex = bytes.fromhex


def hash_tree(tree: Any, leaves: list[bytes], paths: list[list[bytes]]) -> bytes:
    """Root of a BIP341 vector's tree; collects leaf hashes and merkle paths in order."""
    if isinstance(tree, dict):
        leaves.append(leaf_hash(unhex(tree["script"]), tree["leafVersion"]))
        paths.append([])
        return leaves[-1]
    start = len(leaves)
    left = hash_tree(tree[0], leaves, paths)
    middle = len(leaves)
    right = hash_tree(tree[1], leaves, paths)
    for path in paths[start:middle]:
        path.append(right)
    for path in paths[middle:]:
        path.append(left)
    return branch_hash(left, right)


def scripts(tree: Any) -> list[dict[str, Any]]:
    return [tree] if isinstance(tree, dict) else scripts(tree[0]) + scripts(tree[1])


def test_bip341_outputs() -> None:
    cases = load("bip341_wallet.json")["scriptPubKey"]
    assert len(cases) >= 7
    for case in cases:
        given, expected, between = case["given"], case["expected"], case["intermediary"]
        key, tree = unhex(given["internalPubkey"]), given["scriptTree"]
        leaves: list[bytes] = []
        paths: list[list[bytes]] = []
        root = None if tree is None else hash_tree(tree, leaves, paths)
        assert (root.hex() if root else None) == between["merkleRoot"]
        assert [leaf.hex() for leaf in leaves] == between.get("leafHashes", [])
        tweak = tap_tweak(key, root)
        assert tweak.hex() == between["tweak"]
        tweaked, parity = output_key(key, tweak)
        assert tweaked.hex() == between["tweakedPubkey"]
        assert p2tr_script(tweaked).hex() == expected["scriptPubKey"]
        if tree is not None:
            blocks = [
                bytes((leaf["leafVersion"] | parity,)) + key + b"".join(path)
                for leaf, path in zip(scripts(tree), paths, strict=True)
            ]
            assert [block.hex() for block in blocks] == expected["scriptPathControlBlocks"]


def test_bip341_key_path_sighashes() -> None:
    (case,) = load("bip341_wallet.json")["keyPathSpending"]
    tx = Transaction.parse(unhex(case["given"]["rawUnsignedTx"]))
    assert tx.serialize().hex() == case["given"]["rawUnsignedTx"]
    prevouts = [Output(unhex(out["scriptPubKey"]), out["amountSats"]) for out in case["given"]["utxosSpent"]]
    cache = SighashCache(tx, prevouts)
    types = set()
    for spending in case["inputSpending"]:
        given, between = spending["given"], spending["intermediary"]
        index, hash_type = given["txinIndex"], given["hashType"]
        types.add(hash_type)
        sighash = cache.key_path(index, hash_type)
        assert sighash.hex() == between["sigHash"]
        secret = int(given["internalPrivkey"], 16)
        internal = public_key(unhex(given["internalPrivkey"]))
        assert internal[1:].hex() == between["internalPubkey"]
        root = unhex(given["merkleRoot"]) if given["merkleRoot"] else None
        tweak = tap_tweak(internal[1:], root)
        assert tweak.hex() == between["tweak"]
        tweaked = ((secret if has_even_y(internal) else N - secret) + int.from_bytes(tweak, "big")) % N
        assert tweaked.to_bytes(32, "big").hex() == between["tweakedPrivkey"]
        signature = schnorr.sign(tweaked.to_bytes(32, "big"), sighash, bytes(32))
        suffix = bytes((hash_type,)) if hash_type else b""
        assert (signature + suffix).hex() == spending["expected"]["witness"][0]
    assert len(types) >= 6


@pytest.mark.parametrize("hash_type", [0x04, 0x80, 0x84, 0x7F, 0xFF])
def test_unknown_sighash_types_are_refused(hash_type: int) -> None:
    tx = Transaction((Input(OutPoint("00" * 32, 0), 0),), (Output(b"\x51", 1),))
    cache = SighashCache(tx, [Output(b"\x51", 2)])
    with pytest.raises(InvalidTransaction):
        cache.key_path(0, hash_type)


def test_sighashes_need_every_prevout() -> None:
    tx = Transaction((Input(OutPoint("00" * 32, 0), 0),), (Output(b"\x51", 1),))
    with pytest.raises(InvalidTransaction):
        SighashCache(tx, [])


def test_two_leaves_are_a_branch_whatever_their_order() -> None:
    a, b = b"\x51", b"\x52"
    root = branch_hash(leaf_hash(a), leaf_hash(b))
    assert huffman_tree([(1, a), (9, b)]).root == huffman_tree([(9, b), (1, a)]).root == root


def test_huffman_combines_the_lightest_first() -> None:
    leaves = [(2, b"\x51"), (1, b"\x52"), (1, b"\x53")]
    tree = huffman_tree(leaves)
    assert [len(path) // 32 for path in tree.paths] == [1, 2, 2]
    pair = branch_hash(leaf_hash(b"\x52"), leaf_hash(b"\x53"))
    assert tree.root == branch_hash(leaf_hash(b"\x51"), pair)


def test_huffman_takes_the_greatest_hash_first_among_equals() -> None:
    scripts = [bytes((0x51 + i,)) for i in range(3)]
    lowest, *others = sorted(map(leaf_hash, scripts))
    assert huffman_tree([(1, script) for script in scripts]).root == branch_hash(branch_hash(*others), lowest)


def test_merkle_paths_lead_to_the_root() -> None:
    for count in range(1, 40):
        leaves = [(1, push(bytes((i,)) * 32)) for i in range(count)] + [((1 << 32) - 1, b"\x51")]
        tree = huffman_tree(leaves)
        for node, path in zip(tree.leaf_hashes, tree.paths, strict=True):
            at = node
            for step in range(0, len(path), 32):
                at = branch_hash(at, path[step : step + 32])
            assert at == tree.root
        assert len(tree.paths[-1]) == 32
        # The depth that fees are predicted with.
        assert tree.max_depth == (count - 1).bit_length() + 1


def test_a_tree_needs_a_leaf() -> None:
    with pytest.raises(InvalidParameters):
        huffman_tree([])


@pytest.mark.parametrize(
    ("number", "script"),
    [
        (0, "00"),
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (255, "02ff00"),
        (256, "020001"),
        (32767, "02ff7f"),
        (32768, "03008000"),
        (65534, "03feff00"),
    ],
)
def test_numbers_are_pushed_minimally(number: int, script: str) -> None:
    assert push_number(number).hex() == script


def transaction() -> Transaction:
    return Transaction(
        (
            Input(OutPoint("11" * 32, 0), 0xFFFFFFFD, (bytes(64), b"\x51")),
            Input(OutPoint("22" * 32, 7), 5),
        ),
        (Output(bytes(300), 1234), Output(b"\x51", 0)),
        lock_time=800_000,
    )


def test_transactions_survive_serialisation() -> None:
    tx = transaction()
    raw = tx.serialize()
    assert Transaction.parse(raw) == tx
    assert tx.weight == 3 * len(tx.serialize(include_witness=False)) + len(raw)
    stripped = Transaction.parse(tx.serialize(include_witness=False))
    assert stripped.txid == tx.txid
    assert not any(txin.witness for txin in stripped.inputs)


def test_malformed_transactions_are_refused() -> None:
    raw = transaction().serialize()
    for end in range(len(raw)):
        with pytest.raises(InvalidTransaction):
            Transaction.parse(raw[:end])
    with pytest.raises(InvalidTransaction):
        Transaction.parse(raw + b"\x00")
    huge = raw[:6] + b"\xff" + b"\xff" * 8 + raw[7:]
    with pytest.raises(InvalidTransaction):
        Transaction.parse(huge)
    wasteful = raw[:6] + b"\xfd\x02\x00" + raw[7:]
    with pytest.raises(InvalidTransaction, match="minimally"):
        Transaction.parse(wasteful)


def test_the_aggregate_key_of_a_single_signer_is_not_its_own() -> None:
    """KeyAgg multiplies even a lone key by its coefficient: scripts must carry the aggregate."""
    key = public_key(bytes(31) + b"\x05")
    assert key_agg([key]).point != key
