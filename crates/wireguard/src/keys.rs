//! Keys: made, and the public one derived (Curve25519, RFC 7748).

use tombolo_net::wireguard::Key;
use x25519_dalek::{PublicKey, StaticSecret};

/// A new private key, clamped as `wg genkey` does (RFC 7748, section 5).
pub fn generate_private() -> Key {
    let mut bytes = StaticSecret::random().to_bytes();
    bytes[0] &= 0b1111_1000;
    bytes[31] = (bytes[31] & 0b0111_1111) | 0b0100_0000;
    Key(bytes)
}

/// A new pre-shared key: 32 random bytes, as of `wg genpsk`.
pub fn generate_preshared() -> Key {
    Key(StaticSecret::random().to_bytes())
}

/// The public key that belongs to a private one, as of `wg pubkey`.
pub fn public(private: &Key) -> Key {
    Key(PublicKey::from(&StaticSecret::from(private.0)).to_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_public_key_is_the_one_that_wg_pubkey_prints() {
        for (private, expected) in [
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk="),
            ("CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=", "V9tLNZ8jrl4Ubk4lEgVnBHIlBjSMFQwUdT0Mkz0E1CE="),
        ] {
            assert_eq!(public(&private.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn private_keys_are_clamped_and_differ() {
        let (one, two) = (generate_private(), generate_private());
        assert_ne!(one, two);
        assert_ne!(generate_preshared(), generate_preshared());
        for key in [one, two] {
            assert_eq!((key.0[0] & 7, key.0[31] & 0xc0), (0, 0x40));
        }
    }
}
