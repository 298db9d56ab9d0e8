"""What a node with Bitcoin Core's default settings relays, beyond what consensus demands of a transaction.

Reasons are Bitcoin Core's own (`validation.cpp`, `policy/policy.cpp`), as `sendrawtransaction` reports them.
"""

from collections.abc import Sequence

from .scripts import (
    OP_CHECKMULTISIG,
    OP_CHECKMULTISIGVERIFY,
    OP_CHECKSIG,
    OP_CHECKSIGVERIFY,
    bare_multisig_keys,
    is_p2pk,
    is_p2pkh,
    is_p2sh,
    iterate_ops,
    witness_program,
)
from .transactions import Transaction, TxOutput, serialize_output

RPC_VERIFY_ERROR = -25
RPC_VERIFY_REJECTED = -26
RPC_ALREADY_IN_CHAIN = -27
RPC_DESERIALIZATION_ERROR = -22

MIN_RELAY_SAT_PER_VB = 1
MAX_STANDARD_WEIGHT = 400_000
MAX_STANDARD_SIGOP_COST = 16_000

_MAX_MONEY_SATS = 21_000_000 * 100_000_000
_MAX_STANDARD_VERSION = 2  # version 3 (TRUC, BIP431) comes with package rules that this mempool has not
_MIN_STANDARD_STRIPPED_SIZE = 65
_MAX_SCRIPT_SIG_BYTES = 1650
_MAX_DATACARRIER_BYTES = 83
_DUST_SAT_PER_VB = 3
_MAX_WSH_STACK_ITEMS, _MAX_WSH_ITEM_BYTES, _MAX_WSH_SCRIPT_BYTES = 100, 80, 3600
_MAX_TAPSCRIPT_ITEM_BYTES = 80
_ANCHOR_SCRIPT = b"\x51\x02\x4e\x73"


class Rejected(Exception):
    """The mempool refuses a transaction: Bitcoin Core's RPC error code and reason."""

    reason: str
    code: int

    def __init__(self, reason: str, code: int = RPC_VERIFY_REJECTED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def check_context_free(tx: Transaction) -> None:
    """Consensus rules that need nothing but the transaction (`CheckTransaction`).

    Raises:
        Rejected: it breaks one.
    """
    if not tx.inputs:
        raise Rejected("bad-txns-vin-empty")
    if not tx.outputs:
        raise Rejected("bad-txns-vout-empty")
    if tx.stripped_size * 4 > 4_000_000:
        raise Rejected("bad-txns-oversize")
    total = 0
    for output in tx.outputs:
        if output.value_sats >= 1 << 63:
            raise Rejected("bad-txns-vout-negative")
        if output.value_sats > _MAX_MONEY_SATS:
            raise Rejected("bad-txns-vout-toolarge")
        total += output.value_sats
    if total > _MAX_MONEY_SATS:
        raise Rejected("bad-txns-txouttotal-toolarge")
    if len({txin.outpoint for txin in tx.inputs}) != len(tx.inputs):
        raise Rejected("bad-txns-inputs-duplicate")
    if tx.is_coinbase:
        raise Rejected("coinbase")
    if any(txin.outpoint.txid == "00" * 32 for txin in tx.inputs):
        raise Rejected("bad-txns-prevout-null")


def check_standard(tx: Transaction) -> None:
    """Relay rules that need nothing but the transaction (`IsStandardTx`).

    Raises:
        Rejected: it breaks one.
    """
    if not 1 <= tx.version <= _MAX_STANDARD_VERSION:
        raise Rejected("version")
    if tx.weight > MAX_STANDARD_WEIGHT:
        raise Rejected("tx-size")
    if tx.stripped_size < _MIN_STANDARD_STRIPPED_SIZE:
        raise Rejected("tx-size-small")
    for txin in tx.inputs:
        if len(txin.script_sig) > _MAX_SCRIPT_SIG_BYTES:
            raise Rejected("scriptsig-size")
        if not _is_push_only(txin.script_sig):
            raise Rejected("scriptsig-not-pushonly")
    data_outputs = 0
    for output in tx.outputs:
        if not is_standard_output(output.script):
            raise Rejected("scriptpubkey")
        if output.script[:1] == b"\x6a":
            data_outputs += 1
        elif output.value_sats < dust_limit_sats(output):
            raise Rejected("dust")
    if data_outputs > 1:
        raise Rejected("multi-op-return")


def check_standard_inputs(tx: Transaction, spent: Sequence[TxOutput]) -> None:
    """Relay rules about how outputs are spent (`AreInputsStandard`, `IsWitnessStandard`).

    Raises:
        Rejected: it breaks one.
    """
    for txin, output in zip(tx.inputs, spent, strict=True):
        script, witness = output.script, txin.witness
        if not is_standard_output(script):
            raise Rejected("bad-txns-nonstandard-inputs")
        if script == _ANCHOR_SCRIPT:
            if witness:
                raise Rejected("bad-witness-nonstandard")
            continue
        if is_p2sh(script):
            script = _last_push(txin.script_sig)
        program = witness_program(script)
        if program is None:
            if witness:
                raise Rejected("bad-witness-nonstandard")
            continue
        version, data = program
        if version == 0 and len(data) == 32 and witness:
            *items, witness_script = witness
            if (
                len(witness_script) > _MAX_WSH_SCRIPT_BYTES
                or len(items) > _MAX_WSH_STACK_ITEMS
                or any(len(item) > _MAX_WSH_ITEM_BYTES for item in items)
            ):
                raise Rejected("bad-witness-nonstandard")
        elif version == 1 and len(data) == 32 and not is_p2sh(output.script):
            _check_taproot_witness(witness)
        elif version != 0:
            raise Rejected("bad-txns-nonstandard-inputs")


def _check_taproot_witness(witness: Sequence[bytes]) -> None:
    if len(witness) >= 2 and witness[-1][:1] == b"\x50":
        raise Rejected("bad-witness-nonstandard")  # an annex (BIP341) has no meaning yet
    if len(witness) >= 2:
        *items, _, control_block = witness
        is_tapscript = bool(control_block) and control_block[0] & 0xFE == 0xC0
        if is_tapscript and any(len(item) > _MAX_TAPSCRIPT_ITEM_BYTES for item in items):
            raise Rejected("bad-witness-nonstandard")
    elif not witness:
        raise Rejected("bad-witness-nonstandard")


def is_standard_output(script: bytes) -> bool:
    """Whether nodes relay transactions with an output of this kind."""
    if script[:1] == b"\x6a":
        return len(script) <= _MAX_DATACARRIER_BYTES and _is_push_only(script[1:])
    program = witness_program(script)
    if program is not None:
        return program[0] != 0 or len(program[1]) in (20, 32)
    if is_p2pk(script) or is_p2pkh(script) or is_p2sh(script):
        return True
    return (bare_multisig_keys(script) or 4) <= 3


def dust_limit_sats(output: TxOutput) -> int:
    """The least value worth spending: 3 sat/vB for output and spending input (`GetDustThreshold`)."""
    spend_size = 67 if witness_program(output.script) is not None else 148
    return _DUST_SAT_PER_VB * (len(serialize_output(output)) + spend_size)


def sigop_cost(tx: Transaction, spent: Sequence[TxOutput]) -> int:
    """Signature operations as the block limit of 80,000 counts them (BIP141 "Sigops")."""
    legacy = sum(_count_sigops(txin.script_sig, accurate=False) for txin in tx.inputs)
    legacy += sum(_count_sigops(output.script, accurate=False) for output in tx.outputs)
    cost = 4 * legacy
    for txin, output in zip(tx.inputs, spent, strict=True):
        script = output.script
        if is_p2sh(script):
            script = _last_push(txin.script_sig)
            cost += 4 * _count_sigops(script, accurate=True)
        program = witness_program(script)
        if program is not None and program[0] == 0:
            is_key = len(program[1]) == 20
            cost += 1 if is_key else _count_sigops(txin.witness[-1] if txin.witness else b"", accurate=True)
    return cost


def _count_sigops(script: bytes, *, accurate: bool) -> int:
    count = 0
    previous = 0xFF
    try:
        for opcode, _ in iterate_ops(script):
            if opcode in (OP_CHECKSIG, OP_CHECKSIGVERIFY):
                count += 1
            elif opcode in (OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY):
                count += previous - 0x50 if accurate and 0x51 <= previous <= 0x60 else 20
            previous = opcode
    except ValueError:
        pass  # what cannot be read is not counted
    return count


def _is_push_only(script: bytes) -> bool:
    try:
        return all(opcode <= 0x60 for opcode, _ in iterate_ops(script))
    except ValueError:
        return False


def _last_push(script_sig: bytes) -> bytes:
    try:
        data = [op.data for op in iterate_ops(script_sig)]
    except ValueError:
        return b""
    return data[-1] or b"" if data else b""


def min_relay_fee_sats(vsize: int) -> int:
    """The least fee that is relayed."""
    return MIN_RELAY_SAT_PER_VB * vsize
