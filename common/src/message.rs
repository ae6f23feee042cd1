//! The exact bytes that each party signs. Every layout is fixed: integers little-endian, ids and keys raw.

use crate::amount::Amount;
use crate::ids::{ChannelId, Hash, PublicKey};

/// First bytes of a voucher message: a magic byte and the layout version.
const VOUCHER_HEAD: [u8; 2] = [0x56, 0x01];

/// Length of a voucher message in bytes.
pub const VOUCHER_LEN: usize = 50;

/// What the payer authorizer signs: `0x56 0x01 || channel_id[32] || u64le(cumulative_amount) || i64le(expires_at)`.
///
/// The layout is the one that Solana payment-channels, MPP sessions and the x402 `batch-settlement` scheme sign.
pub fn voucher(channel_id: &ChannelId, cumulative_amount: Amount, expires_at: i64) -> [u8; VOUCHER_LEN] {
    let mut message = [0u8; VOUCHER_LEN];
    message[..2].copy_from_slice(&VOUCHER_HEAD);
    message[2..34].copy_from_slice(channel_id.as_bytes());
    message[34..42].copy_from_slice(&cumulative_amount.units().to_le_bytes());
    message[42..].copy_from_slice(&expires_at.to_le_bytes());
    message
}

/// What the payer signs to open a channel: `"millrace:open:1" || channel_id[32]`.
pub fn open(channel_id: &ChannelId) -> Vec<u8> {
    [b"millrace:open:1".as_slice(), channel_id.as_bytes()].concat()
}

/// What payer or payee signs to ask for a close: `"millrace:close:1" || channel_id[32]`.
pub fn close_request(channel_id: &ChannelId) -> Vec<u8> {
    [b"millrace:close:1".as_slice(), channel_id.as_bytes()].concat()
}

/// What the payer signs to take back the deposit of an expired channel: `"millrace:refund:1" || channel_id[32]`.
pub fn refund(channel_id: &ChannelId) -> Vec<u8> {
    [b"millrace:refund:1".as_slice(), channel_id.as_bytes()].concat()
}

/// What the payee signs, so that no one else can settle:
/// `"millrace:settle:1" || channel_id[32] || u64le(cumulative_amount) || u8(close) || u64le(fencing_token)`.
pub fn settle(channel_id: &ChannelId, cumulative_amount: Amount, close: bool, fencing_token: u64) -> Vec<u8> {
    [
        b"millrace:settle:1".as_slice(),
        channel_id.as_bytes(),
        &cumulative_amount.units().to_le_bytes(),
        &[u8::from(close)],
        &fencing_token.to_le_bytes(),
    ]
    .concat()
}

/// What the payee, or a key that it has certified, signs when it has taken a payment:
/// `"millrace:payment:1" || channel_id[32] || u64le(cumulative_amount) || i64le(accepted_at_ms)`.
pub fn payment_receipt(channel_id: &ChannelId, cumulative_amount: Amount, accepted_at_ms: i64) -> Vec<u8> {
    [
        b"millrace:payment:1".as_slice(),
        channel_id.as_bytes(),
        &cumulative_amount.units().to_le_bytes(),
        &accepted_at_ms.to_le_bytes(),
    ]
    .concat()
}

/// What the payee signs so that another key may sign payment receipts for it, and nothing else:
/// `"millrace:receipt-key:1" || key[32] || i64le(expires_at)`.
pub fn receipt_key(key: &PublicKey, expires_at: i64) -> Vec<u8> {
    [b"millrace:receipt-key:1".as_slice(), key.as_bytes(), &expires_at.to_le_bytes()].concat()
}

/// What the issuer signs when money has moved:
/// `"millrace:receipt:1" || channel_id[32] || u64le(settled_amount) || u64le(refunded_amount) || u8(closed) ||
/// i64le(settled_at_ms)`.
pub fn receipt(
    channel_id: &ChannelId,
    settled_amount: Amount,
    refunded_amount: Amount,
    closed: bool,
    settled_at_ms: i64,
) -> Vec<u8> {
    [
        b"millrace:receipt:1".as_slice(),
        channel_id.as_bytes(),
        &settled_amount.units().to_le_bytes(),
        &refunded_amount.units().to_le_bytes(),
        &[u8::from(closed)],
        &settled_at_ms.to_le_bytes(),
    ]
    .concat()
}

/// What the issuer signs when it has settled a batch (see [`crate::batch`]):
/// `"millrace:batch:1" || root[32] || u64le(size) || i64le(settled_at_ms)`.
pub fn batch(root: &Hash, size: u64, settled_at_ms: i64) -> Vec<u8> {
    [b"millrace:batch:1".as_slice(), root.as_bytes(), &size.to_le_bytes(), &settled_at_ms.to_le_bytes()]
        .concat()
}
