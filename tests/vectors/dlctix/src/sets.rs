//! The parameter sets: what is agreed on, and the test secrets behind it.

use std::collections::BTreeMap;

use dlctix::bitcoin::{Amount, FeeRate, OutPoint};
use dlctix::hashlock::{sha256, Preimage};
use dlctix::secp::{Point, Scalar};
use dlctix::{
    attestation_locking_point, ContractParameters, EventLockingConditions, MarketMaker, Outcome,
    PayoutWeights, Player,
};

use crate::Result;

/// A description of a contract from which everything else is derived, secrets included.
#[derive(Clone)]
pub struct Set {
    pub name: &'static str,
    pub about: &'static str,
    pub entries: usize,
    pub places: usize,
    /// Weight of each place; one for every place.
    pub weights: Vec<u64>,
    pub fee_rate_sat_per_kwu: u64,
    pub funding_value_sats: u64,
    pub delta_blocks: u16,
    pub expiry: Option<u32>,
    /// `(a, b)`: player `b` uses the public key of player `a`.
    pub shared_keys: Vec<(usize, usize)>,
    /// The player who is also the market maker.
    pub market_maker_plays: Option<usize>,
    /// Whether the oracle's public key and nonce point have odd Y.
    pub oracle_odd: (bool, bool),
    /// Replaces the payouts of the rankings; outcomes left out have none.
    pub payouts: Option<BTreeMap<Outcome, PayoutWeights>>,
    /// Every `sample_step`-th outcome is written out in full (refund and expiry always are).
    pub sample_step: usize,
    /// Whether to write the MuSig2 session too (nonces, partial signatures).
    pub with_musig_session: bool,
}

impl Default for Set {
    fn default() -> Self {
        Set {
            name: "",
            about: "",
            entries: 2,
            places: 1,
            weights: vec![100],
            fee_rate_sat_per_kwu: 2_500,
            funding_value_sats: 1_000_000,
            delta_blocks: 72,
            expiry: Some(1_800_000_000),
            shared_keys: vec![],
            market_maker_plays: None,
            oracle_odd: (false, false),
            payouts: None,
            sample_step: 1,
            with_musig_session: false,
        }
    }
}

/// The secret keys and preimages of everybody. Test material, published on purpose.
pub struct Secrets {
    pub market_maker: Scalar,
    pub players: Vec<Scalar>,
    pub ticket_preimages: Vec<Preimage>,
    pub payout_preimages: Vec<Preimage>,
    pub oracle_key: Scalar,
    pub oracle_nonce: Scalar,
}

impl Secrets {
    /// The secret key behind a player's or the market maker's public key.
    pub fn of(&self, pubkey: &Point) -> Scalar {
        *self
            .players
            .iter()
            .chain([&self.market_maker])
            .find(|secret| secret.base_point_mul() == *pubkey)
            .expect("a public key of the contract")
    }
}

fn digest(set: &str, role: &str) -> [u8; 32] {
    sha256(format!("dlctix-vectors/{set}/{role}").as_bytes())
}

fn scalar(set: &str, role: &str) -> Scalar {
    Scalar::from_slice(&digest(set, role)).expect("a SHA256 digest outside 1..n is out of reach")
}

/// The first of `role`, `role#1`, `role#2`, ... whose public key has the wanted Y parity.
fn scalar_with_parity(set: &str, role: &str, odd: bool) -> Scalar {
    (0..)
        .map(|i| match i {
            0 => scalar(set, role),
            _ => scalar(set, &format!("{role}#{i}")),
        })
        .find(|s| s.base_point_mul().has_odd_y() == odd)
        .expect("every second scalar has the wanted parity")
}

/// All `places`-permutations of the entries in lexicographic order.
fn rankings(entries: usize, places: usize) -> Vec<Vec<usize>> {
    if places == 0 {
        return vec![vec![]];
    }
    let shorter = rankings(entries, places - 1);
    shorter
        .iter()
        .flat_map(|head| {
            (0..entries)
                .filter(|entry| !head.contains(entry))
                .map(move |entry| [&head[..], &[entry]].concat())
        })
        .collect()
}

/// The message the oracle attests to: every index as an 8-byte big-endian unsigned integer.
pub fn message(ranking: &[usize]) -> Vec<u8> {
    ranking.iter().flat_map(|&entry| (entry as u64).to_be_bytes()).collect()
}

impl Set {
    /// Every outcome of the event: the rankings in lexicographic order, then the refund of all.
    pub fn outcome_rankings(&self) -> Vec<Vec<usize>> {
        let mut all = rankings(self.entries, self.places);
        all.push((0..self.entries).collect());
        all
    }

    pub fn secrets(&self) -> Secrets {
        let mut players: Vec<Scalar> =
            (0..self.entries).map(|i| scalar(self.name, &format!("player/{i}"))).collect();
        for &(original, copy) in &self.shared_keys {
            players[copy] = players[original];
        }
        let market_maker = scalar(self.name, "market_maker");
        if let Some(i) = self.market_maker_plays {
            players[i] = market_maker;
        }
        let preimages =
            |kind: &str| (0..self.entries).map(|i| digest(self.name, &format!("{kind}/{i}"))).collect();
        Secrets {
            market_maker,
            players,
            ticket_preimages: preimages("ticket"),
            payout_preimages: preimages("payout"),
            oracle_key: scalar_with_parity(self.name, "oracle/key", self.oracle_odd.0),
            oracle_nonce: scalar_with_parity(self.name, "oracle/nonce", self.oracle_odd.1),
        }
    }

    pub fn funding_outpoint(&self) -> Result<OutPoint> {
        let txid: String = digest(self.name, "funding").iter().map(|byte| format!("{byte:02x}")).collect();
        let vout = self.entries % 3;
        Ok(format!("{txid}:{vout}").parse()?)
    }

    fn ranking_payouts(&self) -> BTreeMap<Outcome, PayoutWeights> {
        let everybody: PayoutWeights = (0..self.entries).map(|player| (player, 1)).collect();
        let rankings = rankings(self.entries, self.places);
        let mut payouts: BTreeMap<Outcome, PayoutWeights> = rankings
            .iter()
            .enumerate()
            .map(|(i, ranking)| {
                let shares = ranking.iter().copied().zip(self.weights.iter().copied()).collect();
                (Outcome::Attestation(i), shares)
            })
            .collect();
        payouts.insert(Outcome::Attestation(rankings.len()), everybody.clone());
        if self.expiry.is_some() {
            payouts.insert(Outcome::Expiry, everybody);
        }
        payouts
    }

    pub fn params(&self, secrets: &Secrets) -> ContractParameters {
        let oracle_pubkey: Point = secrets.oracle_key.base_point_mul();
        let oracle_nonce: Point = secrets.oracle_nonce.base_point_mul();
        ContractParameters {
            market_maker: MarketMaker { pubkey: secrets.market_maker.base_point_mul() },
            players: (0..self.entries)
                .map(|i| Player {
                    pubkey: secrets.players[i].base_point_mul(),
                    ticket_hash: sha256(&secrets.ticket_preimages[i]),
                    payout_hash: sha256(&secrets.payout_preimages[i]),
                })
                .collect(),
            event: EventLockingConditions {
                locking_points: self
                    .outcome_rankings()
                    .iter()
                    .map(|r| attestation_locking_point(oracle_pubkey, oracle_nonce, message(r)))
                    .collect(),
                expiry: self.expiry,
            },
            outcome_payouts: self.payouts.clone().unwrap_or_else(|| self.ranking_payouts()),
            fee_rate: FeeRate::from_sat_per_kwu(self.fee_rate_sat_per_kwu),
            funding_value: Amount::from_sat(self.funding_value_sats),
            relative_locktime_block_delta: self.delta_blocks,
        }
    }
}

/// The prize weights of a ranking with that many places, in percent.
pub fn prize_weights(places: usize) -> Vec<u64> {
    match places {
        1 => vec![100],
        2 => vec![60, 40],
        3 => vec![45, 35, 20],
        4 => vec![42, 30, 18, 10],
        5 => vec![40, 27, 16, 9, 8],
        _ => panic!("no prize weights for {places} places"),
    }
}

/// A set for `entries` and `places` with nothing special about it.
pub fn plain(name: &'static str, entries: usize, places: usize) -> Set {
    Set { name, entries, places, weights: prize_weights(places), ..Set::default() }
}

fn equal(winners: impl IntoIterator<Item = usize>) -> PayoutWeights {
    winners.into_iter().map(|player| (player, 1)).collect()
}

pub fn all() -> Vec<Set> {
    vec![
        Set {
            about: "two entries, the winner takes all; 100 sat/vB; MuSig2 session written out",
            fee_rate_sat_per_kwu: 25_000,
            with_musig_session: true,
            ..plain("n2w1", 2, 1)
        },
        Set {
            about: "no expiry, 1 sat/vB, the shortest delta; oracle key odd; MuSig2 session written out",
            fee_rate_sat_per_kwu: 250,
            funding_value_sats: 20_001,
            delta_blocks: 1,
            expiry: None,
            oracle_odd: (true, false),
            with_musig_session: true,
            ..plain("n3w1_noexpiry", 3, 1)
        },
        Set {
            about: "players 0 and 2 share a public key; delta 8 and 2*delta 16 (OP_8, OP_16); oracle nonce odd",
            fee_rate_sat_per_kwu: 250,
            funding_value_sats: 99_999,
            delta_blocks: 8,
            shared_keys: vec![(0, 2)],
            oracle_odd: (false, true),
            ..plain("n3w2_shared_key", 3, 2)
        },
        Set {
            about: "the market maker is also player 1; oracle key and nonce odd",
            fee_rate_sat_per_kwu: 1_000,
            market_maker_plays: Some(1),
            oracle_odd: (true, true),
            ..plain("n3w2_market_maker_plays", 3, 2)
        },
        Set {
            about: "prime weights that round; delta 16 (OP_16) and 2*delta 32 (a pushed byte); expiry is a block height",
            weights: vec![7, 3],
            fee_rate_sat_per_kwu: 333,
            funding_value_sats: 1_234_567,
            delta_blocks: 16,
            expiry: Some(900_000),
            oracle_odd: (true, false),
            ..plain("n4w2_rounding", 4, 2)
        },
        Set {
            about: "three places of four, delta 17, no expiry",
            fee_rate_sat_per_kwu: 12_345,
            funding_value_sats: 777_777,
            delta_blocks: 17,
            expiry: None,
            ..plain("n4w3", 4, 3)
        },
        Set {
            about: "one place of five; delta 64 and 2*delta 128 (a sign byte is pushed)",
            fee_rate_sat_per_kwu: 25_000,
            delta_blocks: 64,
            oracle_odd: (false, true),
            ..plain("n5w1", 5, 1)
        },
        Set {
            about: "61 outcomes: three places of five; delta 144",
            fee_rate_sat_per_kwu: 2_500,
            funding_value_sats: 500_000,
            delta_blocks: 144,
            oracle_odd: (true, true),
            ..plain("n5w3", 5, 3)
        },
        Set {
            about: "two places of six, one winner may hold two tickets under one key; weights of 10^12",
            weights: vec![1_000_000_000_001, 999_999_999_999],
            fee_rate_sat_per_kwu: 5_001,
            funding_value_sats: 1_000_003,
            delta_blocks: 128,
            shared_keys: vec![(1, 4)],
            oracle_odd: (false, true),
            ..plain("n6w2_shared_key", 6, 2)
        },
        Set {
            about: "three places of six, all three of players 0, 3 and 5 under one key; weights 1, 1, 1",
            weights: vec![1, 1, 1],
            fee_rate_sat_per_kwu: 250,
            funding_value_sats: 60_000,
            delta_blocks: 6,
            shared_keys: vec![(0, 3), (0, 5)],
            oracle_odd: (true, false),
            sample_step: 3,
            ..plain("n6w3_shared_key", 6, 3)
        },
        Set {
            about: "many winners: ties of 4, 5, 6 and 7 equal leaves; most outcomes have no payout",
            entries: 7,
            places: 2,
            fee_rate_sat_per_kwu: 750,
            payouts: Some(BTreeMap::from([
                (Outcome::Attestation(0), PayoutWeights::from([(0, 40), (1, 27), (3, 16), (5, 9), (6, 8)])),
                (Outcome::Attestation(1), equal([1, 3, 4, 6])),
                (Outcome::Attestation(7), equal([0, 1, 2, 5, 6])),
                (Outcome::Attestation(11), equal([0, 2, 3, 4, 5, 6])),
                (Outcome::Attestation(42), equal(0..7)),
                (Outcome::Expiry, equal([2, 4, 6])),
            ])),
            delta_blocks: 1_008,
            ..plain("n7_many_winners", 7, 2)
        },
        Set {
            about: "211 outcomes: three places of seven, no expiry; delta 16384 and 2*delta 32768 (three bytes pushed)",
            fee_rate_sat_per_kwu: 10_000,
            funding_value_sats: 2_100_000,
            delta_blocks: 16_384,
            expiry: None,
            oracle_odd: (false, true),
            sample_step: 10,
            ..plain("n7w3_noexpiry", 7, 3)
        },
        Set {
            about: "one place of eight: refund and expiry of eight equal leaves; the longest delta whose double is a u16",
            fee_rate_sat_per_kwu: 25_000,
            funding_value_sats: 3_000_000,
            delta_blocks: 32_767,
            oracle_odd: (true, true),
            ..plain("n8w1", 8, 1)
        },
        Set {
            about: "two places of eight, two pairs of players under one key each",
            fee_rate_sat_per_kwu: 20_000,
            funding_value_sats: 4_000_000,
            shared_keys: vec![(2, 7), (3, 6)],
            oracle_odd: (false, false),
            ..plain("n8w2_shared_keys", 8, 2)
        },
        Set {
            about: "337 outcomes: three places of eight",
            fee_rate_sat_per_kwu: 15_000,
            funding_value_sats: 100_000_000,
            delta_blocks: 432,
            expiry: Some(u32::MAX),
            oracle_odd: (true, false),
            sample_step: 16,
            ..plain("n8w3", 8, 3)
        },
    ]
}
