"""Lightning addresses (LUD-16) and LNURL codes (LUD-01): where to ask for an invoice. No network here.

The rules are https://github.com/lnurl/luds: 01 (encoding), 06 (payRequest), 16 (addresses).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from embit import bech32

MAX_CHARACTERS: Final = 2048
_USER: Final = re.compile(r"[a-z0-9._+-]{1,64}")
_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?")
_CHECKSUM_WORDS: Final = 6


class InvalidDestination(Exception):
    """It is neither a Lightning address nor an LNURL code, or points where it must not."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom to ask for an invoice. `text` is canonical: lower case, without `lightning:`."""

    text: str
    url: str


def parse_destination(text: str) -> Destination | None:
    """Where to ask; None when the text does not look like an address or a code, such as an invoice.

    Raises:
        InvalidDestination: it looks like one and is none.
    """
    text = text.strip()
    if text[:10].lower() == "lightning:":
        text = text[10:]
    lowered = text.lower()
    if "@" in text:
        return _address(lowered)
    if lowered.startswith("lnurl1"):
        if text not in (lowered, text.upper()):
            raise InvalidDestination("the LNURL code mixes upper and lower case")
        return Destination(lowered, checked_url(_decoded(lowered)).geturl())
    return None


def checked_url(url: str) -> SplitResult:
    """The parts of a URL that may be asked: https, or http where that is as good (onion services, this host).

    Raises:
        InvalidDestination: it may not.
    """
    if len(url) > MAX_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidDestination("the URL is too long or holds characters that a URL cannot")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        raise InvalidDestination("the URL is malformed") from None
    if not host or port == 0 or parts.username is not None or parts.password is not None:
        raise InvalidDestination("the URL names no host, or a user")
    if parts.scheme == "http" and not (host.endswith(".onion") or is_loopback(host)):
        raise InvalidDestination("only https is asked, save for onion services")
    if parts.scheme not in ("https", "http"):
        raise InvalidDestination("only https is asked")
    return parts._replace(fragment="")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(text: str) -> Destination:
    user, _, host = text.partition("@")
    if not _USER.fullmatch(user) or not _HOST.fullmatch(host):
        raise InvalidDestination("the Lightning address is not of the form name@domain")
    name = urlsplit(f"//{host}").hostname or ""
    scheme = "http" if name.endswith(".onion") or is_loopback(name) else "https"
    url = checked_url(f"{scheme}://{host}/.well-known/lnurlp/{user}").geturl()
    return Destination(text, url)


def _decoded(text: str) -> str:
    if len(text) > MAX_CHARACTERS:
        raise InvalidDestination("the LNURL code is too long")
    # BIP173's limit of 90 characters does not hold here (LUD-01).
    words = [bech32.CHARSET.find(character) for character in text[len("lnurl1") :]]
    if -1 in words or len(words) <= _CHECKSUM_WORDS:
        raise InvalidDestination("the LNURL code is malformed")
    checksum = bech32.bech32_verify_checksum("lnurl", words)  # type: ignore[no-untyped-call]
    if checksum != bech32.Encoding.BECH32:
        raise InvalidDestination("the LNURL code's checksum is wrong: it was not copied whole")
    data = bech32.convertbits(words[:-_CHECKSUM_WORDS], 5, 8, False)  # type: ignore[no-untyped-call]
    try:
        return bytes(data or ()).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidDestination("the LNURL code holds no URL") from None
