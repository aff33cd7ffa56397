//! Functions of ciphers: `aes_encrypt` and its kin, in Spark's modes and layout, and `hmac`.
//!
//! Errors name what is wrong and never a key or a text.

use super::native::{Call, Function, Param, Returns, external, invalid};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::aes::cipher::consts::{U12, U16};
use aes_gcm::aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{AesGcm, KeyInit, Nonce};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use headwater_proto::error::Error;
use hmac::{Hmac, Mac};
use rand::RngCore;

use Param::{Binary, Text};

const BLOCK: usize = 16;
/// Bytes of GCM's initialization vector.
const NONCE: usize = 12;

/// The functions.
pub fn functions() -> Vec<Function> {
    const BINARY: Returns = Returns::Type(|| DataType::Binary);
    vec![
        Function::new("aes_encrypt", &[Binary, Binary], BINARY, |call| {
            call.binary_rows(|i| {
                let given = |at: usize| if call.has(at) { call.binary(at).value(i) } else { &[] };
                encrypt(call.binary(0).value(i), call.binary(1).value(i), mode(call, i)?, given(4), given(5)).map(Some)
            })
        })
        .optional(&[Text, Text, Binary, Binary])
        // A vector of chance makes every call another.
        .volatile(),
        Function::new("aes_decrypt", &[Binary, Binary], BINARY, |call| decrypted(call, false))
            .optional(&[Text, Text, Binary]),
        Function::new("try_aes_decrypt", &[Binary, Binary], BINARY, |call| decrypted(call, true))
            .optional(&[Text, Text, Binary]),
        Function::new("hmac", &[Binary, Binary], BINARY, |call| {
            call.binary_rows(|i| {
                let name = if call.has(2) { call.text(2).value(i) } else { "SHA256" };
                authenticated(call.binary(0).value(i), call.binary(1).value(i), name).map(Some)
            })
        })
        .optional(&[Text]),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Gcm,
    Ecb,
    Cbc,
}

fn mode(call: &Call<'_>, i: usize) -> Result<Mode> {
    let text = |at: usize, default: &str| {
        if call.has(at) { call.text(at).value(i).to_ascii_uppercase() } else { default.to_string() }
    };
    let (mode, padding) = (text(2, "GCM"), text(3, "DEFAULT"));
    match (mode.as_str(), padding.as_str()) {
        ("GCM", "NONE" | "DEFAULT") => Ok(Mode::Gcm),
        ("ECB", "PKCS" | "DEFAULT") => Ok(Mode::Ecb),
        ("CBC", "PKCS" | "DEFAULT") => Ok(Mode::Cbc),
        _ => invalid(
            "UNSUPPORTED_FEATURE.AES_MODE",
            format!("AES-{mode} with the padding {padding} is not supported: use GCM, or CBC or ECB with PKCS"),
        ),
    }
}

fn decrypted(call: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    call.binary_rows(|i| {
        let aad = if call.has(4) { call.binary(4).value(i) } else { &[] };
        let plain = mode(call, i).and_then(|mode| decrypt(call.binary(0).value(i), call.binary(1).value(i), mode, aad));
        match plain {
            Ok(plain) => Ok(Some(plain)),
            Err(_) if lenient => Ok(None),
            Err(error) => Err(error),
        }
    })
}

/// AES of one of its three sizes.
enum Cipher {
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

/// Does the same with any of them.
macro_rules! any {
    ($cipher:expr, $one:ident => $do:expr) => {
        match $cipher {
            Cipher::Aes128($one) => $do,
            Cipher::Aes192($one) => $do,
            Cipher::Aes256($one) => $do,
        }
    };
}

impl Cipher {
    fn of(key: &[u8]) -> Result<Self> {
        let made = match key.len() {
            16 => Aes128::new_from_slice(key).map(Self::Aes128),
            24 => Aes192::new_from_slice(key).map(Self::Aes192),
            32 => Aes256::new_from_slice(key).map(Self::Aes256),
            length => {
                return invalid(
                    "INVALID_PARAMETER_VALUE.AES_KEY_LENGTH",
                    format!("expects a key of 16, 24 or 32 bytes, but got {length} bytes"),
                );
            }
        };
        made.map_err(|_| failed("the key cannot be used"))
    }

    /// With authentication; `data` is a text, or a cipher and its tag.
    fn gcm(self, encrypt: bool, nonce: &[u8], data: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
        let Ok(nonce) = <&Nonce<U12>>::try_from(nonce) else { return Err(failed("the input has no whole vector")) };
        let payload = Payload { msg: data, aad };
        let done = any!(self, one => {
            let cipher = AesGcm::<_, U12, U16>::from(one);
            if encrypt { cipher.encrypt(nonce, payload) } else { cipher.decrypt(nonce, payload) }
        });
        done.map_err(|_| failed("the tag does not fit: another key, another AAD or other bytes"))
    }

    /// Block after block; with a vector each is chained to the one before.
    fn encrypt_blocks(&self, data: &mut [u8], vector: Option<&[u8]>) {
        let mut before: Option<Vec<u8>> = vector.map(<[u8]>::to_vec);
        for block in data.chunks_exact_mut(BLOCK) {
            if let Some(before) = &before {
                block.iter_mut().zip(before).for_each(|(byte, other)| *byte ^= other);
            }
            any!(self, one => apply(one, block, |one, block| one.encrypt_block(block)));
            if let Some(before) = &mut before {
                before.copy_from_slice(block);
            }
        }
    }

    /// The reverse.
    fn decrypt_blocks(&self, data: &mut [u8], vector: Option<&[u8]>) {
        let mut before: Option<Vec<u8>> = vector.map(<[u8]>::to_vec);
        for block in data.chunks_exact_mut(BLOCK) {
            let own = block.to_vec();
            any!(self, one => apply(one, block, |one, block| one.decrypt_block(block)));
            if let Some(before) = &mut before {
                block.iter_mut().zip(before.iter()).for_each(|(byte, other)| *byte ^= other);
                *before = own;
            }
        }
    }
}

fn apply<C: BlockSizeUser>(cipher: &C, bytes: &mut [u8], f: impl Fn(&C, &mut Block<C>)) {
    if let Ok(block) = <&mut Block<C>>::try_from(bytes) {
        f(cipher, block);
    }
}

fn failed(why: &str) -> DataFusionError {
    external(Error::invalid("INVALID_PARAMETER_VALUE.AES_CRYPTO_ERROR", format!("the cipher failed: {why}")))
}

/// The vector and what is encrypted with it; a vector of chance where none is given.
fn encrypt(text: &[u8], key: &[u8], mode: Mode, vector: &[u8], aad: &[u8]) -> Result<Vec<u8>> {
    let cipher = Cipher::of(key)?;
    if mode == Mode::Ecb && !vector.is_empty() {
        return invalid("UNSUPPORTED_FEATURE.AES_MODE_IV", "AES-ECB takes no initialization vector (IV)");
    }
    if mode != Mode::Gcm && !aad.is_empty() {
        return invalid("UNSUPPORTED_FEATURE.AES_MODE_AAD", "only AES-GCM takes additional authenticated data (AAD)");
    }
    let wanted = match mode {
        Mode::Gcm => NONCE,
        Mode::Cbc => BLOCK,
        Mode::Ecb => 0,
    };
    let mut out = vector.to_vec();
    if vector.is_empty() {
        out = vec![0; wanted];
        rand::rng().fill_bytes(&mut out);
    } else if vector.len() != wanted {
        return invalid(
            "INVALID_PARAMETER_VALUE.AES_IV_LENGTH",
            format!("expects an initialization vector of {wanted} bytes, but got {} bytes", vector.len()),
        );
    }
    if mode == Mode::Gcm {
        let sealed = cipher.gcm(true, &out, text, aad)?;
        out.extend(sealed);
        return Ok(out);
    }
    // PKCS: as many bytes as are missing to whole blocks, each of them that number.
    let missing = BLOCK - text.len() % BLOCK;
    let mut data = text.to_vec();
    data.resize(text.len() + missing, missing as u8);
    cipher.encrypt_blocks(&mut data, (mode == Mode::Cbc).then_some(out.as_slice()));
    out.extend(data);
    Ok(out)
}

fn decrypt(data: &[u8], key: &[u8], mode: Mode, aad: &[u8]) -> Result<Vec<u8>> {
    let cipher = Cipher::of(key)?;
    if mode != Mode::Gcm && !aad.is_empty() {
        return invalid("UNSUPPORTED_FEATURE.AES_MODE_AAD", "only AES-GCM takes additional authenticated data (AAD)");
    }
    let head = match mode {
        Mode::Gcm => NONCE,
        Mode::Cbc => BLOCK,
        Mode::Ecb => 0,
    };
    let Some((vector, sealed)) = data.split_at_checked(head) else {
        return Err(failed("the input is shorter than its initialization vector"));
    };
    if mode == Mode::Gcm {
        return cipher.gcm(false, vector, sealed, aad);
    }
    if sealed.len() % BLOCK != 0 {
        return Err(failed("the input is not of whole blocks"));
    }
    let mut plain = sealed.to_vec();
    cipher.decrypt_blocks(&mut plain, (mode == Mode::Cbc).then_some(vector));
    let padding = plain.last().map_or(0, |last| usize::from(*last));
    let whole = plain.len().saturating_sub(padding);
    if !plain.is_empty()
        && (padding == 0 || padding > BLOCK || plain[whole..].iter().any(|byte| usize::from(*byte) != padding))
    {
        return Err(failed("the padding is wrong: another key or other bytes"));
    }
    plain.truncate(whole);
    Ok(plain)
}

fn authenticated(key: &[u8], message: &[u8], name: &str) -> Result<Vec<u8>> {
    macro_rules! with {
        ($digest:ty) => {{
            let Ok(mut mac) = <Hmac<$digest> as hmac::KeyInit>::new_from_slice(key) else {
                return Err(failed("the key cannot be used"));
            };
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    Ok(match name.to_ascii_uppercase().replace('-', "").as_str() {
        "SHA224" => with!(sha2::Sha224),
        "SHA256" => with!(sha2::Sha256),
        "SHA384" => with!(sha2::Sha384),
        "SHA512" => with!(sha2::Sha512),
        _ => {
            return invalid(
                "INVALID_PARAMETER_VALUE.HMAC_ALGORITHM",
                format!("`hmac` has no algorithm {name:?}: use SHA224, SHA256, SHA384 or SHA512"),
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_comes_back() {
        for key in [&[1_u8; 16][..], &[2; 24], &[3; 32]] {
            for mode in [Mode::Gcm, Mode::Ecb, Mode::Cbc] {
                for text in [&b""[..], b"Spark", &[7; 16], &[9; 33]] {
                    let sealed = encrypt(text, key, mode, &[], &[]).expect("a cipher");
                    assert_eq!(decrypt(&sealed, key, mode, &[]).expect("the text"), text, "{mode:?}");
                }
            }
        }
    }

    #[test]
    fn what_was_changed_is_refused() {
        let key = [1; 16];
        let mut sealed = encrypt(b"Spark", &key, Mode::Gcm, &[], b"aad").expect("a cipher");
        assert!(decrypt(&sealed, &key, Mode::Gcm, b"other").is_err());
        sealed[20] ^= 1;
        let error = decrypt(&sealed, &key, Mode::Gcm, b"aad").expect_err("is refused").to_string();
        assert!(error.contains("AES_CRYPTO_ERROR"), "{error}");
        assert!(decrypt(&[0; 3], &key, Mode::Gcm, &[]).is_err());
        assert!(decrypt(&[0; 17], &key, Mode::Ecb, &[]).is_err());
    }
}
