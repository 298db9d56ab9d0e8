"""Scripts and addresses of regtest: parsing, classification, and Esplora's textual forms."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, cast

from embit import base58, bech32

REGTEST_HRP = "bcrt"
_P2PKH_VERSION, _P2SH_VERSION = b"\x6f", b"\xc4"
_MAX_SCRIPT_BYTES = 10_000

OP_PUSHDATA1, OP_PUSHDATA2, OP_PUSHDATA4, OP_1NEGATE, OP_1, OP_16 = 0x4C, 0x4D, 0x4E, 0x4F, 0x51, 0x60
OP_RETURN, OP_CHECKSIG, OP_CHECKSIGVERIFY = 0x6A, 0xAC, 0xAD
OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY = 0xAE, 0xAF

# Names as rust-bitcoin (and so Esplora) prints them; pushes and small numbers are spelled out below.
_NAMES = {
    0x00: "OP_0", 0x4F: "OP_PUSHNUM_NEG1", 0x50: "OP_RESERVED", 0x61: "OP_NOP", 0x62: "OP_VER", 0x63: "OP_IF",
    0x64: "OP_NOTIF", 0x65: "OP_VERIF", 0x66: "OP_VERNOTIF", 0x67: "OP_ELSE", 0x68: "OP_ENDIF",
    0x69: "OP_VERIFY", 0x6A: "OP_RETURN", 0x6B: "OP_TOALTSTACK", 0x6C: "OP_FROMALTSTACK", 0x6D: "OP_2DROP",
    0x6E: "OP_2DUP", 0x6F: "OP_3DUP", 0x70: "OP_2OVER", 0x71: "OP_2ROT", 0x72: "OP_2SWAP", 0x73: "OP_IFDUP",
    0x74: "OP_DEPTH", 0x75: "OP_DROP", 0x76: "OP_DUP", 0x77: "OP_NIP", 0x78: "OP_OVER", 0x79: "OP_PICK",
    0x7A: "OP_ROLL", 0x7B: "OP_ROT", 0x7C: "OP_SWAP", 0x7D: "OP_TUCK", 0x7E: "OP_CAT", 0x7F: "OP_SUBSTR",
    0x80: "OP_LEFT", 0x81: "OP_RIGHT", 0x82: "OP_SIZE", 0x83: "OP_INVERT", 0x84: "OP_AND", 0x85: "OP_OR",
    0x86: "OP_XOR", 0x87: "OP_EQUAL", 0x88: "OP_EQUALVERIFY", 0x89: "OP_RESERVED1", 0x8A: "OP_RESERVED2",
    0x8B: "OP_1ADD", 0x8C: "OP_1SUB", 0x8D: "OP_2MUL", 0x8E: "OP_2DIV", 0x8F: "OP_NEGATE", 0x90: "OP_ABS",
    0x91: "OP_NOT", 0x92: "OP_0NOTEQUAL", 0x93: "OP_ADD", 0x94: "OP_SUB", 0x95: "OP_MUL", 0x96: "OP_DIV",
    0x97: "OP_MOD", 0x98: "OP_LSHIFT", 0x99: "OP_RSHIFT", 0x9A: "OP_BOOLAND", 0x9B: "OP_BOOLOR",
    0x9C: "OP_NUMEQUAL", 0x9D: "OP_NUMEQUALVERIFY", 0x9E: "OP_NUMNOTEQUAL", 0x9F: "OP_LESSTHAN",
    0xA0: "OP_GREATERTHAN", 0xA1: "OP_LESSTHANOREQUAL", 0xA2: "OP_GREATERTHANOREQUAL", 0xA3: "OP_MIN",
    0xA4: "OP_MAX", 0xA5: "OP_WITHIN", 0xA6: "OP_RIPEMD160", 0xA7: "OP_SHA1", 0xA8: "OP_SHA256",
    0xA9: "OP_HASH160", 0xAA: "OP_HASH256", 0xAB: "OP_CODESEPARATOR", 0xAC: "OP_CHECKSIG",
    0xAD: "OP_CHECKSIGVERIFY", 0xAE: "OP_CHECKMULTISIG", 0xAF: "OP_CHECKMULTISIGVERIFY", 0xB0: "OP_NOP1",
    0xB1: "OP_CLTV", 0xB2: "OP_CSV", 0xB3: "OP_NOP4", 0xB4: "OP_NOP5", 0xB5: "OP_NOP6", 0xB6: "OP_NOP7",
    0xB7: "OP_NOP8", 0xB8: "OP_NOP9", 0xB9: "OP_NOP10", 0xBA: "OP_CHECKSIGADD", 0xFF: "OP_INVALIDOPCODE",
}  # fmt: skip


class InvalidAddress(ValueError):
    """Not an address of the regtest network."""


class ScriptOp(NamedTuple):
    """One instruction; `data` is what a push pushes, None for other opcodes."""

    opcode: int
    data: bytes | None


def iterate_ops(script: bytes) -> Iterator[ScriptOp]:
    """The instructions of a script.

    Raises:
        ValueError: a push runs past the end.
    """
    at = 0
    while at < len(script):
        opcode = script[at]
        at += 1
        if opcode > OP_PUSHDATA4:
            yield ScriptOp(opcode, None)
            continue
        if opcode < OP_PUSHDATA1:
            length = opcode
        else:
            width = {OP_PUSHDATA1: 1, OP_PUSHDATA2: 2, OP_PUSHDATA4: 4}[opcode]
            if at + width > len(script):
                raise ValueError("push without a length")
            length = int.from_bytes(script[at : at + width], "little")
            at += width
        if at + length > len(script):
            raise ValueError("push past the end of the script")
        yield ScriptOp(opcode, script[at : at + length])
        at += length


def to_asm(script: bytes) -> str:
    """The script as Esplora prints it (`scriptpubkey_asm`)."""
    words: list[str] = []
    try:
        for opcode, data in iterate_ops(script):
            if data:
                pushdata = {OP_PUSHDATA1: 1, OP_PUSHDATA2: 2, OP_PUSHDATA4: 4}.get(opcode)
                words += [f"OP_PUSHDATA{pushdata}" if pushdata else f"OP_PUSHBYTES_{opcode}", data.hex()]
            elif OP_1 <= opcode <= OP_16:
                words.append(f"OP_PUSHNUM_{opcode - OP_1 + 1}")
            else:
                words.append(_NAMES.get(opcode, f"OP_RETURN_{opcode}"))
    except ValueError:
        words.append("<push past end>")
    return " ".join(words)


def witness_program(script: bytes) -> tuple[int, bytes] | None:
    """Version and program of a segwit output (BIP141), None for other scripts."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2 or not 2 <= script[1] <= 40:
        return None
    if script[0] == 0:
        return 0, script[2:]
    if OP_1 <= script[0] <= OP_16:
        return script[0] - OP_1 + 1, script[2:]
    return None


def is_p2sh(script: bytes) -> bool:
    """Pay to script hash (BIP16)."""
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87


def is_p2pkh(script: bytes) -> bool:
    """Pay to public key hash."""
    return len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac"


def is_p2pk(script: bytes) -> bool:
    """Pay to a bare public key."""
    if len(script) not in (35, 67) or script[0] != len(script) - 2 or script[-1] != OP_CHECKSIG:
        return False
    return script[1] in ((2, 3) if len(script) == 35 else (4,))


def is_unspendable(script: bytes) -> bool:
    """Provably unspendable, so never part of the UTXO set."""
    return script[:1] == bytes([OP_RETURN]) or len(script) > _MAX_SCRIPT_BYTES


def bare_multisig_keys(script: bytes) -> int | None:
    """The number of keys of a bare multisig script, None for other scripts."""
    try:
        ops = list(iterate_ops(script))
    except ValueError:
        return None
    if len(ops) < 4 or ops[-1].opcode != OP_CHECKMULTISIG:
        return None
    required, total = ops[0].opcode - OP_1 + 1, ops[-2].opcode - OP_1 + 1
    keys = ops[1:-2]
    if not 1 <= required <= total <= 20 or len(keys) != total:
        return None
    return total if all(op.data is not None and len(op.data) in (33, 65) for op in keys) else None


def script_type(script: bytes) -> str:
    """Esplora's `scriptpubkey_type`."""
    program = witness_program(script)
    if not script:
        return "empty"
    if script[0] == OP_RETURN:
        return "op_return"
    if is_p2pk(script):
        return "p2pk"
    if is_p2pkh(script):
        return "p2pkh"
    if is_p2sh(script):
        return "p2sh"
    if program is not None:
        names = {(0, 20): "v0_p2wpkh", (0, 32): "v0_p2wsh", (1, 32): "v1_p2tr"}
        return names.get((program[0], len(program[1])), "unknown")
    return "multisig" if bare_multisig_keys(script) else "unknown"


def script_to_address(script: bytes) -> str | None:
    """The regtest address of a script, None when it has none."""
    if is_p2pkh(script):
        return str(base58.encode_check(_P2PKH_VERSION + script[3:23]))
    if is_p2sh(script):
        return str(base58.encode_check(_P2SH_VERSION + script[2:22]))
    program = witness_program(script)
    if program is None:
        return None
    version, data = program
    address = bech32.encode(REGTEST_HRP, version, list(data))  # type: ignore[no-untyped-call]
    return cast("str | None", address)


def address_to_script(address: str) -> bytes:
    """The script that an address stands for.

    Raises:
        InvalidAddress: malformed, or of another network.
    """
    if address.lower().startswith(REGTEST_HRP + "1"):
        version, data = bech32.decode(REGTEST_HRP, address)  # type: ignore[no-untyped-call]
        if version is None:
            raise InvalidAddress("invalid bech32 address")
        return bytes([OP_1 + version - 1 if version else 0, len(data), *data])
    try:
        decoded = bytes(base58.decode_check(address))
    except Exception as error:  # embit raises its own error for a checksum and others for alphabets
        raise InvalidAddress("invalid address") from error
    if len(decoded) == 21 and decoded[:1] == _P2PKH_VERSION:
        return b"\x76\xa9\x14" + decoded[1:] + b"\x88\xac"
    if len(decoded) == 21 and decoded[:1] == _P2SH_VERSION:
        return b"\xa9\x14" + decoded[1:] + b"\x87"
    raise InvalidAddress("address of another network")


def script_hash(script: bytes) -> bytes:
    """SHA256 of the script, Esplora's key for `/scripthash` (not reversed, unlike Electrum's)."""
    return hashlib.sha256(script).digest()
