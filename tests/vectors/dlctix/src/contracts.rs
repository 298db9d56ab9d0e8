//! What dlctix keeps to itself, rebuilt from public parts: group keys, leaves, sighashes.
//!
//! Nothing here is trusted: every value is checked against what dlctix built or signed
//! (`vectors.rs` verifies dlctix's signatures over these sighashes).

use std::collections::BTreeMap;

use dlctix::bitcoin::opcodes::all::{OP_CHECKSIG, OP_EQUALVERIFY, OP_SHA256};
use dlctix::bitcoin::script::Builder;
use dlctix::bitcoin::sighash::{Prevouts, SighashCache};
use dlctix::bitcoin::taproot::{LeafVersion, TapLeafHash};
use dlctix::bitcoin::{OutPoint, ScriptBuf, TapSighashType, Transaction, TxOut};
use dlctix::musig2::{CompactSignature, KeyAggContext, LiftedSignature};
use dlctix::secp::{Point, Scalar};
use dlctix::{ContractParameters, ContractSignatures, Outcome, SignedContract};
use serde_json::json;

use crate::sets::Secrets;
use crate::Result;

fn key_agg(mut pubkeys: Vec<Point>) -> Result<KeyAggContext> {
    pubkeys.sort();
    Ok(KeyAggContext::new(pubkeys)?)
}

pub fn funding_group(params: &ContractParameters) -> Result<KeyAggContext> {
    let players = params.players.iter().map(|player| player.pubkey);
    key_agg(players.chain([params.market_maker.pubkey]).collect())
}

pub fn outcome_group(params: &ContractParameters, outcome: &Outcome) -> Result<KeyAggContext> {
    let winners = params.outcome_payouts.get(outcome).ok_or("outcome without payout")?.keys();
    let pubkeys = winners.map(|&player| params.players[player].pubkey);
    key_agg(pubkeys.chain([params.market_maker.pubkey]).collect())
}

pub fn split_group(params: &ContractParameters, player: usize) -> Result<KeyAggContext> {
    key_agg(vec![params.market_maker.pubkey, params.players[player].pubkey])
}

/// The secret key of a group whose members' secrets are all known.
pub fn group_secret(group: &KeyAggContext, secrets: &Secrets) -> Result<Scalar> {
    let ordered: Vec<Scalar> = group.pubkeys().iter().map(|pubkey| secrets.of(pubkey)).collect();
    Ok(group.aggregated_seckey(ordered)?)
}

pub fn key_path_sighash(tx: &Transaction, input: usize, prevouts: &[TxOut]) -> Result<[u8; 32]> {
    let sighash = SighashCache::new(tx).taproot_key_spend_signature_hash(
        input,
        &Prevouts::All(prevouts),
        TapSighashType::Default,
    )?;
    Ok(*AsRef::<[u8; 32]>::as_ref(&sighash))
}

pub fn script_path_sighash(
    tx: &Transaction,
    input: usize,
    prevouts: &[TxOut],
    script: &ScriptBuf,
) -> Result<[u8; 32]> {
    let sighash = SighashCache::new(tx).taproot_script_spend_signature_hash(
        input,
        &Prevouts::All(prevouts),
        TapLeafHash::from_script(script, LeafVersion::TapScript),
        TapSighashType::Default,
    )?;
    Ok(*AsRef::<[u8; 32]>::as_ref(&sighash))
}

/// The leaf of the outcome output that lets `player` publish the split transaction.
pub fn split_script(params: &ContractParameters, group: &KeyAggContext, player: usize) -> ScriptBuf {
    let group_pubkey: Point = group.aggregated_pubkey();
    Builder::new()
        .push_opcode(OP_SHA256)
        .push_slice(params.players[player].ticket_hash)
        .push_opcode(OP_EQUALVERIFY)
        .push_slice(group_pubkey.serialize_xonly())
        .push_opcode(OP_CHECKSIG)
        .into_script()
}

/// A contract without real signatures: dlctix shows its transactions only through a
/// [`SignedContract`], and the expiry transaction only if there is a signature for it.
pub fn unsigned_contract(params: &ContractParameters, funding_outpoint: OutPoint) -> Result<SignedContract> {
    let placeholder: CompactSignature = LiftedSignature::new(Point::generator(), Scalar::one()).compact();
    let signatures = ContractSignatures {
        expiry_tx_signature: params.outcome_payouts.get(&Outcome::Expiry).map(|_| placeholder),
        outcome_tx_signatures: BTreeMap::new(),
        split_tx_signatures: BTreeMap::new(),
    };
    let contract = json!({
        "signatures": signatures,
        "dlc": {"params": params, "funding_outpoint": funding_outpoint},
    });
    Ok(serde_json::from_value(contract)?)
}

/// The unsigned transaction of any outcome, the expiry included.
pub fn outcome_tx(contract: &SignedContract, outcome: &Outcome) -> Result<Transaction> {
    match outcome {
        Outcome::Attestation(i) => Ok(contract.unsigned_outcome_tx(*i).ok_or("unknown outcome")?.clone()),
        Outcome::Expiry => {
            let mut tx = contract.expiry_tx().ok_or("no expiry transaction")?;
            tx.input[0].witness.clear();
            Ok(tx)
        }
    }
}

/// The transactions and leaves of one outcome over which signatures are made.
pub struct Unsigned {
    pub outcome_tx: Transaction,
    pub split_tx: Transaction,
    pub split_scripts: BTreeMap<usize, ScriptBuf>,
}

/// The messages to sign for one outcome.
pub struct Sighashes {
    pub outcome: [u8; 32],
    pub splits: BTreeMap<usize, [u8; 32]>,
}

impl Unsigned {
    pub fn of(contract: &SignedContract, outcome: &Outcome) -> Result<Unsigned> {
        let params = contract.params();
        let group = outcome_group(params, outcome)?;
        let winners = params.outcome_payouts[outcome].keys();
        Ok(Unsigned {
            outcome_tx: outcome_tx(contract, outcome)?,
            split_tx: contract.unsigned_split_tx(outcome).ok_or("no split transaction")?.clone(),
            split_scripts: winners.map(|&player| (player, split_script(params, &group, player))).collect(),
        })
    }

    pub fn sighashes(&self, funding_output: &TxOut) -> Result<Sighashes> {
        let prevouts = &self.outcome_tx.output;
        let splits = self
            .split_scripts
            .iter()
            .map(|(&player, script)| Ok((player, script_path_sighash(&self.split_tx, 0, prevouts, script)?)));
        Ok(Sighashes {
            outcome: key_path_sighash(&self.outcome_tx, 0, std::slice::from_ref(funding_output))?,
            splits: splits.collect::<Result<_>>()?,
        })
    }
}

pub fn sighashes(contract: &SignedContract, outcome: &Outcome) -> Result<Sighashes> {
    Unsigned::of(contract, outcome)?.sighashes(&contract.dlc().funding_output())
}
