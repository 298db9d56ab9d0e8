"""Settings, rate limits and security headers."""

import base64
import json
import re
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path

import pytest

from coordinator_gateway import cli
from coordinator_gateway.config import ConfigError, GatewayConfig
from coordinator_gateway.limits import Buckets, address_of, key_of
from coordinator_gateway.middleware import security_headers


class TestConfig:
    def test_environment(self, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("secret\n")
        config = GatewayConfig.from_env(
            {
                "COORDINATOR_GATEWAY_CORE": "core:1",
                "COORDINATOR_GATEWAY_PORT": "81",
                "COORDINATOR_GATEWAY_HEARTBEAT_SECONDS": "3",
                "COORDINATOR_GATEWAY_CONNECT_ORIGINS": "https://a.example, wss://b.example",
                "COORDINATOR_GATEWAY_PUBLIC_URL": "https://play.example/",
                "COORDINATOR_GATEWAY_WEB_DIR": str(tmp_path),
                "COORDINATOR_GATEWAY_TOKEN_FILE": str(token),
            },
            port=82,
            host=None,
        )
        assert (config.core, config.port, config.host) == ("core:1", 82, "127.0.0.1")
        assert config.heartbeat_seconds == 3.0
        assert config.connect_origins == ("https://a.example", "wss://b.example")
        assert config.public_url == "https://play.example"
        assert config.web_dir == tmp_path
        assert config.token == "secret"
        assert "secret" not in repr(config)

    def test_a_token_file_on_the_command_line_goes_before_a_token_in_the_environment(
        self, tmp_path: Path
    ) -> None:
        token = tmp_path / "token"
        token.write_text("from file")
        config = GatewayConfig.from_env({"COORDINATOR_GATEWAY_TOKEN": "from environment"}, token_file=token)
        assert config.token == "from file"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PORT", "http"),
            ("EVENT_RING", "0"),
            ("MAX_BODY_BYTES", "-1"),
            ("RATE_LIMIT_PER_SECOND", "-1"),
            ("CLIENT_QUEUE", "20000"),
            ("PUBLIC_URL", "play.example"),
            ("PUBLIC_URL", "https://play.example/?x"),
            ("CONNECT_ORIGINS", "https://a.example;script-src *"),
            ("TOKEN_FILE", "/nonexistent"),
        ],
    )
    def test_what_cannot_be(self, name: str, value: str) -> None:
        with pytest.raises(ConfigError):
            GatewayConfig.from_env({f"COORDINATOR_GATEWAY_{name}": value})

    def test_an_empty_token_file(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("\n")
        with pytest.raises(ConfigError):
            GatewayConfig(token_file=tmp_path / "token")

    def test_the_command_says_what_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COORDINATOR_GATEWAY_EVENT_RING", "many")
        with pytest.raises(SystemExit, match="EVENT_RING must be a number"):
            cli.main([])


class TestBuckets:
    def limit(self, *, max_keys: int = 100) -> Buckets:
        self.now = 1000.0
        return Buckets(2.0, 3, max_keys=max_keys, clock=lambda: self.now)

    def test_a_burst_then_a_rate(self) -> None:
        limit = self.limit()
        assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
        self.now += 0.25
        assert limit.take("a") == pytest.approx(0.25)
        self.now += 0.25
        assert limit.take("a") == 0
        assert limit.take("a") == pytest.approx(0.5)

    def test_what_is_charged_afterwards_may_be_owed(self) -> None:
        limit = self.limit()
        assert limit.wait("a") == 0
        for _ in range(5):
            limit.charge("a")
        assert limit.wait("a") == pytest.approx(1.5)
        self.now += 1.5
        assert limit.wait("a") == 0
        limit.charge("a")
        assert limit.wait("a") == pytest.approx(0.5)

    def test_no_more_than_the_burst_is_saved_up(self) -> None:
        limit = self.limit()
        limit.take("a")
        self.now += 3600
        assert [limit.take("a") > 0 for _ in range(4)] == [False, False, False, True]

    def test_keys_do_not_share(self) -> None:
        limit = self.limit()
        for _ in range(4):
            limit.take("a")
        assert limit.take("b") == 0

    def test_memory_is_bounded_and_the_busiest_are_remembered(self) -> None:
        limit = self.limit(max_keys=10)
        for number in range(100):
            for _ in range(4):
                limit.take("busy")
            limit.take(f"stranger {number}")
        assert len(limit) <= 10
        assert limit.take("busy") > 0


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_the_address_that_is_limited(host: str, address: str) -> None:
    assert address_of({"client": (host, 1)}) == address


def test_the_key_that_is_limited() -> None:
    def key(**headers: str) -> str | None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return key_of({"type": "http", "headers": raw})

    def nostr(event: object) -> str:
        return "Nostr " + base64.b64encode(json.dumps(event).encode()).decode()

    assert key() is None
    assert key(authorization=nostr({"pubkey": "ab" * 32})) == "ab" * 32
    bearer = key(authorization="Bearer tok")
    assert bearer == key(cookie="coordinator_session=tok")
    assert bearer is not None
    assert "tok" not in bearer.removeprefix("session:")
    assert bearer != key(authorization="Bearer other")
    for malformed in (
        nostr([]),
        nostr({"pubkey": 1}),
        nostr({"pubkey": "ab"}),
        "Nostr ???",
        "Nostr",
        "Basic x",
    ):
        assert key(authorization=malformed) is None


def test_content_security_policy() -> None:
    policy = security_headers(GatewayConfig(connect_origins=("https://keymeld.example",)))[
        "content-security-policy"
    ]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["connect-src"] == "'self' https://keymeld.example"
    assert "unsafe-inline" not in directives["script-src"]
    assert directives["frame-ancestors"] == "'none'"


def test_https_is_for_good() -> None:
    assert "strict-transport-security" not in security_headers(GatewayConfig(public_url="http://x.example"))
    assert "strict-transport-security" in security_headers(GatewayConfig(public_url="https://x.example"))


def test_every_setting_is_in_the_manual_with_its_default() -> None:
    manual = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"
    described: dict[str, str] = {}
    for line in manual.read_text().splitlines():
        if line.startswith("| `"):
            names, defaults = (re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3])
            described |= dict(zip_longest(names, defaults, fillvalue=""))
    settings = {setting.name.upper(): setting.default for setting in fields(GatewayConfig)}
    assert described == {
        name: str(default) if default not in (None, ()) else "" for name, default in settings.items()
    }
