use common::amount::Amount;
use common::channel::Terms;
use common::ids::{ChannelId, PublicKey};
use common::journal::line::Line;
use common::store::stream::{AcceptedPayment, Entry};
use common::testing::terms;

use super::super::records;
use super::*;

fn source() -> Source {
    Source { payee: PublicKey([1; 32]), prefix: "mr".to_owned(), partitions: 16 }
}

fn id(ms: u64) -> EntryId {
    EntryId { ms, n: 0 }
}

/// A batch with one payment an entry, of the channel with that salt.
fn batch(entries: &[(u16, u64, u64)]) -> Batch {
    let known: HashMap<ChannelId, Terms> = (1..4).map(|salt| (terms(salt).id(), terms(salt))).collect();
    let mut batch = Batch::default();
    for (partition, ms, salt) in entries {
        let channel_id = terms(*salt).id();
        let payment = AcceptedPayment { channel_id, amount: Amount::new(*ms), proof: vec![1] };
        let entry = Entry { id: id(*ms), payments: Ok(vec![payment]), followed: Vec::new() };
        batch.push(records::of_accepted(*partition, &entry, None, &known), &known);
    }
    batch
}

fn built(batch: &Batch, head: &Head) -> Option<(Encoded, Vec<String>)> {
    let encoded = build(batch, head, source(), 5).expect("memory")?;
    let mut lines = Vec::new();
    let read = segment::read(encoded.head.number, &encoded.bytes, |_, line, _| {
        lines.push(match line {
            Line::Terms(_) => "terms".to_owned(),
            Line::Payment(line) => format!("{}", line.paid.cumulative_amount),
            _ => "other".to_owned(),
        });
    });
    assert_eq!(read.expect("a segment").head(), encoded.head);
    Some((encoded, lines))
}

#[test]
fn terms_stand_once_above_the_first_payment_of_their_channel() {
    let (encoded, lines) =
        built(&batch(&[(3, 10, 1), (4, 11, 2), (3, 12, 1)]), &Head::NONE).expect("records");
    assert_eq!(lines, ["terms", "10", "terms", "11", "12"]);
    assert_eq!(encoded.records, 5);
    let reached: Vec<_> =
        encoded.head.positions.iter().map(|p| (p.partition, p.accepted, p.settled)).collect();
    assert_eq!(reached, [(3, id(12), EntryId::ZERO), (4, id(11), EntryId::ZERO)]);
}

#[test]
fn what_another_leader_has_journaled_is_left_out() {
    let batch = batch(&[(3, 10, 1), (4, 11, 2), (3, 12, 1)]);
    let position = |partition, ms| Position { partition, accepted: id(ms), settled: id(7) };
    let head = Head { number: 8, positions: vec![position(3, 10), position(4, 99)], ..Head::NONE };
    let (encoded, lines) = built(&batch, &head).expect("records");
    assert_eq!((lines, encoded.head.number), (vec!["terms".to_owned(), "12".to_owned()], 9));
    assert_eq!(
        encoded.head.positions,
        [position(3, 12), position(4, 99)],
        "no position is lost, and none falls"
    );
    let head = Head { number: 8, positions: vec![position(3, 12), position(4, 11)], ..Head::NONE };
    assert!(built(&batch, &head).is_none(), "nothing is left, so there is no segment");
}
