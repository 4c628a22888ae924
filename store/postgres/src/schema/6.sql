-- Secrets at rest.

-- The form of the private parts of endpoints: `plain`, or the id of the key that they are encrypted with.
ALTER TABLE @.meta ADD COLUMN secrets_form text NOT NULL DEFAULT 'plain';
-- The form that some still have, while all are rewritten.
ALTER TABLE @.meta ADD COLUMN secrets_before text;
-- The form of each of them.
ALTER TABLE @.endpoints ADD COLUMN secrets_form text NOT NULL DEFAULT 'plain';
