"""Tables. Times are unix seconds, keys and hashes lower-case hex. Secrets are encrypted before they come
here.

A model's docstring becomes its table's comment in the migrations: no
semicolon in it (SQLite's editor splits there).
"""

from __future__ import annotations

from tortoise import fields
from tortoise.indexes import Index
from tortoise.models import Model


class CompetitionRow(Model):
    """A competition: its stored state, and what the runner knows about its next step."""

    id = fields.CharField(max_length=36, primary_key=True)
    terms: fields.JSONField[dict[str, object]] = fields.JSONField()
    state_name = fields.CharField(max_length=32, db_index=True)
    state: fields.JSONField[dict[str, object]] = fields.JSONField()
    # Raised by every write of the state: who read an older one may not write (fencing).
    version = fields.IntField(default=0)
    sequence = fields.BigIntField(default=0)
    paused = fields.BooleanField(default=False)
    created_at = fields.BigIntField()
    state_changed_at = fields.BigIntField()
    next_attempt_at = fields.BigIntField(default=0)
    failed_attempts = fields.IntField(default=0)
    last_error = fields.TextField(default="")
    progress_done = fields.IntField(default=0)
    progress_total = fields.IntField(default=0)
    # Nothing is left for the runner: terminal and all money where it belongs.
    at_rest = fields.BooleanField(default=False, db_index=True)
    # Which core drives it, and until when by the database's clock, where several share a database.
    lease_owner = fields.CharField(max_length=36, default="")
    lease_until_at = fields.BigIntField(default=0)

    class Meta:
        table = "competitions"


class TicketRow(Model):
    """A ticket and its hold invoice."""

    id = fields.CharField(max_length=36, primary_key=True)
    competition: fields.ForeignKeyRelation[CompetitionRow] = fields.ForeignKeyField(
        "coordinator.CompetitionRow", related_name="tickets", on_delete=fields.RESTRICT
    )
    competition_id: str
    owner_pubkey = fields.CharField(max_length=64, db_index=True)
    state = fields.CharField(max_length=16, db_index=True)
    ticket_hash = fields.CharField(max_length=64, unique=True)
    preimage_encrypted = fields.BinaryField()
    payment_request = fields.TextField(default="")
    amount_sats = fields.BigIntField()
    created_at = fields.BigIntField()
    reserved_until_at = fields.BigIntField()
    htlc_expiry_height = fields.IntField(null=True)

    class Meta:
        table = "tickets"


class EntryRow(Model):
    """An entry. One per ticket: the database says so."""

    id = fields.CharField(max_length=36, primary_key=True)
    competition: fields.ForeignKeyRelation[CompetitionRow] = fields.ForeignKeyField(
        "coordinator.CompetitionRow", related_name="entries", on_delete=fields.RESTRICT
    )
    competition_id: str
    ticket: fields.OneToOneRelation[TicketRow] = fields.OneToOneField(
        "coordinator.TicketRow", related_name="entry", on_delete=fields.RESTRICT
    )
    ticket_id: str
    owner_pubkey = fields.CharField(max_length=64, db_index=True)
    expected_observations: fields.JSONField[list[dict[str, str]]] = fields.JSONField()
    ephemeral_pubkey = fields.CharField(max_length=66)
    payout_hash = fields.CharField(max_length=64)
    ephemeral_private_key_encrypted = fields.TextField(default="")
    payout_preimage_encrypted = fields.TextField(default="")
    keymeld: fields.JSONField[dict[str, object]] = fields.JSONField()
    created_at = fields.BigIntField()
    release_signature = fields.TextField(default="")
    funding_signature = fields.TextField(default="")

    class Meta:
        table = "entries"


class PayoutRow(Model):
    """A winner's request to be paid over Lightning, and how it went."""

    entry: fields.OneToOneRelation[EntryRow] = fields.OneToOneField(
        "coordinator.EntryRow", related_name="payout", primary_key=True, on_delete=fields.RESTRICT
    )
    entry_id: str
    competition_id = fields.CharField(max_length=36, db_index=True)
    player_index = fields.IntField()
    state = fields.CharField(max_length=16)
    amount_sats = fields.BigIntField()
    # A Lightning address or LNURL that invoices are asked from. Empty where the winner gave an invoice.
    destination = fields.TextField(default="")
    payment_request = fields.TextField(default="")
    payment_hash = fields.CharField(max_length=64, default="")
    failure_reason = fields.TextField(default="")
    requested_at = fields.BigIntField()
    paid_at = fields.BigIntField(null=True)
    attempts = fields.IntField(default=0)
    fee_msats = fields.BigIntField(default=0)
    payout_preimage_encrypted = fields.BinaryField(null=True)
    ephemeral_key_encrypted = fields.BinaryField(null=True)

    class Meta:
        table = "payouts"


class PaymentAttemptRow(Model):
    """One invoice that a payout was attempted with. A payment hash is attempted once in the table's life."""

    payment_hash = fields.CharField(max_length=64, primary_key=True)
    entry_id = fields.CharField(max_length=36, db_index=True)
    payment_request = fields.TextField()
    amount_sats = fields.BigIntField()
    state = fields.CharField(max_length=16)
    failure_reason = fields.TextField(default="")
    created_at = fields.BigIntField()
    finished_at = fields.BigIntField(null=True)

    class Meta:
        table = "payment_attempts"


class OracleAlertRow(Model):
    """What an oracle did that it must not do, with the evidence. Kept for good."""

    # SHA256 of the rest: the same is noted once.
    key = fields.CharField(max_length=64, primary_key=True)
    competition_id = fields.CharField(max_length=36, db_index=True)
    kind = fields.CharField(max_length=48)
    message = fields.TextField()
    evidence: fields.JSONField[dict[str, str]] = fields.JSONField()
    noticed_at = fields.BigIntField()

    class Meta:
        table = "oracle_alerts"


class IntentRow(Model):
    """A side effect that moves money, recorded before it is attempted. `key` is its idempotency key."""

    key = fields.CharField(max_length=160, primary_key=True)
    competition_id = fields.CharField(max_length=36, db_index=True, null=True)
    status = fields.CharField(max_length=16)
    data: fields.JSONField[dict[str, object]] = fields.JSONField()
    created_at = fields.BigIntField()
    attempted_at = fields.BigIntField(null=True)
    done_at = fields.BigIntField(null=True)

    class Meta:
        table = "intents"


class EventRow(Model):
    """One event of the log. Sequences are assigned under a lock: strictly increasing, without gaps."""

    sequence = fields.BigIntField(primary_key=True, generated=False)
    competition_id = fields.CharField(max_length=36)
    kind = fields.CharField(max_length=48)
    state_name = fields.CharField(max_length=32)
    occurred_at = fields.BigIntField()
    data: fields.JSONField[dict[str, object]] = fields.JSONField()
    # Empty: everybody may see it; else only this Nostr key (and admins).
    audience_pubkey = fields.CharField(max_length=64, default="")

    class Meta:
        table = "events"
        indexes = (Index(fields=("competition_id", "sequence")),)


class SequenceRow(Model):
    """The last event sequence (one row)."""

    id = fields.IntField(primary_key=True, generated=False)
    last_sequence = fields.BigIntField(default=0)

    class Meta:
        table = "event_sequence"


class AuthEventRow(Model):
    """NIP-98 events that were accepted: each once."""

    event_id = fields.CharField(max_length=64, primary_key=True)
    expires_at = fields.BigIntField(db_index=True)

    class Meta:
        table = "auth_events"


class UserRow(Model):
    """A Nostr key that was seen."""

    pubkey = fields.CharField(max_length=64, primary_key=True)
    created_at = fields.BigIntField()

    class Meta:
        table = "users"


class SessionRow(Model):
    """A login session. Only the hash of its token is kept."""

    token_hash = fields.CharField(max_length=64, primary_key=True)
    pubkey = fields.CharField(max_length=64, db_index=True)
    expires_at = fields.BigIntField(db_index=True)

    class Meta:
        table = "sessions"


class WalletAddressRow(Model):
    """A derived address of the wallet (BIP86 branch and index)."""

    address = fields.CharField(max_length=100, primary_key=True)
    branch = fields.IntField()
    index = fields.IntField()
    used = fields.BooleanField(default=False)

    class Meta:
        table = "wallet_addresses"
        unique_together = (("branch", "index"),)


class CoinLockRow(Model):
    """A coin that a decided transaction spends."""

    outpoint = fields.CharField(max_length=72, primary_key=True)
    locked_by = fields.CharField(max_length=160, db_index=True)

    class Meta:
        table = "coin_locks"


class ContractRow(Model):
    """Parameters, funding outpoint and signatures of a contract, as `contract.storage` packs them."""

    competition: fields.OneToOneRelation[CompetitionRow] = fields.OneToOneField(
        "coordinator.CompetitionRow", related_name="contract", primary_key=True, on_delete=fields.RESTRICT
    )
    competition_id: str
    packed = fields.BinaryField()

    class Meta:
        table = "contracts"


class SecretRow(Model):
    """A named secret of the coordinator's, encrypted."""

    name = fields.CharField(max_length=64, primary_key=True)
    ciphertext = fields.BinaryField()

    class Meta:
        table = "secrets"


class IdempotencyRow(Model):
    """The answer to a request that carried an Idempotency-Key."""

    key = fields.CharField(max_length=64, primary_key=True)
    request_hash = fields.CharField(max_length=64)
    response = fields.BinaryField()
    created_at = fields.BigIntField()

    class Meta:
        table = "idempotency_keys"
