"""A coordinator settles the payments and funds no contract: players take their money back by consensus."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.contract.escrow import ESCROW_CLAWBACK_BLOCKS, clawback_transaction
from coordinator.contract.network import Network
from coordinator.contract.script import p2tr_script
from coordinator.contract.secp import public_key
from coordinator.domain.states import FundingReady
from coordinator.domain.wallet.address import address_from_script
from coordinator.recover.clawback import own_escrow
from coordinator.recover.errors import Exit
from coordinator.recover.material import PlayerSecrets
from coordinator.store.models import TicketRow
from support.contract import secret
from support.reorgs import confirmations, entered
from support.world import World, WorldPlayer, running_world

PLACE = p2tr_script(public_key(secret("the player's own wallet"))[1:])
ADDRESS = address_from_script(PLACE, Network.REGTEST)


@dataclass
class Betrayed:
    """Settled and never funded; the coordinator is gone."""

    world: World
    folder: Path
    players: list[WorldPlayer]
    preimages: list[bytes]
    answer: bytes
    escrow_txid: str

    def secrets(self, player: int) -> PlayerSecrets:
        return PlayerSecrets(self.players[player].ephemeral_secret, self.preimages[player])

    async def clawback(self, player: int, *arguments: str, mining: bool = False) -> tuple[int, str]:
        """Run the tool with a player's files; exit code and what it said."""
        (self.folder / "contract").write_bytes(self.answer)
        (self.folder / "key").write_text(self.players[player].ephemeral_secret.hex())
        (self.folder / "preimage").write_text(self.preimages[player].hex())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "coordinator.recover", "clawback", str(self.folder / "contract")),
            *("--key-file", str(self.folder / "key"), "--preimage-file", str(self.folder / "preimage")),
            *("--esplora", self.world.chain.base_url, "--network", "regtest", "--destination", ADDRESS),
            *("--poll-seconds", "0.1", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        talking = asyncio.create_task(process.communicate())
        async with asyncio.timeout(60):
            while not talking.done():
                if mining:
                    await self.world.chain.mine()
                await asyncio.sleep(0.3)
        said = (await talking)[0].decode()
        assert "Traceback" not in said, said
        assert self.players[player].ephemeral_secret.hex() not in said
        assert process.returncode is not None
        return process.returncode, said

    async def received_sats(self) -> int:
        utxos = await self.world.chain.json(f"/address/{ADDRESS}/utxo")
        return sum(utxo["value"] for utxo in utxos)  # type: ignore[attr-defined]


@asynccontextmanager
async def betrayed(folder: Path) -> AsyncIterator[Betrayed]:
    async with running_world(folder / "world") as world:
        competition_id, players = await entered(world)
        await world.releases_signed(competition_id, players)
        record = await world.wait_for(competition_id, "funding_ready", mining=True)
        status = record.status
        assert isinstance(status, FundingReady)
        # What GET /api/v1/competitions/{id}/contract shows of it.
        answer = {
            "escrow_transaction_hex": status.escrow.transaction.hex(),
            "release_blocks": status.escrow.release_blocks,
            "players": [
                {
                    "ticket_id": player.ticket_id,
                    "ticket_hash": player.ticket_hash.hex(),
                    "escrow_coordinator_pubkey": player.escrow_coordinator_pubkey.hex(),
                    "escrow_vout": index,
                    "escrow_value_sats": str(status.escrow.escrow_value_sats),
                }
                for index, player in enumerate(status.roster)
            ],
        }
        # The betrayal: every payment is taken, nothing is funded.
        core, preimages = world.core, []
        for player in players:
            ticket = await TicketRow.get(id=player.ticket_id)
            preimage = core.box.open(f"ticket-preimage:{ticket.id}", ticket.preimage_encrypted)
            await core.lightning.settle_invoice(preimage)
            assert player.payment is not None
            # The player's own node learns it by the payment.
            preimages.append((await player.payment).preimage)  # type: ignore[attr-defined]
            assert preimages[-1] == preimage
        await world.running.aclose()
        yield Betrayed(world, folder, players, preimages, json.dumps(answer).encode(), status.escrow.txid)


async def test_players_claw_back_from_the_144th_block_on_and_not_before(tmp_path: Path) -> None:
    async with betrayed(tmp_path) as case:
        chain = case.world.chain
        # One block early: the tool waits, and the node's own rules refuse what is sent all the same.
        confirmed = await confirmations(case.world, case.escrow_txid)
        escrow_height = chain.node.height() - confirmed + 1
        await chain.mine(ESCROW_CLAWBACK_BLOCKS - 1 - confirmed)
        code, said = await case.clawback(0, "--broadcast")
        assert code == Exit.UNFINISHED, said
        mine = own_escrow(case.answer, case.secrets(0))
        coin, release_blocks = mine.coin, mine.release_blocks
        assert release_blocks > 1000
        assert f"from block {escrow_height + release_blocks} on the coordinator can take" in said
        key, preimage = case.players[0].ephemeral_secret, case.preimages[0]
        raw = clawback_transaction(coin.outpoint, coin.value_sats, coin.escrow, PLACE, 2, key, preimage)
        refused = await chain.http.post("/tx", content=raw.hex())
        assert (refused.status_code, "non-BIP68-final" in refused.text) == (400, True)
        assert await case.received_sats() == 0

        await chain.mine()
        code, said = await case.clawback(0)
        assert (code, await case.received_sats()) == (Exit.OK, 0), said
        code, said = await case.clawback(0, "--broadcast", "--wait", mining=True)
        assert code == Exit.OK, said
        assert "Done" in said
        first = await case.received_sats()
        assert coin.value_sats - 1_000 < first < coin.value_sats
        code, said = await case.clawback(0, "--broadcast")
        assert (code, await case.received_sats()) == (Exit.OK, first), said
        # Everybody for itself.
        for player in (1, 2):
            code, said = await case.clawback(player, "--broadcast", "--wait", "--fee-rate", "3", mining=True)
            assert code == Exit.OK, said
        assert await case.received_sats() > 3 * first - 2_000


async def test_a_contract_that_does_not_say_the_delay_hurries_the_player(tmp_path: Path) -> None:
    async with betrayed(tmp_path) as case:
        told = json.loads(case.answer)
        assert own_escrow(case.answer, case.secrets(0)).release_blocks == told["release_blocks"] > 1000
        for lie in (0, 287, 65_536, -1, "455", None, 1.5, [], True):
            answer = json.dumps(told | {"release_blocks": lie}).encode()
            assert own_escrow(answer, case.secrets(0)).release_blocks == 288
        del told["release_blocks"]
        assert own_escrow(json.dumps(told).encode(), case.secrets(0)).release_blocks == 288


@pytest.mark.parametrize("wrong", ["key", "preimage", "contract", "too early"])
async def test_wrong_material_is_refused(tmp_path: Path, wrong: str) -> None:
    async with betrayed(tmp_path) as case:
        if wrong == "key":
            case.players[0].ephemeral_secret = case.players[1].ephemeral_secret
        elif wrong == "preimage":
            case.preimages[0] = bytes(32)
        elif wrong == "contract":
            case.answer = case.answer.replace(b'"50000"', b'"60000"')
        else:
            case.answer = b'{"players": []}'
        code, said = await case.clawback(0, "--broadcast")
        assert code == Exit.REFUSED, said


async def test_an_escrow_that_went_into_the_contract_is_not_clawed_back(tmp_path: Path) -> None:
    async with running_world(tmp_path / "world") as world:
        competition_id, players = await entered(world)
        await world.funded(competition_id, players)
        status = (await world.core.competitions.load(competition_id)).status
        answer = {
            "escrow_transaction_hex": status.escrow.transaction.hex(),  # type: ignore[union-attr]
            "players": [
                {
                    "ticket_id": player.ticket_id,
                    "ticket_hash": player.ticket_hash.hex(),
                    "escrow_coordinator_pubkey": player.escrow_coordinator_pubkey.hex(),
                    "escrow_vout": index,
                    "escrow_value_sats": 50_000,
                }
                for index, player in enumerate(status.roster)  # type: ignore[union-attr]
            ],
        }
        preimages = [(await player.payment).preimage for player in players]  # type: ignore[misc, union-attr]
        data = json.dumps(answer).encode()
        case = Betrayed(world, tmp_path, players, preimages, data, status.escrow.txid)  # type: ignore[union-attr]
        await world.chain.mine(ESCROW_CLAWBACK_BLOCKS)
        code, said = await case.clawback(0, "--broadcast")
        assert code == Exit.TAKEN, said
