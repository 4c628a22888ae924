-- The SHA-256 digest of the token of callers over TCP, which is one for all daemons. None until a daemon has made one.
ALTER TABLE @.meta ADD COLUMN admin_token_digest bytea;
