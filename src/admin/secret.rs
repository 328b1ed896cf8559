//! A password or token as it is kept: never the text itself, and compared so that time tells nothing about it.
//!
//! The only file that names the hashing crates.

use std::fmt;

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// 256 bits of SHA-2.
pub type Fingerprint = [u8; 32];

/// Characters of a bcrypt hash: 7 for version and cost, 22 for the salt, 31 for the output.
const BCRYPT_LENGTH: usize = 60;

/// What a given secret is compared with.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// Was given in clear text.
    Plain(Fingerprint),
    /// A hash that takes tens of milliseconds to check, on purpose.
    Argon2(String),
    Bcrypt(String),
}

/// Digests are of one length, so that the length of a secret does not show either.
pub fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The digest of one text, for a Content-Security-Policy.
pub fn sha256(text: &str) -> Fingerprint {
    Sha256::digest(text.as_bytes()).into()
}

impl Stored {
    /// Keeps a secret, or its hash: what begins like a hash by argon2 or bcrypt has to be one.
    ///
    /// # Errors
    /// A broken hash; the sentence does not repeat it.
    pub fn new(text: &str) -> Result<Stored, String> {
        if text.starts_with("$argon2") {
            let broken = |why: &dyn fmt::Display| format!("a broken argon2 hash: {why}");
            let hash = PasswordHash::new(text).map_err(|error| broken(&error))?;
            argon2::Params::try_from(&hash).map_err(|error| broken(&error))?;
            if hash.salt.is_none() || hash.hash.is_none() {
                return Err(broken(&"it has no salt or no output"));
            }
            return Ok(Stored::Argon2(text.to_owned()));
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|begin| text.starts_with(begin)) {
            let whole = text.len() == BCRYPT_LENGTH && text.parse::<bcrypt::HashParts>().is_ok();
            if !whole {
                return Err("a broken bcrypt hash".to_owned());
            }
            return Ok(Stored::Bcrypt(text.to_owned()));
        }
        Ok(Stored::Plain(fingerprint(&[text.as_bytes()])))
    }

    /// Whether to keep it off a thread that others wait for.
    pub fn is_slow(&self) -> bool {
        !matches!(self, Stored::Plain(_))
    }

    pub fn matches(&self, given: &str) -> bool {
        match self {
            Stored::Plain(kept) => fingerprint(&[given.as_bytes()]).ct_eq(kept).into(),
            Stored::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok()),
            Stored::Bcrypt(hash) => bcrypt::verify(given, hash).unwrap_or(false),
        }
    }
}

/// A hash by bcrypt of a password, as `htpasswd -B` makes it; `None` for one that bcrypt would not take whole.
pub fn hash(password: &str) -> Option<String> {
    const MOST_BYTES: usize = 72;
    const COST: u32 = 10;
    let fits = password.len() < MOST_BYTES && !password.contains('\0');
    fits.then(|| bcrypt::hash(password, COST).ok()).flatten()
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::Stored;

    /// The hashes are by argon2's reference library, and from the test vectors of crypt_blowfish.
    #[test]
    fn only_the_secret_itself_matches() {
        for (kept, secret) in [
            ("open sesame", "open sesame"),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
                "password",
            ),
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
        ] {
            let stored = Stored::new(kept).expect("a secret");
            assert_eq!(stored.is_slow(), kept.starts_with('$'));
            assert!(stored.matches(secret), "{kept}");
            for wrong in ["", &secret[1..], &format!("{secret} "), &secret.to_uppercase().replace('U', "v")] {
                assert!(!stored.matches(wrong), "{kept} {wrong:?}");
            }
            assert!(!format!("{stored:?}").contains(secret), "a secret is not shown");
        }
        let made = super::hash("open sesame").expect("a hash");
        let stored = Stored::new(&made).expect("a secret");
        assert!(stored.is_slow() && stored.matches("open sesame") && !stored.matches("open"));
        assert_eq!(super::hash(&"x".repeat(72)), None);
        for broken in ["$argon2id$v=19$m=1,t=0,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub", "$argon2", "$2b$12$short"] {
            let error = Stored::new(broken).expect_err("a broken hash");
            assert!(!error.contains("$short") && !error.contains("RdescudvJ"), "{error}");
        }
    }
}
