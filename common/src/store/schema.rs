//! The version of what is written to Redis. It stands in `mr:meta`, and not in the program: a process writes what the oldest
//! version among all that run can read, until an operator says that the last of those has gone (`millrace upgrade`). See
//! docs/adr/0009-rolling-upgrade.md.

use std::sync::atomic::{AtomicU16, Ordering};

use fred::interfaces::HashesInterface;

use super::{Store, StoreError};

/// The newest schema: what a first start on an empty Redis writes, and what [`Store::raise_schema`] raises to.
pub const NEWEST: u16 = 3;

/// The oldest schema that this version reads and writes.
pub const OLDEST: u16 = 1;

/// From this one on an entry may name channels of other partitions than its stream's. Before it, an accept call writes an
/// entry for each partition: settlers of that time look for an entry's channels in its own.
pub(super) const SHARED_ENTRIES: u16 = 2;

/// From this one on an entry may name those of its payments that are followed (see [`super::followed`]). Settlers of before
/// take that field for a payment that they cannot read, and give up on the entry.
pub(super) const TRAILS: u16 = 3;

/// The schema that Redis was last seen to have; the oldest one before it was looked at, as everyone can read that.
#[derive(Debug)]
pub(super) struct InEffect(AtomicU16);

impl Default for InEffect {
    fn default() -> Self {
        InEffect(AtomicU16::new(OLDEST))
    }
}

/// Why a schema cannot be worked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) found: String,
    pub(super) remedy: &'static str,
}

/// The schema that `mr:meta` names, if this version can work with it.
fn understood(text: Option<&str>) -> Result<u16, Unfit> {
    let reads = format!("this version works with {OLDEST} to {NEWEST}");
    let Some(text) = text else {
        return Err(Unfit { found: format!("no schema; {reads}"), remedy: "see docs/RECOVERY.md" });
    };
    let found = format!("schema {text}; {reads}");
    match text.parse::<u16>() {
        Ok(schema) if (OLDEST..=NEWEST).contains(&schema) => Ok(schema),
        Ok(schema) if schema < OLDEST => Err(Unfit {
            found,
            remedy: "first upgrade to a version that works with both, and run `millrace upgrade`",
        }),
        // No number is of a version that nobody has thought of yet.
        Ok(_) | Err(_) => Err(Unfit {
            found,
            remedy: "run the version of Millrace that it was upgraded for, or a newer one; there is no way back",
        }),
    }
}

impl Store {
    /// The schema in effect, as last seen.
    pub fn schema(&self) -> u16 {
        self.inner.schema.0.load(Ordering::Relaxed)
    }

    /// Goes by what `mr:meta` says from now on.
    pub(super) fn note_schema(&self, text: Option<&str>) -> Result<u16, Unfit> {
        let schema = understood(text)?;
        let before = self.inner.schema.0.swap(schema, Ordering::Relaxed);
        if before != schema {
            tracing::info!(schema, "this schema is in effect");
        }
        Ok(schema)
    }

    /// Reads which schema is in effect, and goes by it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if Redis cannot be asked; [`StoreError::Corrupt`] for one that this version does not
    /// work with.
    pub async fn look_at_schema(&self) -> Result<u16, StoreError> {
        let meta = self.keys().meta();
        let found: Vec<Option<String>> =
            self.client(0)?.hmget(&meta, "schema").await.map_err(|e| StoreError::of_read(&e))?;
        let found = found.into_iter().flatten().next();
        self.note_schema(found.as_deref())
            .map_err(|unfit| StoreError::corrupt(meta, format!("{}; {}", unfit.found, unfit.remedy)))
    }

    /// Has everyone write the newest schema from their next look at Redis on. Who does not know it refuses to go on. There
    /// is no way back. Answers with the schema before.
    ///
    /// # Errors
    /// As [`Store::look_at_schema`]; calling it again is safe.
    pub async fn raise_schema(&self) -> Result<u16, StoreError> {
        let before = self.look_at_schema().await?;
        if before < NEWEST {
            let _: i64 = self
                .client(0)?
                .hset(self.keys().meta(), ("schema", NEWEST.to_string()))
                .await
                .map_err(|e| StoreError::after_send(&e))?;
            self.look_at_schema().await?;
        }
        Ok(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_or_too_new_is_refused_with_what_to_do() {
        for schema in OLDEST..=NEWEST {
            assert_eq!(understood(Some(&schema.to_string())), Ok(schema));
        }
        let remedy = |text| understood(text).expect_err("refused").remedy;
        assert!(remedy(Some("0")).contains("first upgrade"));
        assert!(
            remedy(Some("4")).contains("or a newer one") && remedy(Some("1.5")).contains("or a newer one")
        );
        assert!(remedy(None).contains("RECOVERY"));
        assert!(understood(Some("4")).expect_err("refused").found.contains("works with 1 to 3"));
    }
}
