from tortoise import migrations
from tortoise.migrations import operations as ops
import functools
from json import dumps, loads
from tortoise.fields.base import OnDelete
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name='AuthEventRow',
            fields=[
                ('event_id', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('expires_at', fields.BigIntField(db_index=True)),
            ],
            options={'table': 'auth_events', 'app': 'coordinator', 'pk_attr': 'event_id', 'table_description': 'NIP-98 events that were accepted: each once.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='CoinLockRow',
            fields=[
                ('outpoint', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=72)),
                ('locked_by', fields.CharField(db_index=True, max_length=160)),
            ],
            options={'table': 'coin_locks', 'app': 'coordinator', 'pk_attr': 'outpoint', 'table_description': 'A coin that a decided transaction spends.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='CompetitionRow',
            fields=[
                ('id', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ('terms', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('state_name', fields.CharField(db_index=True, max_length=32)),
                ('state', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('version', fields.IntField(default=0)),
                ('sequence', fields.BigIntField(default=0)),
                ('paused', fields.BooleanField(default=False)),
                ('created_at', fields.BigIntField()),
                ('state_changed_at', fields.BigIntField()),
                ('next_attempt_at', fields.BigIntField(default=0)),
                ('failed_attempts', fields.IntField(default=0)),
                ('last_error', fields.TextField(default='', unique=False)),
                ('progress_done', fields.IntField(default=0)),
                ('progress_total', fields.IntField(default=0)),
                ('at_rest', fields.BooleanField(default=False, db_index=True)),
            ],
            options={'table': 'competitions', 'app': 'coordinator', 'pk_attr': 'id', 'table_description': 'A competition: its stored state, and what the runner knows about its next step.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='ContractRow',
            fields=[
                ('competition', fields.OneToOneField('coordinator.CompetitionRow', source_field='competition_id', primary_key=True, db_index=True, db_constraint=True, to_field='id', related_name='contract', on_delete=OnDelete.RESTRICT)),
                ('packed', fields.BinaryField()),
            ],
            options={'table': 'contracts', 'app': 'coordinator', 'pk_attr': 'competition_id', 'table_description': 'Parameters, funding outpoint and signatures of a contract, as `contract.storage` packs them.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='EventRow',
            fields=[
                ('sequence', fields.BigIntField(primary_key=True, unique=True, db_index=True)),
                ('competition_id', fields.CharField(max_length=36)),
                ('kind', fields.CharField(max_length=48)),
                ('state_name', fields.CharField(max_length=32)),
                ('occurred_at', fields.BigIntField()),
                ('data', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('audience_pubkey', fields.CharField(default='', max_length=64)),
            ],
            options={'table': 'events', 'app': 'coordinator', 'indexes': [Index(fields=['competition_id', 'sequence'])], 'pk_attr': 'sequence', 'table_description': 'One event of the log. Sequences are assigned under a lock: strictly increasing, without gaps.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='IdempotencyRow',
            fields=[
                ('key', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('request_hash', fields.CharField(max_length=64)),
                ('response', fields.BinaryField()),
                ('created_at', fields.BigIntField()),
            ],
            options={'table': 'idempotency_keys', 'app': 'coordinator', 'pk_attr': 'key', 'table_description': 'The answer to a request that carried an Idempotency-Key.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='IntentRow',
            fields=[
                ('key', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=160)),
                ('competition_id', fields.CharField(null=True, db_index=True, max_length=36)),
                ('status', fields.CharField(max_length=16)),
                ('data', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('created_at', fields.BigIntField()),
                ('attempted_at', fields.BigIntField(null=True)),
                ('done_at', fields.BigIntField(null=True)),
            ],
            options={'table': 'intents', 'app': 'coordinator', 'pk_attr': 'key', 'table_description': 'A side effect that moves money, recorded before it is attempted. `key` is its idempotency key.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='PaymentAttemptRow',
            fields=[
                ('payment_hash', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('entry_id', fields.CharField(db_index=True, max_length=36)),
                ('payment_request', fields.TextField(unique=False)),
                ('amount_sats', fields.BigIntField()),
                ('state', fields.CharField(max_length=16)),
                ('failure_reason', fields.TextField(default='', unique=False)),
                ('created_at', fields.BigIntField()),
                ('finished_at', fields.BigIntField(null=True)),
            ],
            options={'table': 'payment_attempts', 'app': 'coordinator', 'pk_attr': 'payment_hash', 'table_description': "One invoice that a payout was attempted with. A payment hash is attempted once in the table's life."},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='SecretRow',
            fields=[
                ('name', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('ciphertext', fields.BinaryField()),
            ],
            options={'table': 'secrets', 'app': 'coordinator', 'pk_attr': 'name', 'table_description': "A named secret of the coordinator's, encrypted."},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='SequenceRow',
            fields=[
                ('id', fields.IntField(primary_key=True, unique=True, db_index=True)),
                ('last_sequence', fields.BigIntField(default=0)),
            ],
            options={'table': 'event_sequence', 'app': 'coordinator', 'pk_attr': 'id', 'table_description': 'The last event sequence (one row).'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='SessionRow',
            fields=[
                ('token_hash', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('pubkey', fields.CharField(db_index=True, max_length=64)),
                ('expires_at', fields.BigIntField(db_index=True)),
            ],
            options={'table': 'sessions', 'app': 'coordinator', 'pk_attr': 'token_hash', 'table_description': 'A login session. Only the hash of its token is kept.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='TicketRow',
            fields=[
                ('id', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ('competition', fields.ForeignKeyField('coordinator.CompetitionRow', source_field='competition_id', db_constraint=True, to_field='id', related_name='tickets', on_delete=OnDelete.RESTRICT)),
                ('owner_pubkey', fields.CharField(db_index=True, max_length=64)),
                ('state', fields.CharField(db_index=True, max_length=16)),
                ('ticket_hash', fields.CharField(unique=True, max_length=64)),
                ('preimage_encrypted', fields.BinaryField()),
                ('payment_request', fields.TextField(default='', unique=False)),
                ('amount_sats', fields.BigIntField()),
                ('created_at', fields.BigIntField()),
                ('reserved_until_at', fields.BigIntField()),
                ('htlc_expiry_height', fields.IntField(null=True)),
            ],
            options={'table': 'tickets', 'app': 'coordinator', 'pk_attr': 'id', 'table_description': 'A ticket and its hold invoice.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='EntryRow',
            fields=[
                ('id', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=36)),
                ('competition', fields.ForeignKeyField('coordinator.CompetitionRow', source_field='competition_id', db_constraint=True, to_field='id', related_name='entries', on_delete=OnDelete.RESTRICT)),
                ('ticket', fields.OneToOneField('coordinator.TicketRow', source_field='ticket_id', db_constraint=True, to_field='id', related_name='entry', on_delete=OnDelete.RESTRICT)),
                ('owner_pubkey', fields.CharField(db_index=True, max_length=64)),
                ('expected_observations', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('ephemeral_pubkey', fields.CharField(max_length=66)),
                ('payout_hash', fields.CharField(max_length=64)),
                ('ephemeral_private_key_encrypted', fields.TextField(default='', unique=False)),
                ('payout_preimage_encrypted', fields.TextField(default='', unique=False)),
                ('keymeld', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('created_at', fields.BigIntField()),
                ('release_signature', fields.TextField(default='', unique=False)),
                ('funding_signature', fields.TextField(default='', unique=False)),
            ],
            options={'table': 'entries', 'app': 'coordinator', 'pk_attr': 'id', 'table_description': 'An entry. One per ticket: the database says so.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='PayoutRow',
            fields=[
                ('entry', fields.OneToOneField('coordinator.EntryRow', source_field='entry_id', primary_key=True, db_index=True, db_constraint=True, to_field='id', related_name='payout', on_delete=OnDelete.RESTRICT)),
                ('competition_id', fields.CharField(db_index=True, max_length=36)),
                ('player_index', fields.IntField()),
                ('state', fields.CharField(max_length=16)),
                ('amount_sats', fields.BigIntField()),
                ('payment_request', fields.TextField(default='', unique=False)),
                ('payment_hash', fields.CharField(default='', max_length=64)),
                ('failure_reason', fields.TextField(default='', unique=False)),
                ('requested_at', fields.BigIntField()),
                ('paid_at', fields.BigIntField(null=True)),
                ('attempts', fields.IntField(default=0)),
                ('fee_msats', fields.BigIntField(default=0)),
                ('payout_preimage_encrypted', fields.BinaryField(null=True)),
                ('ephemeral_key_encrypted', fields.BinaryField(null=True)),
            ],
            options={'table': 'payouts', 'app': 'coordinator', 'pk_attr': 'entry_id', 'table_description': "A winner's request to be paid over Lightning, and how it went."},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='UserRow',
            fields=[
                ('pubkey', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('created_at', fields.BigIntField()),
            ],
            options={'table': 'users', 'app': 'coordinator', 'pk_attr': 'pubkey', 'table_description': 'A Nostr key that was seen.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='WalletAddressRow',
            fields=[
                ('address', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=100)),
                ('branch', fields.IntField()),
                ('index', fields.IntField()),
                ('used', fields.BooleanField(default=False)),
            ],
            options={'table': 'wallet_addresses', 'app': 'coordinator', 'unique_together': (('branch', 'index'),), 'pk_attr': 'address', 'table_description': 'A derived address of the wallet (BIP86 branch and index).'},
            bases=['Model'],
        ),
    ]
