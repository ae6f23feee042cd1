//! The one signature check of Millrace, for vouchers and for everything else that is signed: Ed25519 as RFC 8032 has it,
//! without cofactor, refusing keys and nonces of small order, so that whatever one party takes every other takes.
//!
//! It accepts exactly what `ed25519_dalek`'s own strict check accepts, for about a sixth less. Write `(R, s)` for the
//! signature and `A` for the key. Both checks refuse an `s` that is not below the group's order, compute
//! `R' = s·B − H(R, A, message)·A`, and ask that the encoding of `R'` be, byte for byte, the `R` that was sent. The strict
//! check also decodes `R`, which takes a square root, to refuse what is no point, and refuses an `R` or an `A` of small
//! order. But an `R` that equals the encoding of `R'` is the one canonical encoding of a point: it decodes, and it is of
//! small order exactly if it is the canonical encoding of one of the eight such points, which comparing with these eight
//! finds out. Of the key it is asked once, when it is decoded: a [`UsableKey`] is not of small order.

use std::sync::LazyLock;

use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Verifier as _, VerifyingKey};

use crate::ids::{PublicKey, Signature};

/// The canonical encodings of the points of small order.
static SMALL_ORDER: LazyLock<[[u8; 32]; 8]> =
    LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));

/// A public key that signatures can be checked with: a point of the curve, not of small order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsableKey(VerifyingKey);

/// Decodes a public key, refusing what is no point of the curve or of small order: a signature of such a key can fit
/// several messages. Costs about a third of a signature check, so whoever checks more than one keeps it.
pub fn usable_key(key: &PublicKey) -> Option<UsableKey> {
    VerifyingKey::from_bytes(key.as_bytes()).ok().filter(|key| !key.is_weak()).map(UsableKey)
}

/// True if `signature` is one of `key` for `message`.
pub fn verify_strict(key: &UsableKey, message: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    key.0.verify(message, &signature).is_ok() && !SMALL_ORDER.contains(signature.r_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
    use curve25519_dalek::scalar::Scalar;
    use proptest::prelude::*;
    use sha2::{Digest, Sha512};

    /// What the library's own strict check says of the same.
    fn by_the_library(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(key.as_bytes()).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature.as_bytes())).is_ok()
        })
    }

    /// What ours says.
    fn by_us(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        usable_key(key).is_some_and(|key| verify_strict(&key, message, signature))
    }

    fn scalar(seed: u8) -> Scalar {
        Scalar::from_bytes_mod_order([seed; 32])
    }

    /// A signature by whoever knows `a` and `r`, for the key and nonce as they are sent, torsion and all.
    fn forge(a: Scalar, key: [u8; 32], r: Scalar, nonce: [u8; 32], message: &[u8]) -> Signature {
        let hash = Sha512::new().chain_update(nonce).chain_update(key).chain_update(message).finalize();
        let s = r + Scalar::from_bytes_mod_order_wide(&hash.into()) * a;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&nonce);
        bytes[32..].copy_from_slice(s.as_bytes());
        Signature(bytes)
    }

    fn add_to_s(signature: &Signature, addend: [u8; 32]) -> Signature {
        let mut bytes = signature.0;
        let mut carry = 0u16;
        for (byte, add) in bytes[32..].iter_mut().zip(addend) {
            carry = carry.wrapping_add(u16::from(*byte)).wrapping_add(u16::from(add));
            [*byte, _] = carry.to_le_bytes();
            carry >>= 8;
        }
        Signature(bytes)
    }

    /// The order of the group, little-endian.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];

    /// Every encoding, canonical or not, of a point whose y is below 19: y itself, y + p, and both signs of x.
    fn encodings_of_small_y() -> Vec<[u8; 32]> {
        let mut all = Vec::new();
        for y in 0..19u8 {
            let mut canonical = [0; 32];
            canonical[0] = y;
            let mut beyond = [0xff; 32];
            (beyond[0], beyond[31]) = (0xed_u8.wrapping_add(y), 0x7f);
            for mut encoding in [canonical, beyond] {
                all.push(encoding);
                encoding[31] |= 0x80;
                all.push(encoding);
            }
        }
        all
    }

    #[test]
    fn keys_and_nonces_with_torsion_are_judged_as_the_library_does() {
        let (mut taken, mut refused) = (0, 0);
        for (a, r) in [(0, 0), (0, 3), (2, 0), (2, 3)].map(|(a, r)| (scalar(a), scalar(r))) {
            for (torsion_of_key, torsion_of_nonce) in
                EIGHT_TORSION.iter().flat_map(|key| EIGHT_TORSION.iter().map(move |nonce| (key, nonce)))
            {
                let key = (EdwardsPoint::mul_base(&a) + torsion_of_key).compress().to_bytes();
                let nonce = (EdwardsPoint::mul_base(&r) + torsion_of_nonce).compress().to_bytes();
                // The equation without cofactor holds for one message in eight, or more often.
                for message in 0..24u8 {
                    let signature = forge(a, key, r, nonce, &[message]);
                    for signature in [signature, add_to_s(&signature, ORDER)] {
                        let theirs = by_the_library(&PublicKey(key), &[message], &signature);
                        assert_eq!(by_us(&PublicKey(key), &[message], &signature), theirs);
                        if theirs { taken += 1 } else { refused += 1 }
                    }
                }
            }
        }
        assert!(taken > 100 && refused > 1_000, "{taken} taken, {refused} refused");
    }

    #[test]
    fn encodings_that_are_not_canonical_are_judged_as_the_library_does() {
        let a = scalar(2);
        let honest = EdwardsPoint::mul_base(&a).compress().to_bytes();
        let torsion = EIGHT_TORSION.map(|point| point.compress().to_bytes());
        for odd in encodings_of_small_y().into_iter().chain(torsion) {
            for message in 0..8u8 {
                for (key, nonce) in [(honest, odd), (odd, honest), (odd, odd)] {
                    for (a, r) in [(a, Scalar::ZERO), (Scalar::ZERO, a), (Scalar::ZERO, Scalar::ZERO)] {
                        let signature = forge(a, key, r, nonce, &[message]);
                        let theirs = by_the_library(&PublicKey(key), &[message], &signature);
                        assert_eq!(by_us(&PublicKey(key), &[message], &signature), theirs);
                    }
                }
            }
        }
    }

    #[test]
    fn a_nonce_of_small_order_is_refused_although_the_plain_check_takes_it() {
        let (a, nonce) = (scalar(2), EIGHT_TORSION[0].compress().to_bytes());
        let key = PublicKey(EdwardsPoint::mul_base(&a).compress().to_bytes());
        let signature = forge(a, key.0, Scalar::ZERO, nonce, b"message");
        let usable = usable_key(&key).expect("an honest key");
        let plain = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        assert!(usable.0.verify(b"message", &plain).is_ok(), "the plain check takes it");
        assert!(!verify_strict(&usable, b"message", &signature));
    }

    #[test]
    fn the_eight_encodings_are_those_of_points_of_small_order() {
        for encoding in *SMALL_ORDER {
            let point = CompressedEdwardsY(encoding).decompress().expect("a point");
            assert!(point.is_small_order());
            assert_eq!(point.compress().to_bytes(), encoding, "canonical");
        }
        let mut different = SMALL_ORDER.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 8);
    }

    proptest! {
        #[test]
        fn tampered_signatures_are_judged_as_the_library_does(
            seed in any::<[u8; 32]>(),
            message in proptest::collection::vec(any::<u8>(), 0..64),
            flip in proptest::option::of((0usize..128, 0u8..8)),
        ) {
            let signing = ed25519_dalek::SigningKey::from_bytes(&seed);
            let mut key = PublicKey::of(&signing);
            let mut signature = Signature::of(&signing, &message);
            match flip {
                Some((byte, bit)) if byte < 64 => signature.0[byte] ^= 1 << bit,
                Some((byte, bit)) if byte < 96 => key.0[byte - 64] ^= 1 << bit,
                _ => {}
            }
            let theirs = by_the_library(&key, &message, &signature);
            prop_assert_eq!(by_us(&key, &message, &signature), theirs);
            prop_assert_eq!(theirs, flip.is_none_or(|(byte, _)| byte >= 96));
        }
    }
}
