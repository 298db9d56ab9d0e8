//! Writes the JSON files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dlctix::bitcoin::consensus::encode::serialize_hex;
use dlctix::bitcoin::secp256k1::Secp256k1;
use dlctix::bitcoin::sighash::Prevouts;
use dlctix::bitcoin::taproot::{ControlBlock, LeafVersion, TapNodeHash};
use dlctix::bitcoin::transaction::{predict_weight, InputWeightPrediction, Version};
use dlctix::bitcoin::{
    absolute::LockTime, Amount, FeeRate, ScriptBuf, Transaction, TxIn, TxOut, Weight, XOnlyPublicKey,
};
use dlctix::hashlock::sha256;
use dlctix::secp::{Point, Scalar};
use dlctix::{attestation_secret, Outcome, SignedContract, TicketedDLC, WinCondition};
use serde_json::{json, Map, Value};

use crate::contracts::{
    funding_group, key_path_sighash, outcome_group, outcome_tx, script_path_sighash, sighashes, split_group,
};
use crate::sets::{self, message, Secrets, Set};
use crate::signing::{keys_are_distinct, sign_by_seat, sign_by_session, verified_contract, verify};
use crate::{extras, Result};

const P2TR_SCRIPT_LEN: usize = 34;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn write_all(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for set in sets::all() {
        write(dir, set.name, &set_json(&set)?)?;
    }
    write(dir, "oracle", &extras::oracle()?)?;
    write(dir, "validation", &extras::validation()?)?;
    write(dir, "scale", &extras::scale()?)?;
    Ok(())
}

/// One line for each key, list element and member of an object below the top: compact, and a
/// change shows as a change of few lines.
fn write(dir: &Path, name: &str, value: &Value) -> Result<()> {
    let path = dir.join(format!("{name}.json"));
    let mut text = String::new();
    lines(value, 0, &mut text);
    text.push('\n');
    fs::write(&path, &text)?;
    println!("{} ({} bytes)", path.display(), text.len());
    Ok(())
}

fn lines(value: &Value, depth: usize, out: &mut String) {
    let nested = |inner: &Value| inner.is_object() || inner.is_array();
    let indent = " ".repeat(depth + 1);
    match value {
        Value::Object(map) if depth == 0 || (depth < 3 && map.values().any(nested)) => {
            out.push_str("{\n");
            for (i, (key, inner)) in map.iter().enumerate() {
                out.push_str(&format!("{}{indent}{}: ", if i > 0 { ",\n" } else { "" }, json!(key)));
                lines(inner, depth + 1, out);
            }
            out.push_str(&format!("\n{}}}", " ".repeat(depth)));
        }
        Value::Array(items) if depth < 2 && items.iter().any(nested) => {
            out.push_str("[\n");
            for (i, inner) in items.iter().enumerate() {
                out.push_str(&format!("{}{indent}{inner}", if i > 0 { ",\n" } else { "" }));
            }
            out.push_str(&format!("\n{}]", " ".repeat(depth)));
        }
        _ => out.push_str(&value.to_string()),
    }
}

pub fn secrets_json(secrets: &Secrets) -> Value {
    let scalars = |scalars: &[Scalar]| scalars.iter().map(|s| hex(&s.serialize())).collect::<Vec<_>>();
    let preimages = |preimages: &[[u8; 32]]| preimages.iter().map(|p| hex(p)).collect::<Vec<_>>();
    json!({
        "market_maker_seckey": hex(&secrets.market_maker.serialize()),
        "player_seckeys": scalars(&secrets.players),
        "ticket_preimages": preimages(&secrets.ticket_preimages),
        "payout_preimages": preimages(&secrets.payout_preimages),
        "oracle_seckey": hex(&secrets.oracle_key.serialize()),
        "oracle_secnonce": hex(&secrets.oracle_nonce.serialize()),
    })
}

pub fn group_json(group: &dlctix::musig2::KeyAggContext) -> Value {
    json!({"pubkeys": group.pubkeys(), "aggregate_pubkey": group.aggregated_pubkey::<Point>()})
}

fn set_json(set: &Set) -> Result<Value> {
    let secrets = set.secrets();
    let params = set.params(&secrets);
    let dlc = TicketedDLC::new(params.clone(), set.funding_outpoint()?)?;

    let (signatures, log) = if keys_are_distinct(&dlc) {
        let (signatures, log) = sign_by_session(set, &dlc, &secrets)?;
        (signatures, Some(log))
    } else {
        (sign_by_seat(set, &dlc, &secrets)?, None)
    };
    let contract = verified_contract(set, dlc, &secrets, signatures)?;
    let chain = Chain { set, secrets: &secrets, contract: &contract };

    let outcomes: Vec<Outcome> = params.outcome_payouts.keys().copied().collect();
    let mut items = vec![];
    let mut spends = Map::new();
    for (i, outcome) in outcomes.iter().enumerate() {
        // Every outcome is built, signed and checked, whether or not it is written out.
        let (item, spend) = chain.outcome(outcome)?;
        let refund = i + 2 >= outcomes.len();
        if i % set.sample_step == 0 || refund {
            items.push(item);
        }
        if outcomes.len() <= 8 || i % (outcomes.len() / 4) == 0 || refund {
            spends.insert(outcome.to_string(), spend);
        }
    }

    let mut out = json!({
        "name": set.name,
        "about": set.about,
        "entries": set.entries,
        "places": set.places,
        "secrets": secrets_json(&secrets),
        "oracle": {
            "pubkey": secrets.oracle_key.base_point_mul(),
            "nonce": secrets.oracle_nonce.base_point_mul(),
        },
        "messages": set.outcome_rankings().iter().map(|r| hex(&message(r))).collect::<Vec<_>>(),
        "attestations": (0..params.event.locking_points.len())
            .map(|i| hex(&chain.attestation(i).serialize()))
            .collect::<Vec<_>>(),
        "params": params,
        "funding_outpoint": contract.dlc().funding_outpoint(),
        "funding": {
            "group": group_json(&funding_group(&params)?),
            "script_pubkey": contract.dlc().funding_output().script_pubkey,
            "value_sats": contract.dlc().funding_output().value,
        },
        "outcome_count": outcomes.len(),
        "digest": digest(&contract)?,
        "outcomes": items,
        "split_contracts": chain.split_contracts()?,
        "signed_with": if log.is_some() { "dlctix SigningSession" } else { "BIP327, one nonce a seat" },
        "signatures": contract.all_signatures(),
        "spends": spends,
        "funding_close": chain.funding_close()?,
    });
    if set.with_musig_session {
        let log = log.ok_or("a session with shared keys")?;
        out["musig_session"] = log.to_json(&contract)?;
    }
    Ok(out)
}

/// SHA256 over everything that is unsigned: for every outcome, in order, the line
/// `<outcome> <outcome txid> <outcome sighash> <split txid>\n`, then for each of its winners
/// `<win condition> <split sighash>\n`.
pub fn digest(contract: &SignedContract) -> Result<String> {
    let mut text = String::new();
    for outcome in contract.params().outcome_payouts.keys() {
        text.push_str(&digest_lines(contract, outcome)?);
    }
    Ok(hex(&sha256(text.as_bytes())))
}

pub fn digest_lines(contract: &SignedContract, outcome: &Outcome) -> Result<String> {
    let hashes = sighashes(contract, outcome)?;
    let split = contract.unsigned_split_tx(outcome).ok_or("no split transaction")?;
    let txid = outcome_tx(contract, outcome)?.compute_txid();
    let mut text = format!("{outcome} {txid} {} {}\n", hex(&hashes.outcome), split.compute_txid());
    for (&player_index, sighash) in &hashes.splits {
        let win = WinCondition { outcome: *outcome, player_index };
        text.push_str(&format!("{win} {}\n", hex(sighash)));
    }
    Ok(text)
}

/// A signed contract and the secrets to follow every path of it.
struct Chain<'a> {
    set: &'a Set,
    secrets: &'a Secrets,
    contract: &'a SignedContract,
}

/// A leaf as a witness shows it.
struct Leaf {
    script: ScriptBuf,
    control_block: ControlBlock,
}

impl Leaf {
    fn of(tx: &Transaction) -> Result<Leaf> {
        let stack: Vec<&[u8]> = tx.input[0].witness.iter().collect();
        let [.., script, control_block] = stack[..] else {
            return Err("not a script path spend".into());
        };
        Ok(Leaf {
            script: ScriptBuf::from_bytes(script.to_vec()),
            control_block: ControlBlock::decode(control_block)?,
        })
    }

    fn merkle_root(&self) -> TapNodeHash {
        let leaf = TapNodeHash::from_script(&self.script, LeafVersion::TapScript);
        self.control_block
            .merkle_branch
            .iter()
            .fold(leaf, |node, sibling| TapNodeHash::from_node_hashes(node, *sibling))
    }

    fn depth(&self) -> usize {
        self.control_block.merkle_branch.len()
    }

    fn json(&self) -> Value {
        json!({"script": self.script, "control_block": hex(&self.control_block.serialize())})
    }
}

/// Checks the witness of one input (signature, and for a script path the leaf's commitment) and
/// returns the sighash. Hash locks and timelocks are for a script interpreter.
fn check_input(tx: &Transaction, input: usize, prevouts: &[TxOut]) -> Result<[u8; 32]> {
    let stack: Vec<&[u8]> = tx.input[input].witness.iter().collect();
    let output_key: [u8; 32] = prevouts[input].script_pubkey.as_bytes()[2..].try_into()?;
    match stack[..] {
        [signature] => {
            let sighash = key_path_sighash(tx, input, prevouts)?;
            verify(Point::lift_x(&output_key)?, signature, &sighash)?;
            Ok(sighash)
        }
        [signature, .., script, control_block] => {
            let script = ScriptBuf::from_bytes(script.to_vec());
            let sighash = script_path_sighash(tx, input, prevouts, &script)?;
            let committed = ControlBlock::decode(control_block)?.verify_taproot_commitment(
                &Secp256k1::verification_only(),
                XOnlyPublicKey::from_slice(&output_key)?,
                &script,
            );
            if !committed {
                return Err("the output does not commit to the leaf".into());
            }
            // Every leaf ends in <x-only key> OP_CHECKSIG.
            let key = script.as_bytes()[script.len() - 33..script.len() - 1].try_into()?;
            verify(Point::lift_x(&key)?, signature, &sighash)?;
            Ok(sighash)
        }
        [] | [_, _] => Err("no taproot witness".into()),
    }
}

fn spend_json(tx: &Transaction, prevouts: &[TxOut]) -> Result<Value> {
    let sighashes = (0..tx.input.len())
        .map(|input| Ok(hex(&check_input(tx, input, prevouts)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(json!({"tx": serialize_hex(tx), "sighashes": sighashes}))
}

impl Chain<'_> {
    fn attestation(&self, outcome_index: usize) -> Scalar {
        let message = message(&self.set.outcome_rankings()[outcome_index]);
        attestation_secret(self.secrets.oracle_key, self.secrets.oracle_nonce, message).unwrap()
    }

    fn fee_rate(&self) -> FeeRate {
        self.contract.params().fee_rate
    }

    fn fee(&self, weight: Weight) -> Result<Amount> {
        self.fee_rate().fee_wu(weight).ok_or_else(|| "fee overflows".into())
    }

    /// Sends inputs to one taproot output whose key is `to` itself, at the contract's fee rate.
    fn sweep(
        &self,
        to: Point,
        inputs: Vec<(TxIn, InputWeightPrediction)>,
        value: Amount,
    ) -> Result<Transaction> {
        let key = XOnlyPublicKey::from_slice(&to.serialize_xonly())?;
        let weight = predict_weight(inputs.iter().map(|(_, weight)| *weight), [P2TR_SCRIPT_LEN]);
        let key = dlctix::bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(key);
        Ok(Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: inputs.into_iter().map(|(input, _)| input).collect(),
            output: vec![TxOut {
                value: value.checked_sub(self.fee(weight)?).ok_or("fee above value")?,
                script_pubkey: ScriptBuf::new_p2tr_tweaked(key),
            }],
        })
    }

    fn all_player_keys(&self) -> BTreeMap<Point, Scalar> {
        self.secrets.players.iter().map(|secret| (secret.base_point_mul(), *secret)).collect()
    }

    fn funding_close(&self) -> Result<Value> {
        let (input, prevout) = self.contract.funding_close_tx_input_and_prevout();
        let weight = self.contract.close_tx_input_weight();
        let mut tx = self.sweep(self.market_maker(), vec![(input, weight)], prevout.value)?;
        self.contract.sign_funding_close_tx_input(
            &mut tx,
            0,
            &Prevouts::All(std::slice::from_ref(&prevout)),
            self.secrets.market_maker,
            &self.all_player_keys(),
        )?;
        spend_json(&tx, &[prevout])
    }

    fn market_maker(&self) -> Point {
        self.secrets.market_maker.base_point_mul()
    }

    /// One outcome: what has to be built and signed, and every way on from there.
    fn outcome(&self, outcome: &Outcome) -> Result<(Value, Value)> {
        let contract = self.contract;
        let params = contract.params();
        let group = outcome_group(params, outcome)?;
        let hashes = sighashes(contract, outcome)?;
        let payouts = &params.outcome_payouts[outcome];

        let tx = outcome_tx(contract, outcome)?;
        let signed = match outcome {
            Outcome::Attestation(i) => contract.signed_outcome_tx(*i, self.attestation(*i))?,
            Outcome::Expiry => contract.expiry_tx().ok_or("no expiry transaction")?,
        };
        let funding = [contract.dlc().funding_output()];
        if check_input(&signed, 0, &funding)? != hashes.outcome {
            return Err("outcome sighash differs".into());
        }
        let fee = params.funding_value - tx.output[0].value;
        if fee != self.fee(signed.weight())? {
            return Err("outcome fee differs".into());
        }

        let reclaim = self.outcome_reclaim(outcome)?;
        let reclaim_leaf = Leaf::of(&reclaim)?;
        let split_tx = contract.unsigned_split_tx(outcome).ok_or("no split transaction")?;
        let split_signed: BTreeMap<usize, Transaction> = payouts
            .keys()
            .map(|&player_index| {
                let win = WinCondition { outcome: *outcome, player_index };
                let preimage = self.secrets.ticket_preimages[player_index];
                Ok((player_index, contract.signed_split_tx(&win, preimage)?))
            })
            .collect::<Result<_>>()?;

        let mut wins = vec![];
        let mut depth = reclaim_leaf.depth();
        for (&player_index, signed_split) in &split_signed {
            if check_input(signed_split, 0, &tx.output)? != hashes.splits[&player_index] {
                return Err("split sighash differs".into());
            }
            let leaf = Leaf::of(signed_split)?;
            if leaf.merkle_root() != reclaim_leaf.merkle_root() {
                return Err("leaves of two trees".into());
            }
            depth = depth.max(leaf.depth());
            let mut item = leaf.json();
            item["win_condition"] = json!(WinCondition { outcome: *outcome, player_index });
            item["sighash"] = json!(hex(&hashes.splits[&player_index]));
            wins.push(item);
        }

        // The deepest winner's witness is what the fee is paid for.
        let script_len = Leaf::of(&split_signed[payouts.keys().next().ok_or("no winner")?])?.script.len();
        let input = InputWeightPrediction::new(0, [64, 32, script_len, 33 + 32 * depth]);
        let split_weight = predict_weight([input], payouts.iter().map(|_| P2TR_SCRIPT_LEN));
        let split_fee = self.fee(split_weight)?;
        let total: u64 = payouts.values().sum();
        for (output, weight) in split_tx.output.iter().zip(payouts.values()) {
            let share = tx.output[0].value * *weight / total;
            if output.value != share - split_fee / payouts.len() as u64 {
                return Err("split value differs".into());
            }
        }
        if split_signed.values().map(Transaction::weight).max() != Some(split_weight) {
            return Err("split weight differs".into());
        }

        let item = json!({
            "outcome": outcome,
            "tx": serialize_hex(&tx),
            "txid": tx.compute_txid(),
            "sighash": hex(&hashes.outcome),
            "script_pubkey": tx.output[0].script_pubkey,
            "value_sats": tx.output[0].value,
            "weight": signed.weight(),
            "fee_sats": fee,
            "group_pubkey": group.aggregated_pubkey::<Point>(),
            "merkle_root": hex(AsRef::<[u8]>::as_ref(&reclaim_leaf.merkle_root())),
            "reclaim_leaf": reclaim_leaf.json(),
            "split": {
                "tx": serialize_hex(split_tx),
                "txid": split_tx.compute_txid(),
                "weight": split_weight,
                "fee_sats": split_fee,
                "outputs": payouts.keys().zip(&split_tx.output).map(|(player, output)| json!({
                    "player": player,
                    "script_pubkey": output.script_pubkey,
                    "value_sats": output.value,
                })).collect::<Vec<_>>(),
            },
            "wins": wins,
        });

        let mut by_win = Map::new();
        for (&player_index, signed_split) in &split_signed {
            let win = WinCondition { outcome: *outcome, player_index };
            by_win.insert(win.to_string(), self.win_spends(&win, signed_split)?);
        }
        let spend = json!({
            "tx": serialize_hex(&signed),
            "reclaim": spend_json(&reclaim, &tx.output)?,
            "close": self.outcome_close(outcome)?,
            "wins": by_win,
            "sweep": self.mixed_sweep(outcome)?,
        });
        Ok((item, spend))
    }

    fn outcome_reclaim(&self, outcome: &Outcome) -> Result<Transaction> {
        let (input, prevout) = self.contract.outcome_reclaim_tx_input_and_prevout(outcome)?;
        let weight = self.contract.outcome_reclaim_tx_input_weight(outcome).ok_or("no weight")?;
        let mut tx = self.sweep(self.market_maker(), vec![(input, weight)], prevout.value)?;
        let prevouts = Prevouts::All(&[prevout]);
        let secret = self.secrets.market_maker;
        self.contract.sign_outcome_reclaim_tx_input(outcome, &mut tx, 0, &prevouts, secret)?;
        Ok(tx)
    }

    fn outcome_close(&self, outcome: &Outcome) -> Result<Value> {
        let (input, prevout) = self.contract.outcome_close_tx_input_and_prevout(outcome)?;
        let weight = self.contract.close_tx_input_weight();
        let mut tx = self.sweep(self.market_maker(), vec![(input, weight)], prevout.value)?;
        self.contract.sign_outcome_close_tx_input(
            outcome,
            &mut tx,
            0,
            &Prevouts::All(&[prevout]),
            self.secrets.market_maker,
            &self.all_player_keys(),
        )?;
        spend_json(&tx, std::slice::from_ref(prevout))
    }

    fn win_spends(&self, win: &WinCondition, signed_split: &Transaction) -> Result<Value> {
        Ok(json!({
            "split_tx": serialize_hex(signed_split),
            "win": self.split_win(win)?.1,
            "sellback": self.split_by_market_maker(win, How::Sellback)?.1,
            "reclaim": self.split_by_market_maker(win, How::Reclaim)?.1,
            "close": self.split_by_market_maker(win, How::Close)?.1,
        }))
    }

    fn split_win(&self, win: &WinCondition) -> Result<(Transaction, Value)> {
        let (input, prevout) = self.contract.split_win_tx_input_and_prevout(win)?;
        let player = self.secrets.players[win.player_index];
        let weight = self.contract.split_win_tx_input_weight();
        let mut tx = self.sweep(player.base_point_mul(), vec![(input, weight)], prevout.value)?;
        self.contract.sign_split_win_tx_input(
            win,
            &mut tx,
            0,
            &Prevouts::All(&[prevout]),
            self.secrets.ticket_preimages[win.player_index],
            player,
        )?;
        let json = spend_json(&tx, std::slice::from_ref(prevout))?;
        Ok((tx, json))
    }

    fn split_by_market_maker(&self, win: &WinCondition, how: How) -> Result<(Transaction, Value)> {
        let (input, weight, prevout) = self.split_input(win, how)?;
        let mut tx = self.sweep(self.market_maker(), vec![(input, weight)], prevout.value)?;
        self.sign_split_input(win, how, &mut tx, 0, std::slice::from_ref(&prevout))?;
        let json = spend_json(&tx, &[prevout])?;
        Ok((tx, json))
    }

    /// Every output of the split transaction in one transaction of the market maker: winners by
    /// turns sell back, close, and leave theirs to be reclaimed.
    fn mixed_sweep(&self, outcome: &Outcome) -> Result<Value> {
        let ways: Vec<(WinCondition, How)> = self.contract.params().outcome_payouts[outcome]
            .keys()
            .zip([How::Sellback, How::Close, How::Reclaim].into_iter().cycle())
            .map(|(&player_index, how)| (WinCondition { outcome: *outcome, player_index }, how))
            .collect();
        let mut inputs = vec![];
        let mut prevouts = vec![];
        for (win, how) in &ways {
            let (input, weight, prevout) = self.split_input(win, *how)?;
            inputs.push((input, weight));
            prevouts.push(prevout);
        }
        let value = prevouts.iter().map(|prevout| prevout.value).sum();
        let mut tx = self.sweep(self.market_maker(), inputs, value)?;
        for (index, (win, how)) in ways.iter().enumerate() {
            self.sign_split_input(win, *how, &mut tx, index, &prevouts)?;
        }
        spend_json(&tx, &prevouts)
    }

    fn split_input(&self, win: &WinCondition, how: How) -> Result<(TxIn, InputWeightPrediction, TxOut)> {
        let contract = self.contract;
        let ((input, prevout), weight) = match how {
            How::Sellback => (
                contract.split_sellback_tx_input_and_prevout(win)?,
                contract.split_sellback_tx_input_weight(),
            ),
            How::Reclaim => {
                (contract.split_reclaim_tx_input_and_prevout(win)?, contract.split_reclaim_tx_input_weight())
            }
            How::Close => (contract.split_close_tx_input_and_prevout(win)?, contract.close_tx_input_weight()),
        };
        Ok((input, weight, prevout.clone()))
    }

    fn sign_split_input(
        &self,
        win: &WinCondition,
        how: How,
        tx: &mut Transaction,
        index: usize,
        prevouts: &[TxOut],
    ) -> Result<()> {
        let prevouts = Prevouts::All(prevouts);
        let secret = self.secrets.market_maker;
        let player = win.player_index;
        match how {
            How::Sellback => {
                let preimage = self.secrets.payout_preimages[player];
                self.contract.sign_split_sellback_tx_input(win, tx, index, &prevouts, preimage, secret)?
            }
            How::Reclaim => self.contract.sign_split_reclaim_tx_input(win, tx, index, &prevouts, secret)?,
            How::Close => {
                let player_secret = self.secrets.players[player];
                self.contract.sign_split_close_tx_input(win, tx, index, &prevouts, secret, player_secret)?
            }
        }
        Ok(())
    }

    /// The contract of a player's split output; it is the same under every outcome.
    fn split_contracts(&self) -> Result<Vec<Value>> {
        let mut by_player: BTreeMap<usize, WinCondition> = BTreeMap::new();
        for win in self.contract.params().all_win_conditions() {
            by_player.entry(win.player_index).or_insert(win);
        }
        by_player
            .into_iter()
            .map(|(player, win)| {
                let (_, prevout) = self.contract.split_close_tx_input_and_prevout(&win)?;
                let win_leaf = Leaf::of(&self.split_win(&win)?.0)?;
                let sellback = Leaf::of(&self.split_by_market_maker(&win, How::Sellback)?.0)?;
                let reclaim = Leaf::of(&self.split_by_market_maker(&win, How::Reclaim)?.0)?;
                Ok(json!({
                    "player": player,
                    "script_pubkey": prevout.script_pubkey,
                    "group_pubkey": split_group(self.contract.params(), player)?.aggregated_pubkey::<Point>(),
                    "merkle_root": hex(AsRef::<[u8]>::as_ref(&win_leaf.merkle_root())),
                    "win_leaf": win_leaf.json(),
                    "sellback_leaf": sellback.json(),
                    "reclaim_leaf": reclaim.json(),
                }))
            })
            .collect()
    }
}

/// The ways in which the market maker takes a split output back.
#[derive(Clone, Copy)]
enum How {
    Sellback,
    Reclaim,
    Close,
}
