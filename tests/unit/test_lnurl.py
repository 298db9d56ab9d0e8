"""Lightning addresses and LNURL codes: where they lead, and what must not be asked."""

import pytest
from embit import bech32

from coordinator.domain.lnurl import InvalidDestination, checked_url, parse_destination

# The example of LUD-01.
LUD_01 = (
    "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXX"
    "EPNXSCRVWFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
)
LUD_01_URL = "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"


def code(url: str, hrp: str = "lnurl") -> str:
    words = bech32.convertbits(url.encode(), 8, 5)
    return bech32.bech32_encode(bech32.Encoding.BECH32, hrp, words)


@pytest.mark.parametrize(
    "text", [LUD_01, LUD_01.lower(), f"lightning:{LUD_01}", f"LIGHTNING:{LUD_01}", f" {LUD_01}\n"]
)
def test_a_code_leads_to_its_url(text: str) -> None:
    destination = parse_destination(text)
    assert destination is not None
    assert destination.url == LUD_01_URL
    assert destination.text == LUD_01.lower()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("satoshi@bitcoin.org", "https://bitcoin.org/.well-known/lnurlp/satoshi"),
        ("Satoshi@Bitcoin.ORG", "https://bitcoin.org/.well-known/lnurlp/satoshi"),
        ("a.b_c-d+tag@pay.example:8443", "https://pay.example:8443/.well-known/lnurlp/a.b_c-d+tag"),
        ("bob@abcdefgh.onion", "http://abcdefgh.onion/.well-known/lnurlp/bob"),
        ("player@127.0.0.1:10080", "http://127.0.0.1:10080/.well-known/lnurlp/player"),
        ("player@localhost:10080", "http://localhost:10080/.well-known/lnurlp/player"),
        ("p@[::1]:1", "http://[::1]:1/.well-known/lnurlp/p"),
        ("p@10.0.0.1", "https://10.0.0.1/.well-known/lnurlp/p"),
    ],
)
def test_an_address_leads_to_its_domain(text: str, url: str) -> None:
    destination = parse_destination(text)
    assert destination is not None
    assert destination.url == url


@pytest.mark.parametrize("text", ["", "lnbc1whatever", "lightning:lnbc1", "satoshi", "https://pay.example/x"])
def test_anything_else_is_not_taken_for_one(text: str) -> None:
    assert parse_destination(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "@", "a@", "@b", "a@b@c", "a/b@c", "a@b/c", "a@b?c", "a@b#c", "a b@c", "a@b:", "a@b:0", "a@b:99999",
        "é@b.c", "a@é.c", "a@[zz]", "a@b c", "x" * 65 + "@b.c", "a%2f@b",
        LUD_01[:-1] + "Q", LUD_01[:50], "lnurl1", LUD_01[:60] + LUD_01[60:].lower(), "lnurl1" + "q" * 3000,
        code("http://service.com/x"), code("ftp://service.com/x"), code("file:///etc/passwd"), code("gopher://x/"),
        code("https://user:pw@service.com/"), code("https://"), code("nonsense"), code("https://x/ y"),
        code("https://x/\n"), code("https://é/"), code("javascript:alert(1)"), code("https://x:0/"),
        code("https://x:123456/"), code("https://[::1/"),
    ],
)  # fmt: skip
def test_what_must_not_be_asked_is_refused(text: str) -> None:
    with pytest.raises(InvalidDestination):
        parse_destination(text)


def test_fragments_are_not_sent() -> None:
    assert checked_url("https://pay.example/a?b=c#d").geturl() == "https://pay.example/a?b=c"
