"""`coordinator-recover` as a player runs it: the coordinator is gone, chain and oracle are there."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.contract import spends
from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.network import Network
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import public_key
from coordinator.contract.storage import dump, load
from coordinator.domain.wallet.address import address_from_script
from coordinator.recover.errors import Exit
from coordinator.store.contract_store import load_packed
from coordinator.v1 import competition_pb2 as pb
from coordinator_devnet.oracle import create_app
from coordinator_gateway.jsoncodec import dumps, encode
from support.chain import RunningChain, running_chain, serving
from support.contract import Competition, secret
from support.contract_chain import Funded, funded
from support.world import World, WorldPlayer, running_world

DELTA = 5
PLACE = p2tr_script(public_key(secret("the player's own wallet"))[1:])
ADDRESS = address_from_script(PLACE, Network.REGTEST)


async def run_tool(
    chain: RunningChain, *arguments: str, stdin: str = "", mining: bool = False
) -> tuple[int, str]:
    """Run the tool, mining meanwhile if asked to. Returns its exit code and everything it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "coordinator.recover", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    talking = asyncio.create_task(process.communicate(stdin.encode()))
    async with asyncio.timeout(60):
        while not talking.done():
            if mining:
                await chain.mine()
            await asyncio.sleep(0.3)
    said = (await talking)[0].decode()
    assert "Traceback" not in said, said
    assert process.returncode is not None
    return process.returncode, said


def destination(chain: RunningChain) -> list[str]:
    return [
        *("--esplora", chain.base_url, "--network", "regtest", "--poll-seconds", "0.1"),
        *("--destination", ADDRESS),
    ]


def files(folder: Path, contract: bytes, key: bytes, preimage: bytes) -> list[str]:
    """Arguments that name files with these contents."""
    for name, content in {"contract": contract, "key": key, "preimage": preimage}.items():
        (folder / name).write_bytes(content)
    contract_file, key_file, preimage_file = (str(folder / name) for name in ("contract", "key", "preimage"))
    return [contract_file, "--key-file", key_file, "--preimage-file", preimage_file]


async def held_sats(chain: RunningChain) -> int:
    utxos = await chain.json(f"/address/{ADDRESS}/utxo")
    return sum(utxo["value"] for utxo in utxos)  # type: ignore[attr-defined]


@dataclass
class Aftermath:
    """A funded competition whose coordinator is gone, and what its players saved."""

    world: World
    folder: Path
    competition_id: str
    players: list[WorldPlayer]
    packed: bytes
    dlc: TicketedDLC
    signatures: ContractSignatures
    tickets: list[bytes]

    async def attestation(self, ranking: tuple[int, ...] | None) -> str:
        event = await self.world.oracle.attest(self.competition_id, ranking)
        assert event.attestation is not None
        return event.attestation.hex()

    def answer(self) -> bytes:
        """What `GET /api/v1/competitions/{id}/contract?include_signatures=true` answers."""
        given = [*self.signatures.outcome.items(), *self.signatures.split.items()]
        response = pb.GetContractResponse(
            parameters_json=self.dlc.parameters.to_json(),
            funding_outpoint=str(self.dlc.funding_outpoint),
            signatures=[pb.ContractSignature(key=key, signature=signature) for key, signature in given],
        )
        return dumps(encode(response))

    def files(self, player: int) -> list[str]:
        key, ticket = self.players[player].ephemeral_secret, self.tickets[player]
        return files(self.folder, self.packed, key.hex().encode() + b"\n", ticket.hex().encode())

    @property
    def sending(self) -> list[str]:
        return [*destination(self.world.chain), "--broadcast"]

    async def recover(self, *arguments: str, mining: bool = False, stdin: str = "") -> tuple[int, str]:
        code, said = await run_tool(self.world.chain, *arguments, stdin=stdin, mining=mining)
        assert not [player for player in self.players if player.ephemeral_secret.hex() in said]
        return code, said

    async def held_sats(self) -> int:
        return await held_sats(self.world.chain)


@dataclass
class Case:
    """A contract on the chain with everybody's secrets, the market maker's too."""

    folder: Path
    funded: Funded

    @property
    def contract(self) -> Competition:
        return self.funded.contract

    def packed(self) -> bytes:
        return dump(self.contract.dlc, self.funded.signatures)

    async def recover(
        self, player: int, *arguments: str, mining: bool = False, **changes: bytes
    ) -> tuple[int, str]:
        contents = {
            "contract": self.packed(),
            "key": self.contract.player_secrets[player].hex().encode(),
            "preimage": self.contract.ticket_preimages[player].hex().encode(),
        } | changes
        chain = self.funded.chain
        given = [*files(self.folder, **contents), *destination(chain), *arguments]
        return await run_tool(chain, *given, mining=mining)

    async def outcome(self, key: str) -> None:
        attestation, signature = self.contract.attestation(key), self.funded.signatures.outcome[key]
        raw = spends.outcome_transaction(self.contract.dlc, key, signature, attestation)
        await self.funded.mine_with(raw)

    async def split(self, key: str, by: int = 0) -> None:
        """The split transaction in a block; the outcome transaction before it, if it is not there yet."""
        dlc = self.contract.dlc
        outpoint = dlc.funding_outpoint
        spent = await self.funded.chain.json(f"/tx/{outpoint.txid}/outspend/{outpoint.vout}")
        if spent == {"spent": False}:
            await self.outcome(key)
            await self.funded.chain.mine(DELTA - 1)
        signature, ticket = self.funded.signatures.split[f"{key}:p{by}"], self.contract.ticket_preimages[by]
        await self.funded.mine_with(spends.split_transaction(dlc, key, by, signature, ticket))

    def win(self, key: str, player: int) -> spends.SpendInput:
        contract = self.contract
        own, ticket = contract.player_secrets[player], contract.ticket_preimages[player]
        return spends.win_input(contract.dlc, key, player, own, ticket)

    async def held_sats(self) -> int:
        return await held_sats(self.funded.chain)


@asynccontextmanager
async def aftermath(folder: Path) -> AsyncIterator[Aftermath]:
    """A competition of three players and two places, awaiting its attestation; the coordinator stopped."""
    async with running_world(folder / "world") as world:
        players = await world.new_players(3)
        competition_id = await world.create(relative_locktime_blocks=DELTA)
        players = await world.fill(competition_id, players)
        await world.funded(competition_id, players)
        tickets = []
        for player in players:
            assert player.payment is not None
            payment = await player.payment
            tickets.append(payment.preimage)  # type: ignore[attr-defined]
        packed = await load_packed(competition_id)
        assert packed is not None
        await world.running.aclose()
        world.wired = None
        dlc, signatures = load(packed)
        assert signatures is not None
        after = Aftermath(world, folder, competition_id, players, packed, dlc, signatures, tickets)
        yield after


async def test_a_winner_takes_its_prize(tmp_path: Path) -> None:
    async with aftermath(tmp_path) as after:
        attestation = await after.attestation((2, 0))
        given = after.files(2)
        prize = after.dlc.payouts(after.dlc.outcome_for_attestation(bytes.fromhex(attestation)) or "")[2]

        # Looking costs nothing and sends nothing.
        code, said = await after.recover(*given, "--attestation", attestation)
        assert code == Exit.OK, said
        assert f"You won {prize:,} sats" in said
        assert "player 2 (you)" in said
        code, said = await after.recover(*given, *after.sending[:-1], "--attestation", attestation)
        assert code == Exit.OK
        assert "possible now" in said
        assert await after.world.chain.json(f"/tx/{after.dlc.funding_outpoint.txid}/outspend/0") == {
            "spent": False
        }

        # One step at a time: it says what it did and goes on where it was.
        code, said = await after.recover(*given, *after.sending, "--attestation", attestation)
        assert code == Exit.UNFINISHED
        assert "Sent the outcome transaction" in said
        code, said = await after.recover(*given, *after.sending, "--attestation", attestation)
        assert code == Exit.UNFINISHED
        assert "waits in the mempool" in said
        assert "Sent" not in said

        # From here on the attestation is in the chain.
        await after.world.chain.mine()
        code, said = await after.recover(*given, *after.sending, "--wait", "--fee-rate", "3", mining=True)
        assert code == Exit.OK, said
        assert "Sent the split transaction" in said
        assert "Sent the win transaction" in said
        held = await after.held_sats()
        assert 0 < prize - held < 1000
        assert f"Done: {held:,} sats went to {ADDRESS}" in said

        # Once more: there is nothing to do, and the other winner finds half of it done.
        code, said = await after.recover(*given, *after.sending)
        assert code == Exit.OK
        assert "Sent" not in said
        assert f"{held:,} sats went to" in said
        code, said = await after.recover(*after.files(0), *after.sending, "--wait", mining=True)
        assert code == Exit.OK
        assert "Sent the split" not in said
        assert await after.held_sats() > held

        code, said = await after.recover(*after.files(1), *after.sending)
        assert code == Exit.LOST
        assert "you did not win" in said


async def test_the_api_answer_and_the_oracle_are_enough(tmp_path: Path) -> None:
    """The tool is started before the event ends, waits for the oracle and for every lock."""
    async with aftermath(tmp_path) as after, serving(create_app(after.world.oracle)) as oracle_url:
        contract = str(after.folder / "contract.json")
        Path(contract).write_bytes(after.answer())
        oracle = ["--oracle-url", oracle_url, "--event-id", after.competition_id]
        secrets = f"{after.players[1].ephemeral_secret.hex()}\n{after.tickets[1].hex()}\n"
        code, said = await after.recover(contract, *oracle, stdin=secrets)
        assert code == Exit.UNFINISHED
        assert "no attestation yet" in said

        async def attest_later() -> None:
            await asyncio.sleep(1.5)
            await after.attestation((1, 2))

        later = asyncio.create_task(attest_later())
        code, said = await after.recover(
            contract, *oracle, *after.sending, "--wait", stdin=secrets, mining=True
        )
        await later
        assert code == Exit.OK, said
        assert "no attestation yet" in said
        assert await after.held_sats() > 75_000


async def test_everybody_takes_its_share_after_the_expiry(tmp_path: Path) -> None:
    async with aftermath(tmp_path) as after:
        given = after.files(1)
        code, said = await after.recover(*given, *after.sending, "--expiry")
        assert code == Exit.UNFINISHED
        assert "by the chain's clock" in said
        assert "Sent" not in said
        await after.world.chain.mine(7, advance_seconds=600)
        code, said = await after.recover(*given, *after.sending, "--expiry", "--wait", mining=True)
        assert code == Exit.OK, said
        assert "Sent the expiry transaction" in said
        share = after.dlc.payouts("exp")[1]
        assert 0 < share - await after.held_sats() < 1000
        # The others need not say that it expired.
        code, said = await after.recover(*after.files(0), *after.sending, "--wait", mining=True)
        assert code == Exit.OK, said


async def test_a_waiting_win_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
        await case.split("att0")
        await chain.mine(DELTA)
        first = spends.spend([case.win("att0", 0)], p2tr_script(public_key(secret("elsewhere"))[1:]), 1)
        assert await case.funded.relay_reason(first) is None
        code, said = await case.recover(0, "--broadcast")
        assert code == Exit.UNFINISHED
        assert "Sent" not in said
        assert "waits in the mempool" in said
        code, said = await case.recover(0, "--broadcast", "--fee-rate", "9")
        assert code == Exit.UNFINISHED
        assert "Sent the win transaction" in said
        await chain.mine()
        code, said = await case.recover(0)
        assert code == Exit.OK
        assert f"sats went to {ADDRESS}" in said


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("sellback", "sold back"),
        ("split reclaim", "too late"),
        ("split close", "your own key"),
        ("outcome reclaim", "too late"),
        ("outcome close", "keys handed over"),
        ("funding close", "all parties together"),
    ],
)
async def test_who_comes_too_late_or_was_paid_is_told(tmp_path: Path, way: str, words: str) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
        contract, dlc = case.contract, case.contract.dlc
        maker, key, payout = contract.market_maker_secret, "att0", contract.payout_preimages[0]
        if way.startswith("outcome"):
            await case.outcome(key)
        elif way != "funding close":
            await case.split(key)
        await chain.mine(2 * DELTA)
        item = {
            "sellback": lambda: spends.sellback_input(dlc, key, 0, maker, payout),
            "split reclaim": lambda: spends.split_reclaim_input(dlc, key, 0, maker),
            "split close": lambda: spends.split_close_input(dlc, key, 0, [maker, contract.player_secrets[0]]),
            "outcome reclaim": lambda: spends.outcome_reclaim_input(dlc, key, maker),
            "outcome close": lambda: spends.outcome_close_input(dlc, key, contract.secret_keys),
            "funding close": lambda: spends.funding_close_input(dlc, contract.secret_keys),
        }[way]()
        await case.funded.mine_with(spends.spend([item], PLACE, 2))
        code, said = await case.recover(0, "--broadcast", "--attestation", contract.attestation(key).hex())
        assert code == Exit.TAKEN, said
        assert words in said
        assert "Sent" not in said


async def test_the_chains_outcome_counts(tmp_path: Path) -> None:
    """The player asks for the expiry; the outcome transaction is there already."""
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain, expiry=1_500_000_000))
        await case.outcome("att2")  # players 1 and 0
        code, said = await case.recover(1, "--expiry")
        assert code == Exit.OK
        assert "another outcome: att2. It counts." in said
        code, said = await case.recover(2, "--expiry")
        assert code == Exit.LOST


async def test_the_split_of_another_ranking_is_followed(tmp_path: Path) -> None:
    """Rankings of the same winners share the outcome transaction, and each of their splits spends it."""
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
        assert case.contract.dlc.rank("att0") == (0, 1)
        assert case.contract.dlc.rank("att2") == (1, 0)
        await case.outcome("att0")
        await chain.mine(DELTA - 1)
        await case.split("att2", by=1)
        code, said = await case.recover(0, "--broadcast", "--wait", mining=True)
        assert code == Exit.OK, said
        assert "split transaction of another ranking, att2" in said
        assert await case.held_sats() > case.contract.dlc.payouts("att2")[0] - 1000


async def test_wrong_material_is_refused_and_sends_nothing(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
        contract = case.contract
        packed = case.packed()
        damaged = packed[:-40] + bytes((packed[-40] ^ 1,)) + packed[-39:]
        elsewhere = TicketedDLC(contract.parameters, ("00" * 31 + "01", 0))
        stranger = secret("stranger").hex()
        good = contract.attestation("att0").hex()
        cases: list[tuple[dict[str, bytes], list[str], str]] = [
            ({"key": contract.player_secrets[1].hex().encode()}, [], "different players"),
            ({"preimage": contract.ticket_preimages[1].hex().encode()}, [], "different players"),
            ({"key": stranger.encode()}, [], "not the one of this ticket"),
            ({"preimage": stranger.encode()}, [], "not the one of this key"),
            ({"key": stranger.encode(), "preimage": stranger.encode()}, [], "neither"),
            ({"key": b"00" * 32}, [], "not a private key"),
            ({"key": b"abc"}, [], "32 bytes in hex"),
            ({"contract": damaged}, [], "checksum"),
            ({"contract": dump(contract.dlc, None)}, [], "include_signatures"),
            ({"contract": dump(elsewhere, case.funded.signatures)}, [], "does not know the funding"),
            ({"contract": b"{}"}, [], "not a contract"),
            ({"contract": b"no JSON"}, [], "neither a contract file"),
            ({}, ["--attestation", stranger], "no outcome of this contract"),
            ({}, ["--attestation", "00"], "32 bytes in hex"),
            ({}, ["--network", "mainnet"], "destination"),
            ({}, ["--fee-rate", "5000"], "more than 25%"),
            ({}, ["--expiry"], "does not expire"),
        ]
        for changes, flags, words in cases:
            given = flags if flags and flags[0] in ("--attestation", "--expiry") else ["--attestation", good]
            rest = [] if given is flags else flags
            code, said = await case.recover(0, "--broadcast", *given, *rest, **changes)
            assert code == Exit.REFUSED, said
            assert words in said
            assert "Sent" not in said
        for flags in (
            ["--wait"],
            ["--event-id", "x"],
            ["--expiry", "--attestation", "00"],
            ["--fee-rate", "x"],
        ):
            code, _ = await case.recover(0, *flags)
            assert code == Exit.USAGE
        assert await case.held_sats() == 0
        outpoint = contract.dlc.funding_outpoint
        assert await chain.json(f"/tx/{outpoint.txid}/outspend/{outpoint.vout}") == {"spent": False}


async def test_one_bad_signature_of_others_stops_nobody(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
        split = case.funded.signatures.split
        split["att0:p1"] = split["att0:p1"][:-1] + bytes((split["att0:p1"][-1] ^ 1,))
        given = ["--attestation", case.contract.attestation("att0").hex()]
        code, said = await case.recover(0, *given)
        assert code == Exit.OK, said
        assert "WARNING: not all signatures are valid: att0:p1" in said
        code, said = await case.recover(1, *given)
        assert code == Exit.REFUSED
        assert "att0:p1" in said


async def test_no_chain_no_recovery(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
    # Its server is gone now.
    code, said = await case.recover(0, "--attestation", case.contract.attestation("att0").hex())
    assert code == Exit.UNAVAILABLE
    assert "coordinator-recover:" in said


async def test_an_expiry_by_height_is_waited_for(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        lock = chain.node.height() + 4
        case = Case(tmp_path, await funded(chain, expiry=lock))
        code, said = await case.recover(2, "--expiry", "--broadcast")
        assert code == Exit.UNFINISHED
        assert f"possible from block {lock + 1} on, 3 blocks (about 30 minutes) more" in said
        assert "Sent" not in said
        await chain.mine(lock - chain.node.height())
        code, said = await case.recover(2, "--expiry", "--broadcast")
        assert "Sent the expiry transaction" in said


async def test_who_waits_for_the_expiry_follows_an_outcome_that_comes_first(tmp_path: Path) -> None:
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain, expiry=2_000_000_000))

        async def somebody_else() -> None:
            await asyncio.sleep(2)
            await case.outcome("att2")

        other = asyncio.create_task(somebody_else())
        code, said = await case.recover(1, "--expiry", "--broadcast", "--wait", mining=True)
        await other
        assert code == Exit.OK, said
        assert "possible at 2033-05-18" in said
        assert "The chain has the transaction of another outcome: att2. It counts." in said
        assert "Sent the expiry" not in said
        assert case.contract.dlc.payouts("att2")[1] - await case.held_sats() < 1000


async def test_a_reorganisation_is_repaired(tmp_path: Path) -> None:
    """What was done and is undone again, the next run does again."""
    async with running_chain(tmp_path / "chain") as chain:
        case = Case(tmp_path, await funded(chain))
        given = ["--attestation", case.contract.attestation("att0").hex(), "--broadcast"]
        await case.recover(0, *given)
        await chain.mine(DELTA)
        code, said = await case.recover(0, *given)
        assert "Sent the split transaction" in said
        await chain.mine()
        dlc = case.contract.dlc
        lost = [dlc.outcome_outpoint("att0").txid, dlc.split_tx("att0").txid]
        await chain.post("/devnet/chain/reorg", {"depth": DELTA + 1, "drop_txids": lost})
        code, said = await case.recover(0, *given, "--wait", mining=True)
        assert code == Exit.OK, said
        for name in ("outcome", "split", "win"):
            assert f"Sent the {name} transaction" in said
