"""Contracts with all their secrets, signed by every party, and Bitcoin Core's verdict on what spends them."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from coordinator.contract import adaptor, musig2, schnorr
from coordinator.contract.attestation import attestation_secret, locking_points, outcome_message
from coordinator.contract.dlc import ContractSignatures, SigningJob, TicketedDLC
from coordinator.contract.parameters import ContractParameters, EventLock, Player, competition_parameters
from coordinator.contract.payouts import outcome_index
from coordinator.contract.rankings import ranking_at, rankings
from coordinator.contract.secp import public_key
from coordinator.contract.utxo import Output
from coordinator_devnet.chain.engine import failing_input

DELTA = 30
EXPIRY = 1_800_000_000
FUNDING_OUTPOINT = ("ab" * 32, 1)


def secret(*names: object) -> bytes:
    """32 bytes that are always the same for the same names: a secret key or a preimage of tests."""
    return sha256("/".join(map(str, names)).encode()).digest()


@dataclass(frozen=True)
class Competition:
    """A ranking competition's contract and everybody's secrets."""

    seed: str
    places: int
    market_maker_secret: bytes
    player_secrets: tuple[bytes, ...]
    ticket_preimages: tuple[bytes, ...]
    payout_preimages: tuple[bytes, ...]
    oracle_secret: bytes
    oracle_nonce: bytes
    dlc: TicketedDLC

    @property
    def entries(self) -> int:
        return len(self.player_secrets)

    @property
    def parameters(self) -> ContractParameters:
        return self.dlc.parameters

    @property
    def secret_keys(self) -> list[bytes]:
        return [self.market_maker_secret, *self.player_secrets]

    def attestation(self, outcome: str) -> bytes:
        message = outcome_message(ranking_at(self.entries, self.places, outcome_index(outcome)))
        return attestation_secret(self.oracle_secret, self.oracle_nonce, message)

    def group_secrets(self, job: SigningJob) -> list[bytes]:
        """Secret keys of a job's group, in the order of its sorted public keys."""
        players = range(self.entries) if job.winners is None else job.winners
        return sorted([self.market_maker_secret, *(self.player_secrets[i] for i in players)], key=public_key)


def competition(
    entries: int,
    places: int,
    *,
    seed: str = "contract",
    expiry: int | None = EXPIRY,
    delta: int = DELTA,
    fee_rate: int = 1250,
    funding_value: int = 1_000_000,
) -> Competition:
    """Set up a competition. Players' keys of both parities, and the market maker's, come from the seed."""
    players = range(entries)
    player_secrets = tuple(secret(seed, "player", i) for i in players)
    tickets = tuple(secret(seed, "ticket", i) for i in players)
    payouts = tuple(secret(seed, "payout", i) for i in players)
    market_maker, oracle, nonce = (secret(seed, name) for name in ("market maker", "oracle", "nonce"))
    points = locking_points(
        public_key(oracle), public_key(nonce), map(outcome_message, rankings(entries, places))
    )
    parameters = competition_parameters(
        public_key(market_maker),
        [
            Player(public_key(key), sha256(ticket).digest(), sha256(payout).digest())
            for key, ticket, payout in zip(player_secrets, tickets, payouts, strict=True)
        ],
        places,
        EventLock(points, expiry),
        fee_rate,
        funding_value,
        delta,
    )
    dlc = TicketedDLC(parameters, FUNDING_OUTPOINT)
    return Competition(seed, places, market_maker, player_secrets, tickets, payouts, oracle, nonce, dlc)


def sign_job(group: Sequence[bytes], job: SigningJob) -> bytes:
    """One signature by every member of the group, each with its own nonce; partial signatures verified."""
    keys = [public_key(key) for key in group]
    context = musig2.key_agg(keys)
    nonces = [
        musig2.nonce_gen(key, secret=own, aggregate_key=context.xonly, message=job.message)
        for key, own in zip(keys, group, strict=True)
    ]
    aggnonce = musig2.nonce_agg([pubnonce for _, pubnonce in nonces])
    session = musig2.Session(aggnonce, context, job.message, job.adaptor_point)
    psigs = []
    for key, own, (secnonce, pubnonce) in zip(keys, group, nonces, strict=True):
        psigs.append(musig2.sign(secnonce, own, session))
        assert musig2.partial_sig_verify(psigs[-1], pubnonce, key, session)
    aggregate = musig2.partial_sig_agg if job.adaptor_point is None else adaptor.aggregate
    return aggregate(psigs, session)


def sign(contract: Competition) -> ContractSignatures:
    """Every signature of the contract, each made by all members of its group."""
    signatures = ContractSignatures()
    for job in contract.dlc.signing_jobs():
        into = signatures.split if ":" in job.key else signatures.outcome
        into[job.key] = sign_job(contract.group_secrets(job), job)
    return signatures


def sign_with_aggregate_keys(contract: Competition) -> ContractSignatures:
    """The same, faster: each group's aggregate secret key signs alone. For big contracts."""
    signatures = ContractSignatures()
    group_keys: dict[tuple[int, ...] | None, bytes] = {}
    for job in contract.dlc.signing_jobs():
        key = group_keys.get(job.winners)
        if key is None:
            own = {public_key(member): member for member in contract.group_secrets(job)}
            key = musig2.aggregate_secret(contract.dlc.key_context(job.winners), own)
            group_keys[job.winners] = key
        if job.adaptor_point is None:
            into = signatures.split if ":" in job.key else signatures.outcome
            into[job.key] = schnorr.sign(key, job.message)
        else:
            signatures.outcome[job.key] = adaptor.sign(key, job.message, job.adaptor_point)
    return signatures


def is_valid(transaction: bytes, *prevouts: Output) -> bool:
    """Bitcoin Core's verdict: whether every input satisfies its script, under all consensus rules."""
    spent = [(output.value_sats, output.script_pubkey) for output in prevouts]
    return failing_input(transaction, spent) is None
