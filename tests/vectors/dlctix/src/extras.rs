//! Vectors beside the contracts: the oracle's arithmetic, validation, and digests of big contracts.

use dlctix::bitcoin::{Amount, FeeRate};
use dlctix::{
    attestation_locking_point, attestation_secret, ContractParameters, Outcome, PayoutWeights, TicketedDLC,
};
use serde_json::{json, Value};

use crate::contracts::unsigned_contract;
use crate::sets::{message, plain, Set};
use crate::vectors::{digest, digest_lines, hex, secrets_json};
use crate::Result;

/// Locking points and attestations over every combination of Y parities.
pub fn oracle() -> Result<Value> {
    let mut cases = vec![];
    for (name, oracle_odd) in [
        ("oracle-even-even", (false, false)),
        ("oracle-even-odd", (false, true)),
        ("oracle-odd-even", (true, false)),
        ("oracle-odd-odd", (true, true)),
    ] {
        let secrets = Set { oracle_odd, ..plain(name, 2, 1) }.secrets();
        let (key, nonce) = (secrets.oracle_key, secrets.oracle_nonce);
        let messages =
            [vec![], b"alice wins".to_vec(), message(&[0]), message(&[258, 1, 0]), vec![0xff; 800]];
        for message in messages {
            let point = attestation_locking_point(key.base_point_mul(), nonce.base_point_mul(), &message);
            let secret = attestation_secret(key, nonce, &message);
            if secret.base_point_mul() != point {
                return Err("attestation does not open the locking point".into());
            }
            cases.push(json!({
                "oracle_seckey": hex(&key.serialize()),
                "oracle_secnonce": hex(&nonce.serialize()),
                "oracle_pubkey": key.base_point_mul(),
                "oracle_nonce": nonce.base_point_mul(),
                "message": hex(&message),
                "locking_point": point,
                "attestation": hex(&secret.serialize()),
            }));
        }
    }
    Ok(json!({"cases": cases}))
}

type Change = fn(&mut ContractParameters);

/// Parameters changed in one thing, and whether dlctix builds a contract from them.
pub fn validation() -> Result<Value> {
    let set = plain("validation", 3, 1);
    let good = set.params(&set.secrets());
    let outpoint = set.funding_outpoint()?;
    let builds = |params: &ContractParameters| TicketedDLC::new(params.clone(), outpoint).is_ok();

    let changes: Vec<(&str, Change)> = vec![
        ("unchanged", |_| ()),
        ("two players with one ticket hash", |p| p.players[1].ticket_hash = p.players[0].ticket_hash),
        ("two players with one payout hash", |p| p.players[1].payout_hash = p.players[0].payout_hash),
        ("two players with one public key", |p| p.players[1].pubkey = p.players[0].pubkey),
        ("outcome beyond the event", |p| {
            let weights = PayoutWeights::from([(0, 1)]);
            p.outcome_payouts.insert(Outcome::Attestation(4), weights);
        }),
        ("expiry payout without expiry", |p| p.event.expiry = None),
        ("expiry without expiry payout", |p| {
            p.outcome_payouts.remove(&Outcome::Expiry);
        }),
        ("outcome without payout map", |p| {
            p.outcome_payouts.remove(&Outcome::Attestation(1));
        }),
        ("empty payout map", |p| {
            p.outcome_payouts.insert(Outcome::Attestation(1), PayoutWeights::new());
        }),
        ("zero weight", |p| {
            p.outcome_payouts.insert(Outcome::Attestation(1), PayoutWeights::from([(0, 0), (1, 1)]));
        }),
        ("player index out of range", |p| {
            p.outcome_payouts.insert(Outcome::Attestation(1), PayoutWeights::from([(3, 1)]));
        }),
        ("zero fee rate", |p| p.fee_rate = FeeRate::ZERO),
        ("zero delta", |p| p.relative_locktime_block_delta = 0),
        ("longest delta whose double is a u16", |p| p.relative_locktime_block_delta = 32_767),
        ("delta whose double is not a u16", |p| p.relative_locktime_block_delta = 32_768),
        ("longest delta", |p| p.relative_locktime_block_delta = u16::MAX),
        ("zero funding value", |p| p.funding_value = Amount::ZERO),
        ("one winner's share is dust", |p| {
            let weights = PayoutWeights::from([(0, 1), (1, 1_000_000)]);
            p.outcome_payouts.insert(Outcome::Attestation(1), weights);
        }),
        ("no players", |p| {
            p.players.clear();
            p.outcome_payouts.clear();
        }),
        ("no outcomes", |p| p.outcome_payouts.clear()),
    ];
    let cases: Vec<Value> = changes
        .into_iter()
        .map(|(name, change)| {
            let mut params = good.clone();
            change(&mut params);
            json!({"name": name, "params": params, "valid": builds(&params)})
        })
        .collect();

    // The least funding value from which the contract can be built, by bisection.
    let boundaries = [250, 1_001, 25_000]
        .into_iter()
        .map(|fee_rate| {
            let mut params = good.clone();
            params.fee_rate = FeeRate::from_sat_per_kwu(fee_rate);
            let (mut refused, mut accepted) = (0, good.funding_value.to_sat());
            while refused + 1 < accepted {
                let middle = (refused + accepted) / 2;
                params.funding_value = Amount::from_sat(middle);
                *if builds(&params) { &mut accepted } else { &mut refused } = middle;
            }
            json!({"fee_rate": fee_rate, "least_funding_value_sats": accepted})
        })
        .collect::<Vec<_>>();
    Ok(json!({
        "funding_outpoint": outpoint,
        "params": good,
        "cases": cases,
        "least_funding_values": boundaries,
    }))
}

/// Contracts too big to write out: the secrets they derive from, and a digest of all of it.
pub fn scale() -> Result<Value> {
    let mut cases = vec![];
    for (name, entries, places) in [("n10w3", 10, 3), ("n20w3", 20, 3), ("n25w3", 25, 3)] {
        let set = Set { funding_value_sats: 10_000_000, delta_blocks: 144, ..plain(name, entries, places) };
        let secrets = set.secrets();
        let params = set.params(&secrets);
        let contract = unsigned_contract(&params, set.funding_outpoint()?)?;
        let points: Vec<u8> =
            params.event.locking_points.iter().flat_map(|point| point.serialize()).collect();
        let (first, _) = params.outcome_payouts.first_key_value().ok_or("no outcome")?;
        let (last, _) = params.outcome_payouts.last_key_value().ok_or("no outcome")?;
        cases.push(json!({
            "name": name,
            "entries": entries,
            "places": places,
            "weights": set.weights,
            "secrets": secrets_json(&secrets),
            "fee_rate": params.fee_rate,
            "funding_value": params.funding_value,
            "relative_locktime_block_delta": params.relative_locktime_block_delta,
            "expiry": params.event.expiry,
            "funding_outpoint": set.funding_outpoint()?,
            "funding_script_pubkey": contract.dlc().funding_output().script_pubkey,
            "outcome_count": params.outcome_payouts.len(),
            "win_condition_count": params.all_win_conditions().len(),
            "locking_points_sha256": hex(&dlctix::hashlock::sha256(&points)),
            "first_digest_lines": digest_lines(&contract, first)?,
            "last_digest_lines": digest_lines(&contract, last)?,
            "digest": digest(&contract)?,
        }));
    }
    Ok(json!({"cases": cases}))
}
