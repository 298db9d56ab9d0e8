"""Settings, rate limits and security headers."""

from pathlib import Path

import pytest

from coordinator_gateway import cli
from coordinator_gateway.config import ConfigError, GatewayConfig
from coordinator_gateway.middleware import RateLimit, security_headers


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


class TestRateLimit:
    def limit(self, *, max_addresses: int = 100) -> RateLimit:
        self.now = 1000.0

        async def app(*_: object) -> None:
            raise AssertionError

        return RateLimit(app, 2.0, 3, max_addresses=max_addresses, clock=lambda: self.now)

    def test_a_burst_then_a_rate(self) -> None:
        limit = self.limit()
        assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
        self.now += 0.25
        assert limit.take("a") == pytest.approx(0.25)
        self.now += 0.25
        assert limit.take("a") == 0
        assert limit.take("a") == pytest.approx(0.5)

    def test_no_more_than_the_burst_is_saved_up(self) -> None:
        limit = self.limit()
        limit.take("a")
        self.now += 3600
        assert [limit.take("a") > 0 for _ in range(4)] == [False, False, False, True]

    def test_addresses_do_not_share(self) -> None:
        limit = self.limit()
        for _ in range(4):
            limit.take("a")
        assert limit.take("b") == 0

    def test_memory_is_bounded_and_the_busiest_are_remembered(self) -> None:
        limit = self.limit(max_addresses=10)
        for number in range(100):
            for _ in range(4):
                limit.take("busy")
            limit.take(f"stranger {number}")
        assert len(limit._buckets) <= 10
        assert limit.take("busy") > 0


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
