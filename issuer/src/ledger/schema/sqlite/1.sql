-- Amounts and fencing tokens: 8 bytes, unsigned, big-endian. Keys and ids: raw bytes. Times: ms since 1970.

CREATE TABLE issuer (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32)
) STRICT;

-- Registered keys.
CREATE TABLE parties (
    public_key            BLOB PRIMARY KEY CHECK (length(public_key) = 32),
    highest_fencing_token BLOB NOT NULL DEFAULT x'0000000000000000' CHECK (length(highest_fencing_token) = 8),
    registered_at_ms      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where money can be. `owner` is a party's key, a channel's id, or nothing for the issuance of an asset.
-- An issuance's `balance` is what was ever issued (its true balance is that, negative); any other is what is there.
-- `locked` of a party repeats what its open channels hold in escrow, so that it can be read at once.
CREATE TABLE accounts (
    id      INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL CHECK (kind IN ('issuance', 'party', 'escrow')),
    owner   BLOB NOT NULL CHECK (length(owner) = CASE kind WHEN 'issuance' THEN 0 ELSE 32 END),
    asset   TEXT NOT NULL,
    balance BLOB NOT NULL DEFAULT x'0000000000000000' CHECK (length(balance) = 8),
    locked  BLOB NOT NULL DEFAULT x'0000000000000000' CHECK (length(locked) = 8),
    UNIQUE (kind, owner, asset)
) STRICT;

CREATE TABLE channels (
    channel_id      BLOB PRIMARY KEY CHECK (length(channel_id) = 32),
    payer           BLOB NOT NULL REFERENCES parties (public_key),
    payee           BLOB NOT NULL REFERENCES parties (public_key),
    terms           TEXT NOT NULL,
    status          TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed', 'refunded')),
    settled_amount  BLOB NOT NULL DEFAULT x'0000000000000000' CHECK (length(settled_amount) = 8),
    refunded_amount BLOB NOT NULL DEFAULT x'0000000000000000' CHECK (length(refunded_amount) = 8),
    settled         TEXT,
    receipt         TEXT,
    opened_at_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX channels_of_payer ON channels (payer, channel_id);
CREATE INDEX channels_of_payee ON channels (payee, channel_id);

-- Receipts as they were answered, byte for byte.
CREATE TABLE settlements (
    channel_id        BLOB NOT NULL REFERENCES channels (channel_id),
    cumulative_amount BLOB NOT NULL CHECK (length(cumulative_amount) = 8),
    close             INTEGER NOT NULL CHECK (close IN (0, 1)),
    fencing_token     BLOB NOT NULL CHECK (length(fencing_token) = 8),
    receipt           TEXT NOT NULL,
    PRIMARY KEY (channel_id, cumulative_amount, close)
) STRICT, WITHOUT ROWID;

-- What moved money, and each movement. Written once, never changed.
CREATE TABLE operations (
    id         INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('issue', 'open', 'settle', 'refund')),
    at_ms      INTEGER NOT NULL
) STRICT;
CREATE TABLE postings (
    id           INTEGER PRIMARY KEY,
    operation_id INTEGER NOT NULL REFERENCES operations (id),
    from_account INTEGER NOT NULL REFERENCES accounts (id),
    to_account   INTEGER NOT NULL REFERENCES accounts (id) CHECK (to_account <> from_account),
    asset        TEXT NOT NULL,
    amount       BLOB NOT NULL CHECK (length(amount) = 8 AND amount > x'0000000000000000')
) STRICT;
CREATE TRIGGER operations_are_not_changed BEFORE UPDATE ON operations BEGIN SELECT RAISE(ABORT, 'history is fixed'); END;
CREATE TRIGGER operations_are_not_removed BEFORE DELETE ON operations BEGIN SELECT RAISE(ABORT, 'history is fixed'); END;
CREATE TRIGGER postings_are_not_changed BEFORE UPDATE ON postings BEGIN SELECT RAISE(ABORT, 'history is fixed'); END;
CREATE TRIGGER postings_are_not_removed BEFORE DELETE ON postings BEGIN SELECT RAISE(ABORT, 'history is fixed'); END;
