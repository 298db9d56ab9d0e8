"""What is agreed before anybody pays: a competition's terms and their limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.domain.errors import FieldViolation, InvalidInput

SCORING_FIELDS = (
    "temp_high",
    "temp_low",
    "wind_speed",
    "wind_direction",
    "rain_amt",
    "snow_amt",
    "humidity",
)
MIN_ENTRY_FEE_SATS = 1_000
MAX_ENTRY_FEE_SATS = 100_000_000
MAX_ENTRIES = 100
MAX_PLACES = 5
MAX_FEE_PERCENT = 50
MAX_FEE_RATE_SATS_PER_VB = 1_000
MAX_POOL_SATS = 21_000_000 * 100_000_000
# 2 * delta must fit the 16 bits of a BIP68 block count.
MAX_RELATIVE_LOCKTIME_BLOCKS = 32_767
MAX_LOCK_TIME = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Terms:
    """A competition's terms. Times are unix seconds; see proto CompetitionTerms for each field."""

    name: str
    entry_fee_sats: int
    coordinator_fee_percent: int
    total_competition_pool_sats: int
    total_allowed_entries: int
    min_entries: int
    number_of_places_win: int
    number_of_values_per_entry: int
    locations: tuple[str, ...]
    scoring_fields: tuple[str, ...]
    start_observation_at: int
    end_observation_at: int
    signing_at: int
    relative_locktime_blocks: int
    fee_rate_sats_per_vb: int
    require_signing_approval: bool = False

    def with_defaults(self, *, relative_locktime_blocks: int, fee_rate_sats_per_vb: int) -> Terms:
        """Zeroes replaced by the defaults that the API promises."""
        return replace(
            self,
            min_entries=self.min_entries or self.total_allowed_entries,
            relative_locktime_blocks=self.relative_locktime_blocks or relative_locktime_blocks,
            fee_rate_sats_per_vb=self.fee_rate_sats_per_vb or fee_rate_sats_per_vb,
        )

    def validate(self, *, now: int, prefix: str = "terms.") -> None:
        """Checks every limit.

        Raises:
            InvalidInput: names each field that is wrong.
        """
        wrong: list[FieldViolation] = []

        def check(ok: bool, field: str, description: str) -> None:
            if not ok:
                wrong.append(FieldViolation(prefix + field, description))

        def within(field: str, value: int, low: int, high: int) -> bool:
            check(low <= value <= high, field, f"must be {low:,} to {high:,}, is {value:,}")
            return low <= value <= high

        check(
            len(self.name.strip()) >= 1 and len(self.name) <= 100 and self.name.isprintable(),
            "name",
            "must be 1 to 100 printable characters",
        )
        within("entry_fee_sats", self.entry_fee_sats, MIN_ENTRY_FEE_SATS, MAX_ENTRY_FEE_SATS)
        within("coordinator_fee_percent", self.coordinator_fee_percent, 0, MAX_FEE_PERCENT)
        entries_ok = within("total_allowed_entries", self.total_allowed_entries, 2, MAX_ENTRIES)
        if entries_ok:
            within("min_entries", self.min_entries, 2, self.total_allowed_entries)
        if within("number_of_places_win", self.number_of_places_win, 1, MAX_PLACES):
            # With as many winners as entries the refund message would equal a ranking's.
            check(
                self.number_of_places_win < self.min_entries,
                "number_of_places_win",
                f"must be fewer than the {self.min_entries} entries it may start with",
            )
        check(bool(self.locations), "locations", "needs at least one station")
        check(len(set(self.locations)) == len(self.locations), "locations", "names a station twice")
        check(
            all(s and len(s) <= 64 and s.isprintable() for s in self.locations),
            "locations",
            "station ids have 1 to 64 printable characters",
        )
        check(len(self.locations) <= 50, "locations", "takes at most 50 stations")
        check(bool(self.scoring_fields), "scoring_fields", "needs at least one field")
        check(
            len(set(self.scoring_fields)) == len(self.scoring_fields), "scoring_fields", "names a field twice"
        )
        unknown = [f for f in self.scoring_fields if f not in SCORING_FIELDS]
        check(
            not unknown,
            "scoring_fields",
            f"unknown: {', '.join(unknown)}; known: {', '.join(SCORING_FIELDS)}",
        )
        most = len(self.locations) * len(self.scoring_fields)
        within("number_of_values_per_entry", self.number_of_values_per_entry, 1, max(1, most))
        check(self.start_observation_at > now, "start_observation_at", "must lie in the future")
        check(
            self.end_observation_at > self.start_observation_at,
            "end_observation_at",
            "must come after start_observation_at",
        )
        check(
            self.signing_at >= self.end_observation_at,
            "signing_at",
            "must not come before end_observation_at",
        )
        check(
            self.signing_at <= MAX_LOCK_TIME,
            "signing_at",
            "must lie before 2106, where lock times end (BIP65)",
        )
        within("relative_locktime_blocks", self.relative_locktime_blocks, 1, MAX_RELATIVE_LOCKTIME_BLOCKS)
        within("fee_rate_sats_per_vb", self.fee_rate_sats_per_vb, 1, MAX_FEE_RATE_SATS_PER_VB)
        pool = self.total_competition_pool_sats
        if pool != 0 and within("total_competition_pool_sats", pool, 0, MAX_POOL_SATS) and entries_ok:
            least = self.total_allowed_entries * self.pool_share_sats
            check(
                pool >= least,
                "total_competition_pool_sats",
                f"must be 0 or at least what {self.total_allowed_entries} entries bring in: {least:,} sats",
            )
        if wrong:
            raise InvalidInput(wrong)

    @property
    def coordinator_fee_sats(self) -> int:
        """The coordinator's part of one entry fee, rounded down."""
        return self.entry_fee_sats * self.coordinator_fee_percent // 100

    @property
    def pool_share_sats(self) -> int:
        """What one entry brings into the pool."""
        return self.entry_fee_sats - self.coordinator_fee_sats

    def funding_value_sats(self, entries: int) -> int:
        """What the contract's funding output holds with this many entries."""
        return self.total_competition_pool_sats or entries * self.pool_share_sats
