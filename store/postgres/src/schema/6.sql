-- Callers: API keys, and the audit log. Secrets at rest.

-- A key is never changed but in that it was used or revoked, each of which only moves on: daemons may write it at the same
-- time.
CREATE TABLE @.api_keys (
  id uuid PRIMARY KEY,
  -- The SHA-256 digest of the key.
  digest bytea NOT NULL UNIQUE,
  expires_ms int8,
  revoked_ms int8,
  last_used_ms int8,
  record bytea NOT NULL
) WITH (fillfactor = 50);
-- Grows whenever a key is created or revoked, so that daemons know when to read them again.
ALTER TABLE @.meta ADD COLUMN api_keys_revision int8 NOT NULL DEFAULT 0;

CREATE TABLE @.audit (
  id uuid PRIMARY KEY,
  organization text,
  target text,
  record bytea NOT NULL
);
CREATE INDEX audit_organization ON @.audit (organization, id);
CREATE INDEX audit_target ON @.audit (target, id);

-- The form of the private parts of endpoints: `plain`, or the id of the key that they are encrypted with.
ALTER TABLE @.meta ADD COLUMN secrets_form text NOT NULL DEFAULT 'plain';
-- The form that some still have, while all are rewritten.
ALTER TABLE @.meta ADD COLUMN secrets_before text;
-- The form of each of them.
ALTER TABLE @.endpoints ADD COLUMN secrets_form text NOT NULL DEFAULT 'plain';
