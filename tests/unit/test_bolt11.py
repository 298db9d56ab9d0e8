"""BOLT 11 against the specification's own examples."""

from dataclasses import replace
from hashlib import sha256

import pytest
from coincurve import PrivateKey
from embit import bech32

from coordinator_client.bolt11 import Bolt11Error, RouteHop, decode, encode

# https://github.com/lightning/bolts/blob/master/11-payment-encoding.md, "Examples" (CC BY 4.0)
KEY = PrivateKey(bytes.fromhex("e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734"))
PAYEE = bytes.fromhex("03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad")
HASH = bytes.fromhex("0001020304050607080900010203040506070809000102030405060708090102")
CREATED_AT = 1496314658
LIST_HASH = sha256(
    b"One piece of chocolate cake, one icecream cone, one pickle, one slice of swiss cheese, one slice of "
    b"salami, one lollypop, one piece of cherry pie, one sausage, one cupcake, and one slice of watermelon"
).digest()
TESTNET_HASH_FIRST = "lntb20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfpp3x9et2e20v6pu37c5d9vax37wxq72un98kmzzhznpurw9sgl2v0nklu2g4d0keph5t7tj9tcqd8rexnd07ux4uv2cjvcqwaxgj7v4uwn5wmypjd5n69z2xm3xgksg28nwht7f6zspwp3f9t"  # noqa: E501

DONATION = "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq8rkx3yf5tcsyz3d73gafnh3cax9rn449d9p5uxz9ezhhypd0elx87sjle52x86fux2ypatgddc6k63n7erqz25le42c4u4ecky03ylcqca784w"  # noqa: E501
COFFEE = "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaztrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp"  # noqa: E501
NONSENSE = "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny"  # noqa: E501
LIST_OF_THINGS = "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqscc6gd6ql3jrc5yzme8v4ntcewwz5cnw92tz0pc8qcuufvq7khhr8wpald05e92xw006sq94mg8v2ndf4sefvf9sygkshp5zfem29trqq2yxxz7"  # noqa: E501
ROUTED = "lnbc20m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqsfpp3qjmp7lwpagxun9pygexvgpjdc4jdj85fr9yq20q82gphp2nflc7jtzrcazrra7wwgzxqc8u7754cdlpfrmccae92qgzqvzq2ps8pqqqqqqpqqqqq9qqqvpeuqafqxu92d8lr6fvg0r5gv0heeeqgcrqlnm6jhphu9y00rrhy4grqszsvpcgpy9qqqqqqgqqqqq7qqzqj9n4evl6mr5aj9f58zp6fyjzup6ywn3x6sk8akg5v4tgn2q8g4fhx05wf6juaxu9760yp46454gpg5mtzgerlzezqcqvjnhjh8z3g2qqdhhwkj"  # noqa: E501
P2SH = "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfppj3a24vwu6r8ejrss3axul8rxldph2q7z9kmrgvr7xlaqm47apw3d48zm203kzcq357a4ls9al2ea73r8jcceyjtya6fu5wzzpe50zrge6ulk4nvjcpxlekvmxl6qcs9j3tz0469gq5g658y"  # noqa: E501
P2WPKH = "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfppqw508d6qejxtdg4y5r3zarvary0c5xw7kepvrhrm9s57hejg0p662ur5j5cr03890fa7k2pypgttmh4897d3raaq85a293e9jpuqwl0rnfuwzam7yr8e690nd2ypcq9hlkdwdvycqa0qza8"  # noqa: E501
P2WSH = "lnbc20m1pvjluezhp58yjmdan79s6qqdhdzgynm4zwqd5d7xmw5fk98klysy043l2ahrqspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqfp4qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q28j0v3rwgy9pvjnd48ee2pl8xrpxysd5g44td63g6xcjcu003j3qe8878hluqlvl3km8rm92f5stamd3jw763n3hck0ct7p8wwj463cql26ava"  # noqa: E501
PICO = "lnbc9678785340p1pwmna7lpp5gc3xfm08u9qy06djf8dfflhugl6p7lgza6dsjxq454gxhj9t7a0sd8dgfkx7cmtwd68yetpd5s9xar0wfjn5gpc8qhrsdfq24f5ggrxdaezqsnvda3kkum5wfjkzmfqf3jkgem9wgsyuctwdus9xgrcyqcjcgpzgfskx6eqf9hzqnteypzxz7fzypfhg6trddjhygrcyqezcgpzfysywmm5ypxxjemgw3hxjmn8yptk7untd9hxwg3q2d6xjcmtv4ezq7pqxgsxzmnyyqcjqmt0wfjjq6t5v4khxxqyjw5qcqp2rzjq0gxwkzc8w6323m55m4jyxcjwmy7stt9hwkwe2qxmy8zpsgg7jcuwz87fcqqeuqqqyqqqqlgqqqqn3qq9qn07ytgrxxzad9hc4xt3mawjjt8znfv8xzscs7007v9gh9j569lencxa8xeujzkxs0uamak9aln6ez02uunw6rd2ht2sqe4hz8thcdagpleym0j"  # noqa: E501
BEANS = "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q5sqqqqqqqqqqqqqqqpqsq67gye39hfg3zd8rgc80k32tvy9xk2xunwm5lzexnvpx6fd77en8qaq424dxgt56cag2dpt359k3ssyhetktkpqh24jqnjyw6uqd08sgptq44qu"  # noqa: E501
INVALID = {
    "unknown required feature 100": "lnbc25m1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5vdhkven9v5sxyetpdeessp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygs9q4psqqqqqqqqqqqqqqqpqsqq40wa3khl49yue3zsgm26jrepqr2eghqlx86rttutve3ugd05em86nsefzh4pfurpd9ek9w2vp95zxqnfe2u7ckudyahsa52q66tgzcp6t2dyk",  # noqa: E501
    "invalid checksum": "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrnt",  # noqa: E501
    "no separator": "pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny",  # noqa: E501
    "mixed case": "LNBC2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpquwpc4curk03c9wlrswe78q4eyqc7d8d0xqzpuyk0sg5g70me25alkluzd2x62aysf2pyy8edtjeevuv4p2d5p76r4zkmneet7uvyakky2zr4cusd45tftc9c5fh0nnqpnl2jfll544esqchsrny",  # noqa: E501
    "signature not recoverable": "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaxtrnwngzn3kdzw5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspk28uwq",  # noqa: E501
    "too short": "lnbc1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6na6hlh",  # noqa: E501
    "invalid multiplier": "lnbc2500x1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpujr6jxr9gq9pv6g46y7d20jfkegkg4gljz2ea2a3m9lmvvr95tq2s0kvu70u3axgelz3kyvtp2ywwt0y8hkx2869zq5dll9nelr83zzqqpgl2zg",  # noqa: E501
    "sub-millisatoshi": "lnbc2500000001p1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu7hqtk93pkf7sw55rdv4k9z2vj050rxdr6za9ekfs3nlt5lr89jqpdmxsmlj9urqumg0h9wzpqecw7th56tdms40p2ny9q4ddvjsedzcplva53s",  # noqa: E501
}


def test_donation_of_any_amount() -> None:
    request = decode(DONATION)
    assert request.network == "bc"
    assert request.amount_msats is None
    assert request.created_at == CREATED_AT
    assert request.payment_hash == HASH
    assert request.payee == PAYEE
    assert request.description == "Please consider supporting this project"
    assert request.expiry_seconds == 3600
    assert request.min_final_cltv_blocks == 18
    assert request.payment_secret is None


def test_coffee_within_one_minute() -> None:
    request = decode(COFFEE)
    assert request.amount_msats == 250_000_000
    assert request.description == "1 cup coffee"
    assert request.expiry_seconds == 60
    assert request.expires_at == CREATED_AT + 60
    assert request.payee == PAYEE


def test_description_outside_ascii() -> None:
    assert decode(NONSENSE).description == "ナンセンス 1杯"


def test_hashed_description() -> None:
    request = decode(LIST_OF_THINGS)
    assert request.amount_msats == 2_000_000_000
    assert request.description is None
    assert request.description_hash == LIST_HASH


@pytest.mark.parametrize(
    ("text", "network", "version", "program"),
    [
        (TESTNET_HASH_FIRST, "tb", 17, "3172b5654f6683c8fb146959d347ce303cae4ca7"),
        (P2SH, "bc", 18, "8f55563b9a19f321c211e9b9f38cdf686ea07845"),
        (P2WPKH, "bc", 0, "751e76e8199196d454941c45d1b3a323f1433bd6"),
        (P2WSH, "bc", 0, "1863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262"),
    ],
)
def test_fallback_address(text: str, network: str, version: int, program: str) -> None:
    request = decode(text)
    assert request.network == network
    assert request.fallbacks == ((version, bytes.fromhex(program)),)
    assert (request.payment_hash, request.payee) == (HASH, PAYEE)


def test_route_hints() -> None:
    request = decode(ROUTED)
    assert request.fallbacks == ((17, bytes.fromhex("04b61f7dc1ea0dc99424464cc4064dc564d91e89")),)
    key = "9e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255"
    assert request.routes == (
        (
            RouteHop(bytes.fromhex(f"02{key}"), 0x0102030405060708, 1, 20, 3),
            RouteHop(bytes.fromhex(f"03{key}"), 0x030405060708090A, 2, 30, 4),
        ),
    )


def test_amount_in_pico_bitcoin() -> None:
    request = decode(PICO)
    assert request.amount_msats == 967_878_534
    assert request.created_at == 1572468703
    assert request.expiry_seconds == 604_800
    assert request.min_final_cltv_blocks == 10
    assert request.payment_hash.hex() == "462264ede7e14047e9b249da94fefc47f41f7d02ee9b091815a5506bc8abf75f"
    [[hop]] = request.routes
    assert hop.short_channel_id == 589390 << 40 | 3312 << 16 | 1
    assert (hop.fee_base_msats, hop.fee_proportional_millionths, hop.cltv_expiry_delta_blocks) == (
        1000,
        2500,
        40,
    )


@pytest.mark.parametrize("text", [BEANS, BEANS.upper()])
def test_secret_and_features(text: str) -> None:
    request = decode(text)
    assert request.amount_msats == 2_500_000_000
    assert request.description == "coffee beans"
    assert request.payment_secret == b"\x11" * 32
    assert request.features == {9, 15, 99}
    assert request.payment_hash == HASH
    assert request.payee == PAYEE
    assert request.fallbacks == ()
    assert request.description_hash is None


def resigned(text: str, extra_words: str) -> str:
    """The payment request with words added after its tagged fields, and signed anew."""
    hrp, _, data = text.rpartition("1")
    words = [bech32.CHARSET.index(c) for c in data[:-110] + extra_words]
    digest = sha256(hrp.encode() + bytes(bech32.convertbits(words, 5, 8, True))).digest()
    signature = KEY.sign_recoverable(digest, hasher=None)
    return bech32.bech32_encode(
        bech32.Encoding.BECH32, hrp, words + bech32.convertbits(signature, 8, 5, True)
    )


def test_fields_that_must_be_ignored() -> None:
    """As in the specification: an unknown field, an unknown fallback version, and fields of odd lengths."""
    fields = [
        f"{tag}{length}" + "q" * (32 + "qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(length[1]))
        for tag in "phs"
        for length in ("pn", "p4")
    ]
    ignored = f"2qrqqqfppn{'q' * 32}{''.join(fields)}np5{'q' * 52}npk{'q' * 54}"
    text = resigned(BEANS, ignored)
    assert len(text) == len(BEANS) + len(ignored)
    assert decode(text) == decode(BEANS)


def test_payee_that_is_named_must_have_signed() -> None:
    def named(key: bytes) -> str:
        return resigned(
            BEANS, "np4" + "".join(bech32.CHARSET[word] for word in bech32.convertbits(key, 8, 5, True))
        )

    assert decode(named(PAYEE)).payee == PAYEE
    with pytest.raises(Bolt11Error):
        decode(named(PrivateKey(b"\x01" * 32).public_key.format()))
    with pytest.raises(Bolt11Error):
        decode(named(b"\x02" + b"\xff" * 32))


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_invalid_examples(text: str) -> None:
    with pytest.raises(Bolt11Error):
        decode(text)


@pytest.mark.parametrize(
    "text", ["", "1", "lnbc1", "lnbcrt1qqqqqq", "lnbc1ſ" + "q" * 99, "lnbc1" + "q" * 200]
)
def test_garbage(text: str) -> None:
    with pytest.raises(Bolt11Error):
        decode(text)


def test_every_changed_character_is_noticed() -> None:
    for position in range(len("lnbc2500u1"), len(COFFEE), 7):
        changed = "q" if COFFEE[position] != "q" else "p"
        with pytest.raises(Bolt11Error):
            decode(COFFEE[:position] + changed + COFFEE[position + 1 :])


def test_encoding_reproduces_the_examples() -> None:
    """The examples are signed deterministically (RFC 6979), so equal input gives equal strings."""
    base = {"network": "bc", "payment_hash": HASH, "created_at": CREATED_AT}
    assert encode(KEY, **base, description="Please consider supporting this project") == DONATION
    assert (
        encode(KEY, **base, amount_msats=250_000_000, description="1 cup coffee", expiry_seconds=60) == COFFEE
    )
    assert (
        encode(KEY, **base, amount_msats=250_000_000, description="ナンセンス 1杯", expiry_seconds=60)
        == NONSENSE
    )
    assert encode(KEY, **base, amount_msats=2_000_000_000, description_hash=LIST_HASH) == LIST_OF_THINGS
    assert (
        encode(
            KEY,
            **base,
            amount_msats=2_500_000_000,
            description="coffee beans",
            payment_secret=b"\x11" * 32,
            features=[9, 15, 99],
        )
        == BEANS
    )


@pytest.mark.parametrize("amount_msats", [None, 1, 10, 99, 100, 12_345_678, 10**8, 10**11, 21 * 10**17])
@pytest.mark.parametrize("network", ["bc", "tb", "tbs", "bcrt"])
def test_round_trip(amount_msats: int | None, network: str) -> None:
    text = encode(
        KEY,
        network=network,
        payment_hash=HASH,
        created_at=CREATED_AT,
        amount_msats=amount_msats,
        description="",
        expiry_seconds=0,
        min_final_cltv_blocks=2016,
        payment_secret=b"\x22" * 32,
        features=[8, 14, 17],
    )
    request = decode(text)
    assert request == replace(
        request,
        network=network,
        amount_msats=amount_msats,
        payment_hash=HASH,
        payee=KEY.public_key.format(),
        description="",
        expiry_seconds=0,
        min_final_cltv_blocks=2016,
        payment_secret=b"\x22" * 32,
        features=frozenset({8, 14, 17}),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"amount_msats": 0},
        {"amount_msats": -1},
        {"network": "xx"},
        {"payment_hash": b"short"},
        {"description": None},
        {"description_hash": bytes(32)},
        {"description": "x" * 640},
        {"expiry_seconds": -1},
        {"created_at": 1 << 35},
    ],
)
def test_what_cannot_be_encoded(change: dict[str, object]) -> None:
    arguments = {
        "network": "bcrt",
        "payment_hash": HASH,
        "created_at": CREATED_AT,
        "description": "x",
        **change,
    }
    with pytest.raises(Bolt11Error):
        encode(KEY, **arguments)
