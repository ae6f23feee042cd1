use proptest::prelude::*;

use super::line::{Footer, Header, Line, Paid, PaymentLine, Position, SettlementLine, Source, TermsLine};
use super::segment::{self, Encoded, FORMAT, Fault, Head};
use super::verify::{Expect, Report, Verifier};
use crate::amount::Amount;
use crate::ids::{Hash, PublicKey, Signature};
use crate::message;
use crate::store::stream::EntryId;
use crate::testing::{key, terms};
use crate::verify::usable_key;
use crate::voucher::Proof;
use crate::wire::Receipt;

fn payment(salt: u64, amount: u64, entry: EntryId) -> Line {
    let (channel_id, amount) = (terms(salt).id(), Amount::new(amount));
    let signature = Signature::of(&key(2), &message::voucher(&channel_id, amount, 0));
    let proof = Proof::Ed25519 { expires_at: 0, signature }.to_bytes();
    let paid = Paid { channel_id, cumulative_amount: amount, proof };
    Line::Payment(PaymentLine { partition: 7, entry, paid })
}

fn settlement(salt: u64, amount: u64, issuer: u8, entry: EntryId) -> Line {
    let (channel_id, settled_amount) = (terms(salt).id(), Amount::new(amount));
    let refunded_amount = Amount::new(1_000 - amount);
    let message = message::receipt(&channel_id, settled_amount, refunded_amount, true, 5);
    let signature = Signature::of(&key(issuer), &message);
    let receipt = Receipt {
        channel_id,
        settled_amount,
        refunded_amount,
        closed: true,
        settled_at_ms: 5,
        inclusion: None,
        signature,
    };
    Line::Settlement(SettlementLine {
        partition: 7,
        entry,
        channel_id,
        cumulative_amount: settled_amount,
        receipt,
    })
}

fn at(n: u64) -> EntryId {
    EntryId { ms: 1_700_000_000_000, n }
}

/// A segment after `head`, with the records as they are.
fn segment(head: &Head, accepted: u64, settled: u64, lines: &[Line]) -> Encoded {
    let id = |n| if n == 0 { EntryId::ZERO } else { at(n) };
    let header = Header {
        format: FORMAT,
        number: head.number + 1,
        previous: head.root,
        created_at_ms: 1_700_000_000_000,
        source: Source { payee: PublicKey::of(&key(3)), prefix: "mr".to_owned(), partitions: 16 },
        positions: vec![Position { partition: 7, accepted: id(accepted), settled: id(settled) }],
    };
    let lines: Vec<Vec<u8>> = lines.iter().map(Line::to_json).collect();
    segment::encode(&header, lines.iter().map(Vec::as_slice), 3).expect("memory")
}

fn terms_line(salt: u64) -> Line {
    Line::Terms(TermsLine { channel_id: terms(salt).id(), terms: terms(salt) })
}

/// Three segments: two channels that pay, one of which is closed.
fn journal() -> Vec<Encoded> {
    let one = segment(&Head::NONE, 2, 0, &[terms_line(1), payment(1, 5, at(1)), payment(1, 9, at(2))]);
    let two = segment(
        &one.head,
        3,
        1,
        &[
            terms_line(2),
            payment(2, 4, at(3)),
            terms_line(1),
            payment(1, 12, at(3)),
            settlement(1, 12, 1, at(1)),
        ],
    );
    let three = segment(&two.head, 4, 1, &[terms_line(2), payment(2, 6, at(4))]);
    vec![one, two, three]
}

fn expect() -> Expect {
    Expect { issuer: usable_key(&PublicKey::of(&key(1))), root: None }
}

/// What is found in these segments, with the numbers that their names give them.
fn verify(segments: &[(u64, Vec<u8>)], expect: Expect) -> Report {
    let mut verifier = Verifier::new(expect);
    segments.iter().for_each(|(number, bytes)| verifier.segment(*number, bytes));
    verifier.finish()
}

fn numbered(journal: &[Encoded]) -> Vec<(u64, Vec<u8>)> {
    (1..).zip(journal.iter().map(|segment| segment.bytes.clone())).collect()
}

fn faults(segments: &[(u64, Vec<u8>)]) -> Vec<Fault> {
    verify(segments, expect()).faults
}

/// Asserts that exactly this is found.
fn assert_fault(segments: &[(u64, Vec<u8>)], number: u64, line: Option<u64>, words: &str) {
    let faults = faults(segments);
    assert!(
        faults
            .iter()
            .any(|fault| (fault.segment, fault.line) == (number, line) && fault.detail.contains(words)),
        "segment {number}, line {line:?}: {words:?} is not among {faults:?}"
    );
}

#[test]
fn a_journal_is_what_was_written() {
    let journal = journal();
    let report = verify(&numbered(&journal), expect());
    assert_eq!(report.faults, []);
    assert_eq!((report.segments, report.first, report.payments, report.proofs), (3, Some(1), 5, 5));
    assert_eq!((report.settlements, report.receipts, report.channels), (1, 1, 2));
    assert_eq!(report.head, Some((3, journal[2].head.root)));
}

#[test]
fn a_segment_is_lines_of_json_that_any_zstd_reads() {
    let text = zstd::decode_all(journal()[0].bytes.as_slice()).expect("a frame");
    let lines: Vec<serde_json::Value> = text
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds, ["header", "terms", "payment", "payment", "footer"]);
    assert_eq!(lines[2]["cumulative_amount"], "5");
    assert_eq!(lines[2]["entry"], "1700000000000-1");
    assert_eq!(lines[0]["positions"][0]["accepted"], "1700000000000-2");
}

#[test]
fn every_flipped_bit_is_found() {
    let journal = journal();
    let whole = numbered(&journal);
    for byte in 0..whole[1].1.len() {
        for bit in 0..8 {
            let mut spoilt = whole.clone();
            spoilt[1].1[byte] ^= 1 << bit;
            assert!(!faults(&spoilt).is_empty(), "bit {bit} of byte {byte}");
        }
    }
}

#[test]
fn a_segment_that_is_cut_off_anywhere_is_found() {
    let whole = numbered(&journal());
    for length in 0..whole[2].1.len() {
        let mut cut = whole.clone();
        cut[2].1.truncate(length);
        assert!(!faults(&cut).is_empty(), "cut to {length} bytes");
    }
}

#[test]
fn bytes_after_a_segment_are_found() {
    let mut longer = numbered(&journal());
    longer[0].1.push(0);
    assert!(!faults(&longer).is_empty());
    let mut twice = numbered(&journal());
    let again = twice[0].1.clone();
    twice[0].1.extend(again);
    twice[0].1 = segment::seal(std::mem::take(&mut twice[0].1));
    assert_fault(&twice, 1, Some(6), "a line after the footer");
}

#[test]
fn a_segment_that_is_missing_or_in_another_place_is_found() {
    let whole = numbered(&journal());
    assert_fault(&[whole[0].clone(), whole[2].clone()], 3, Some(1), "segment 2 is missing");
    let swapped = [whole[0].clone(), (2, whole[2].1.clone()), (3, whole[1].1.clone())];
    assert_fault(&swapped, 2, Some(1), "that of segment 3");
    // The oldest go by their age: what is left is checked, but for what builds on them.
    assert_eq!(faults(&whole[1..]), []);
    // The latest can only be missed by who knows the root.
    let journal = journal();
    let expecting = Expect { root: Some(journal[2].head.root), ..expect() };
    assert_eq!(verify(&whole, expecting).faults, []);
    assert_eq!(verify(&whole[..2], expecting).fault_count, 1);
    let earlier = Expect { root: Some(journal[0].head.root), ..expect() };
    assert_eq!(verify(&whole, earlier).faults, [], "a root from before still holds");
}

/// A segment whose text was changed and compressed anew, checksum, SHA-256 and all.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(zstd::decode_all(bytes).expect("a frame")).expect("a text");
    assert!(text.contains(from));
    let mut compressor = zstd::bulk::Compressor::new(3).expect("memory");
    compressor.include_checksum(true).expect("known");
    segment::seal(compressor.compress(text.replacen(from, to, 1).as_bytes()).expect("memory"))
}

#[test]
fn an_edited_line_is_found_though_its_checksum_is_right() {
    let journal = journal();
    let mut amount = numbered(&journal);
    amount[1].1 = edited(&amount[1].1, r#""cumulative_amount":"4""#, r#""cumulative_amount":"8""#);
    assert_fault(&amount, 2, Some(7), "the records have the root");
    assert_fault(&amount, 2, Some(3), "8 on channel");
    let mut time = numbered(&journal);
    time[1].1 = edited(&time[1].1, r#""created_at_ms":1700000000000"#, r#""created_at_ms":1600000000000"#);
    assert_fault(&time, 2, Some(7), "header and records give the root");
    let mut count = numbered(&journal);
    count[1].1 = edited(&count[1].1, r#""records":5"#, r#""records":4"#);
    assert_fault(&count, 2, Some(7), "counts 4 records");
}

#[test]
fn a_segment_that_was_written_anew_with_right_roots_does_not_fit_the_next_one() {
    let journal = journal();
    let mut whole = numbered(&journal);
    // Without its second payment, as if it had never been.
    whole[0].1 = segment(&Head::NONE, 1, 0, &[terms_line(1), payment(1, 5, at(1))]).bytes;
    assert_fault(&whole, 2, Some(1), "it builds on the root");
}

#[test]
fn what_a_dishonest_settler_would_write_is_found() {
    let one =
        |accepted, settled, lines: &[Line]| vec![(1, segment(&Head::NONE, accepted, settled, lines).bytes)];
    let falling = one(2, 0, &[terms_line(1), payment(1, 9, at(1)), payment(1, 5, at(2))]);
    assert_fault(&falling, 1, Some(4), "5 was accepted after 9");
    let twice = one(2, 0, &[terms_line(1), payment(1, 9, at(1)), payment(1, 9, at(2))]);
    assert_fault(&twice, 1, Some(4), "9 was accepted after 9");
    assert_fault(&one(1, 0, &[payment(1, 9, at(1))]), 1, Some(2), "no terms of this channel");
    let Line::Payment(mut forged) = payment(1, 9, at(1)) else { unreachable!("a payment") };
    forged.paid.proof[20] ^= 1;
    assert_fault(&one(1, 0, &[terms_line(1), Line::Payment(forged)]), 1, Some(3), "the proof does not check");
    let other = Line::Terms(TermsLine { channel_id: terms(1).id(), terms: terms(2) });
    assert_fault(&one(1, 0, &[other, payment(1, 9, at(1))]), 1, Some(2), "the terms are those of channel");
    let less = [terms_line(1), payment(1, 9, at(1)), settlement(1, 5, 1, at(1))];
    assert_fault(&one(1, 1, &less), 1, Some(4), "was settled for 5, and 9 was accepted");
    let forged = [terms_line(1), payment(1, 9, at(1)), settlement(1, 9, 2, at(1))];
    assert_fault(&one(1, 1, &forged), 1, Some(4), "the issuer did not sign");
    assert_fault(&one(9, 0, &[terms_line(1), payment(1, 9, at(1))]), 1, Some(1), "positions in its header");
    let first = segment(&Head::NONE, 1, 0, &[terms_line(1), payment(1, 9, at(1))]);
    let again = segment(&first.head, 1, 0, &[terms_line(2), payment(2, 9, at(1))]);
    assert_fault(&[(1, first.bytes), (2, again.bytes)], 2, Some(3), "does not come after");
}

#[test]
fn without_the_issuers_key_receipts_are_not_vouched_for() {
    let report = verify(&numbered(&journal()), Expect::default());
    assert_eq!((report.faults.len(), report.settlements, report.receipts), (0, 1, 0));
}

#[test]
fn the_documented_form_of_a_footer() {
    let footer = Footer { records: 2, records_root: Hash([0; 32]), root: segment::NO_ROOT };
    let text = String::from_utf8(Line::Footer(footer).to_json()).expect("a text");
    let zeros = "1".repeat(32);
    assert_eq!(text, format!(r#"{{"kind":"footer","records":2,"records_root":"{zeros}","root":"{zeros}"}}"#));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), lines in ".{0,200}") {
        let _ = segment::read(1, &bytes, |_, _, _| ());
        let text = segment::seal(zstd::encode_all(lines.as_bytes(), 1).expect("memory"));
        let mut verifier = Verifier::new(Expect::default());
        verifier.segment(1, &text);
        prop_assert!(verifier.finish().fault_count > 0);
    }
}
