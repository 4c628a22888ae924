-- Moves from and to another store.

-- Whether an import has begun that has not ended. No daemon takes a seat then.
ALTER TABLE @.meta ADD COLUMN importing bool NOT NULL DEFAULT false;
-- Where the store was moved to. No daemon takes a seat then.
ALTER TABLE @.meta ADD COLUMN moved_to text;
