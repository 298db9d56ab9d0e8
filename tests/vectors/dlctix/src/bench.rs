//! Times dlctix on a contract of N entries and W places.
//!
//! Two processes: a child signs with the aggregated secret keys and hands the signatures over
//! in a file, so that neither its time nor its memory counts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dlctix::hashlock::sha256;
use dlctix::musig2::{adaptor, deterministic, AggNonce};
use dlctix::{ContractSignatures, Outcome, SigningSession, TicketedDLC, WinCondition};
use rand_chacha::{rand_core::SeedableRng, ChaCha20Rng};
use serde_json::json;

use crate::contracts::{funding_group, group_secret, outcome_group, sighashes, unsigned_contract, Unsigned};
use crate::sets::{plain, Set};
use crate::Result;

fn bench_set(entries: usize, places: usize) -> Result<Set> {
    if !(1..=5).contains(&places) || places >= entries {
        return Err("1 to 5 places, fewer than entries".into());
    }
    Ok(Set { funding_value_sats: 10_000_000, delta_blocks: 144, ..plain("bench", entries, places) })
}

/// The most memory this process ever held, in KiB.
fn peak_rss_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmHWM")?.parse()?)
}

pub fn run(entries: usize, places: usize) -> Result<()> {
    let set = bench_set(entries, places)?;
    let secrets = set.secrets();

    let file = std::env::temp_dir().join(format!("dlctix-bench-{}.json", std::process::id()));
    let (n, w) = (entries.to_string(), places.to_string());
    let child = Command::new(std::env::current_exe()?).args(["bench-sign", &n, &w]).arg(&file).status()?;
    if !child.success() {
        return Err("signing failed".into());
    }

    let start = Instant::now();
    let params = set.params(&secrets);
    let locking_points_seconds = start.elapsed().as_secs_f64();
    let (outcomes, wins) = (params.outcome_payouts.len(), params.all_win_conditions().len());

    let start = Instant::now();
    let dlc = TicketedDLC::new(params, set.funding_outpoint()?)?;
    let build_seconds = start.elapsed().as_secs_f64();
    let build_peak_rss_kib = peak_rss_kib()?;

    // dlctix verifies within a session that has already signed: one signer's whole work.
    let mut rng = ChaCha20Rng::from_seed(sha256(b"dlctix-vectors/bench/verify"));
    let start = Instant::now();
    let session = SigningSession::new(dlc, &mut rng, secrets.market_maker)?;
    let nonces_seconds = start.elapsed().as_secs_f64();
    let aggnonces = session.our_public_nonces().by_ref().map_values(|n| AggNonce::sum([n.clone()]));
    let start = Instant::now();
    let session = session.compute_partial_signatures(aggnonces)?;
    let sign_seconds = start.elapsed().as_secs_f64();

    let signatures: ContractSignatures = serde_json::from_slice(&fs::read(&file)?)?;
    fs::remove_file(&file)?;
    let start = Instant::now();
    session.verify_aggregated_signatures(&signatures)?;
    let verify_seconds = start.elapsed().as_secs_f64();
    let peak_rss_kib = peak_rss_kib()?;

    // A signature moved to another place must be refused, or the timing above means nothing.
    let mut wrong = signatures.clone();
    let (first, last) = (WinCondition { outcome: Outcome::Attestation(0), player_index: 0 }, outcomes - 2);
    let last = WinCondition { outcome: Outcome::Attestation(last), player_index: 0 };
    let moved = wrong.split_tx_signatures[&first];
    wrong.split_tx_signatures.insert(last, moved);
    if session.verify_aggregated_signatures(&wrong).is_ok() {
        return Err("a misplaced signature passed".into());
    }

    let contract = session.into_signed_contract(signatures);
    let funding_output = contract.dlc().funding_output();
    let keys = contract.params().outcome_payouts.keys();
    let unsigned = keys.map(|outcome| Unsigned::of(&contract, outcome)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for outcome in &unsigned {
        std::hint::black_box(outcome.sighashes(&funding_output)?);
    }
    let sighash_seconds = start.elapsed().as_secs_f64();

    let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
    println!(
        "{}",
        json!({
            "library": "dlctix 0.0.7",
            "entries": entries,
            "places": places,
            "outcomes": outcomes,
            "split_signatures": wins,
            "locking_points_seconds": round(locking_points_seconds),
            "build_seconds": round(build_seconds),
            "sighash_seconds": round(sighash_seconds),
            "build_and_sighash_seconds": round(build_seconds + sighash_seconds),
            "nonces_seconds": round(nonces_seconds),
            "sign_seconds": round(sign_seconds),
            "verify_seconds": round(verify_seconds),
            "build_peak_rss_mib": build_peak_rss_kib / 1024,
            "peak_rss_mib": peak_rss_kib / 1024,
        })
    );
    Ok(())
}

/// Signs everything with the groups' secret keys; one signer's signature looks like the group's.
pub fn sign_to_file(entries: usize, places: usize, path: &Path) -> Result<()> {
    let set = bench_set(entries, places)?;
    let secrets = set.secrets();
    let params = set.params(&secrets);
    let contract = unsigned_contract(&params, set.funding_outpoint()?)?;
    let funding_secret = group_secret(&funding_group(&params)?, &secrets)?;
    let mut rng = ChaCha20Rng::from_seed(sha256(b"dlctix-vectors/bench/sign"));
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
                let signature = adaptor::sign_solo(funding_secret, hashes.outcome, &mut rng, point);
                signatures.outcome_tx_signatures.insert(*i, signature);
            }
            Outcome::Expiry => {
                let signature = deterministic::sign_solo(funding_secret, hashes.outcome);
                signatures.expiry_tx_signature = Some(signature);
            }
        }
        let secret = group_secret(&outcome_group(&params, outcome)?, &secrets)?;
        for (&player_index, sighash) in &hashes.splits {
            let win = WinCondition { outcome: *outcome, player_index };
            signatures.split_tx_signatures.insert(win, deterministic::sign_solo(secret, sighash));
        }
    }
    Ok(fs::write(path, serde_json::to_vec(&signatures)?)?)
}
