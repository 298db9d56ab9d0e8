//! Signing a whole contract with MuSig2, all members in one process.
//!
//! Nonces come from ChaCha20 seeded by set and key, so a renewed file equals the old one.
//! Deterministic nonces are fine for published test keys and for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use dlctix::hashlock::sha256;
use dlctix::musig2::{
    self, adaptor, AdaptorSignature, AggNonce, BinaryEncoding as _, CompactSignature, KeyAggContext,
    PartialSignature, PubNonce, SecNonce,
};
use dlctix::secp::{MaybePoint, Point, Scalar};
use dlctix::{
    ContractSignatures, Outcome, SigMap, SignedContract, SigningSession, TicketedDLC, WinCondition,
};
use rand_chacha::{rand_core::SeedableRng, ChaCha20Rng};
use serde_json::{json, Map, Value};

use crate::contracts::{funding_group, outcome_group, sighashes, unsigned_contract};
use crate::sets::{Secrets, Set};
use crate::vectors::hex;
use crate::Result;

fn rng(set: &Set, purpose: &str) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(sha256(format!("dlctix-vectors/{}/nonces/{purpose}", set.name).as_bytes()))
}

/// Whether no two members of the funding group have the same public key.
pub fn keys_are_distinct(dlc: &TicketedDLC) -> bool {
    let params = dlc.params();
    let keys: BTreeSet<Point> = params.players.iter().map(|player| player.pubkey).collect();
    keys.len() == params.players.len() && !keys.contains(&params.market_maker.pubkey)
}

/// Signs with dlctix's own signing sessions, one for each member; also returns what they said.
///
/// dlctix keeps one nonce and one partial signature for each *public key*, so this fails where two
/// members share one: use [`sign_by_seat`].
pub fn sign_by_session(
    set: &Set,
    dlc: &TicketedDLC,
    secrets: &Secrets,
) -> Result<(ContractSignatures, SessionLog)> {
    let mut signers: Vec<Scalar> = secrets.players.clone();
    signers.push(secrets.market_maker);

    let mut secnonces = BTreeMap::new();
    let mut pubnonces = BTreeMap::new();
    let mut sessions = BTreeMap::new();
    for secret in signers {
        let pubkey = secret.base_point_mul();
        let mut rng = rng(set, &pubkey.to_string());
        // A signing session hides its secret nonces; the same generator gives them again.
        let mut same_rng = rng.clone();
        let session = SigningSession::new(dlc.clone(), &mut rng, secret)?;
        let again = session
            .our_public_nonces()
            .by_ref()
            .map_values(|_| SecNonce::build(&mut same_rng).with_seckey(secret).build());
        secnonces.insert(pubkey, again);
        pubnonces.insert(pubkey, session.our_public_nonces().clone());
        sessions.insert(pubkey, session);
    }

    let market_maker = dlc.params().market_maker.pubkey;
    let coordinator = sessions
        .remove(&market_maker)
        .ok_or("no market maker")?
        .aggregate_nonces_and_compute_partial_signatures(pubnonces.clone())?;
    let aggnonces = coordinator.aggregated_nonces().clone();

    let mut partials = BTreeMap::new();
    for (pubkey, session) in sessions {
        let session = session.compute_partial_signatures(aggnonces.clone())?;
        coordinator.verify_partial_signatures(pubkey, session.our_partial_signatures())?;
        partials.insert(pubkey, session.our_partial_signatures().clone());
    }
    partials.insert(market_maker, coordinator.our_partial_signatures().clone());
    let signed = coordinator.aggregate_all_signatures(partials.clone())?;
    let log = SessionLog { secnonces, pubnonces, aggnonces, partials };
    Ok((signed.all_signatures().clone(), log))
}

/// The messages of a signing session, by member.
pub struct SessionLog {
    secnonces: BTreeMap<Point, SigMap<SecNonce>>,
    pubnonces: BTreeMap<Point, SigMap<PubNonce>>,
    aggnonces: SigMap<AggNonce>,
    partials: BTreeMap<Point, SigMap<PartialSignature>>,
}

impl SessionLog {
    /// One entry for every signature; lists are in the order of the sorted public keys.
    pub fn to_json(&self, contract: &SignedContract) -> Result<Value> {
        let params = contract.params();
        let signatures = contract.all_signatures();
        let mut by_outcome = Map::new();
        let mut by_win_condition = Map::new();
        let funding = funding_group(params)?;
        for outcome in params.outcome_payouts.keys() {
            let hashes = sighashes(contract, outcome)?;
            let (adaptor_point, signature) = match outcome {
                Outcome::Attestation(i) => {
                    (json!(params.event.locking_points[*i]), json!(signatures.outcome_tx_signatures[i]))
                }
                Outcome::Expiry => (Value::Null, json!(signatures.expiry_tx_signature)),
            };
            by_outcome.insert(
                outcome.to_string(),
                json!({
                    "pubkeys": funding.pubkeys(),
                    "aggregate_pubkey": funding.aggregated_pubkey::<Point>(),
                    "message": hex(&hashes.outcome),
                    "adaptor_point": adaptor_point,
                    "secnonces": self.list(&funding, &self.secnonces, |m| hex(&m.by_outcome[outcome].to_bytes())),
                    "pubnonces": self.list(&funding, &self.pubnonces, |m| m.by_outcome[outcome].clone()),
                    "aggnonce": self.aggnonces.by_outcome[outcome],
                    "partial_signatures": self.list(&funding, &self.partials, |m| m.by_outcome[outcome]),
                    "signature": signature,
                }),
            );
            let group = outcome_group(params, outcome)?;
            for (&player_index, sighash) in &hashes.splits {
                let win = WinCondition { outcome: *outcome, player_index };
                by_win_condition.insert(
                    win.to_string(),
                    json!({
                        "pubkeys": group.pubkeys(),
                        "aggregate_pubkey": group.aggregated_pubkey::<Point>(),
                        "message": hex(sighash),
                        "secnonces": self.list(&group, &self.secnonces, |m| hex(&m.by_win_condition[&win].to_bytes())),
                        "pubnonces": self.list(&group, &self.pubnonces, |m| m.by_win_condition[&win].clone()),
                        "aggnonce": self.aggnonces.by_win_condition[&win],
                        "partial_signatures": self.list(&group, &self.partials, |m| m.by_win_condition[&win]),
                        "signature": signatures.split_tx_signatures[&win],
                    }),
                );
            }
        }
        Ok(json!({"by_outcome": by_outcome, "by_win_condition": by_win_condition}))
    }

    fn list<T, V>(&self, group: &KeyAggContext, from: &BTreeMap<Point, T>, pick: impl Fn(&T) -> V) -> Vec<V> {
        group.pubkeys().iter().map(|pubkey| pick(&from[pubkey])).collect()
    }
}

/// Signs as BIP327 has it: a nonce and a partial signature for every *seat* of a group, also
/// where two seats have the same public key.
pub fn sign_by_seat(set: &Set, dlc: &TicketedDLC, secrets: &Secrets) -> Result<ContractSignatures> {
    let params = dlc.params();
    let contract = unsigned_contract(params, dlc.funding_outpoint())?;
    let funding = funding_group(params)?;
    let mut rng = rng(set, "seats");
    let mut signatures = ContractSignatures {
        expiry_tx_signature: None,
        outcome_tx_signatures: BTreeMap::new(),
        split_tx_signatures: BTreeMap::new(),
    };
    for outcome in params.outcome_payouts.keys() {
        let hashes = sighashes(&contract, outcome)?;
        match outcome {
            Outcome::Attestation(i) => {
                let point = params.event.locking_points[*i];
                let signature = sign_group(&funding, secrets, point, &hashes.outcome, &mut rng)?;
                signatures.outcome_tx_signatures.insert(*i, signature);
            }
            Outcome::Expiry => {
                let signature = sign_plain(&funding, secrets, &hashes.outcome, &mut rng)?;
                signatures.expiry_tx_signature = Some(signature);
            }
        }
        let group = outcome_group(params, outcome)?;
        for (&player_index, sighash) in &hashes.splits {
            let win = WinCondition { outcome: *outcome, player_index };
            let signature = sign_plain(&group, secrets, sighash, &mut rng)?;
            signatures.split_tx_signatures.insert(win, signature);
        }
    }
    Ok(signatures)
}

fn sign_plain(
    group: &KeyAggContext,
    secrets: &Secrets,
    message: &[u8; 32],
    rng: &mut ChaCha20Rng,
) -> Result<CompactSignature> {
    sign_group(group, secrets, MaybePoint::Infinity, message, rng)?
        .adapt(dlctix::secp::MaybeScalar::Zero)
        .ok_or_else(|| "nonce at infinity".into())
}

fn sign_group(
    group: &KeyAggContext,
    secrets: &Secrets,
    adaptor_point: MaybePoint,
    message: &[u8; 32],
    rng: &mut ChaCha20Rng,
) -> Result<AdaptorSignature> {
    let seats: Vec<(Scalar, SecNonce)> = group
        .pubkeys()
        .iter()
        .map(|pubkey| {
            let secret = secrets.of(pubkey);
            (secret, SecNonce::build(&mut *rng).with_seckey(secret).build())
        })
        .collect();
    let aggnonce = AggNonce::sum(seats.iter().map(|(_, nonce)| nonce.public_nonce()));
    let partials = seats
        .into_iter()
        .map(|(secret, nonce)| {
            let partial: PartialSignature =
                adaptor::sign_partial(group, secret, nonce, &aggnonce, adaptor_point, message)?;
            Ok(partial)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(adaptor::aggregate_partial_signatures(group, &aggnonce, adaptor_point, partials, message)?)
}

/// Lets dlctix verify every signature (as the market maker, whom all of them concern).
pub fn verified_contract(
    set: &Set,
    dlc: TicketedDLC,
    secrets: &Secrets,
    signatures: ContractSignatures,
) -> Result<SignedContract> {
    let session = SigningSession::new(dlc, &mut rng(set, "verify"), secrets.market_maker)?;
    let aggnonces = session.our_public_nonces().by_ref().map_values(|n| AggNonce::sum([n.clone()]));
    let session = session.compute_partial_signatures(aggnonces)?;
    session.verify_aggregated_signatures(&signatures)?;
    Ok(session.into_signed_contract(signatures))
}

/// Checks one BIP340 signature.
pub fn verify(pubkey: Point, signature: &[u8], message: &[u8; 32]) -> Result<()> {
    Ok(musig2::verify_single(pubkey, CompactSignature::from_bytes(signature)?, message)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::{all, plain};

    fn sign(set: &Set) -> Result<ContractSignatures> {
        let secrets = set.secrets();
        let dlc = TicketedDLC::new(set.params(&secrets), set.funding_outpoint()?)?;
        Ok(sign_by_session(set, &dlc, &secrets)?.0)
    }

    /// Why there is `sign_by_seat` at all.
    #[test]
    fn sessions_cannot_sign_for_a_key_that_holds_two_seats() {
        let set = |name: &str| all().into_iter().find(|set| set.name == name).unwrap();
        assert!(sign(&plain("distinct", 3, 2)).is_ok());
        assert!(sign(&set("n3w2_shared_key")).is_err());
        assert!(sign(&set("n3w2_market_maker_plays")).is_err());
    }

    #[test]
    fn both_ways_of_signing_verify() {
        let set = plain("distinct", 3, 2);
        let secrets = set.secrets();
        let dlc = TicketedDLC::new(set.params(&secrets), set.funding_outpoint().unwrap()).unwrap();
        for signatures in [sign(&set).unwrap(), sign_by_seat(&set, &dlc, &secrets).unwrap()] {
            verified_contract(&set, dlc.clone(), &secrets, signatures).unwrap();
        }
    }

    #[test]
    fn a_changed_signature_is_refused() {
        let set = plain("distinct", 3, 2);
        let secrets = set.secrets();
        let dlc = TicketedDLC::new(set.params(&secrets), set.funding_outpoint().unwrap()).unwrap();
        let mut signatures = sign(&set).unwrap();
        let moved = signatures.outcome_tx_signatures[&0];
        signatures.outcome_tx_signatures.insert(1, moved);
        assert!(verified_contract(&set, dlc, &secrets, signatures).is_err());
    }
}
