-- Commitments of payment schemes, each for one channel: whoever learned a proof on one could pay with it on another.
CREATE TABLE commitments (
    root       BLOB PRIMARY KEY CHECK (length(root) = 32),
    channel_id BLOB NOT NULL REFERENCES channels (channel_id)
) STRICT, WITHOUT ROWID;
