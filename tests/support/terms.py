"""Terms for tests that need some and do not care which."""

from coordinator.domain.terms import Terms

TERMS = Terms(
    name="any",
    entry_fee_sats=5_000,
    coordinator_fee_percent=10,
    total_competition_pool_sats=0,
    total_allowed_entries=3,
    min_entries=3,
    number_of_places_win=1,
    number_of_values_per_entry=1,
    locations=("KORD",),
    scoring_fields=("temp_high",),
    start_observation_at=1,
    end_observation_at=2,
    signing_at=3,
    relative_locktime_blocks=144,
    fee_rate_sats_per_vb=2,
)
