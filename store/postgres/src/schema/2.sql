-- Version 2: many daemons. Version 1 was never used by a daemon, so what it had alone may go.

-- A daemon that takes part. Its lease is by the database's clock.
CREATE TABLE @.seats (
  seat int2 PRIMARY KEY,
  -- Grows with each start of a daemon on this seat.
  incarnation int8 NOT NULL,
  -- The daemon's data directory: a daemon that starts again knows that its predecessor is gone.
  daemon uuid NOT NULL UNIQUE,
  version text NOT NULL,
  -- The newest schema that it knows.
  schema int4 NOT NULL,
  -- Where other daemons reach it.
  address text,
  -- The certificate that it shows there.
  certificate bytea,
  lease_until timestamptz NOT NULL,
  -- Whether others have taken over from it, or it has left.
  fenced bool NOT NULL DEFAULT false
) WITH (fillfactor = 20);

-- A shard is the organizations whose names have this first byte of MD5. One daemon decides about it at a time.
CREATE TABLE @.shards (
  shard int2 PRIMARY KEY,
  owner int2,
  epoch int8 NOT NULL DEFAULT 0,
  -- `endpoint_states` has the sequence numbers of all its events up to this one.
  states_upto uuid NOT NULL,
  -- Whether its owner has read it. Until then `states_upto` is its former owner's.
  adopted bool NOT NULL DEFAULT false,
  -- Attempts of an owner that was fenced have ended by then.
  rests_until timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 50);
INSERT INTO @.shards (shard, states_upto) SELECT n, (SELECT states_upto FROM @.lanes WHERE lane = 0) FROM generate_series(0, 255) n;

CREATE OR REPLACE FUNCTION @.shard_of(organization text) RETURNS int2 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ((strpos('0123456789abcdef', substr(md5(organization), 1, 1)) - 1) * 16
         + strpos('0123456789abcdef', substr(md5(organization), 2, 1)) - 1)::int2
$$;

ALTER TABLE @.endpoints ADD COLUMN shard int2;
UPDATE @.endpoints SET shard = @.shard_of(organization);
ALTER TABLE @.endpoints ALTER COLUMN shard SET NOT NULL;
CREATE INDEX endpoints_shard ON @.endpoints (shard);

-- Numbers of endpoints are given by all daemons, so they are counted in one place.
ALTER TABLE @.meta ADD COLUMN next_slot int4 NOT NULL DEFAULT 0;
UPDATE @.meta SET next_slot = (SELECT max(next_slot) FROM @.lanes);
ALTER TABLE @.lanes DROP COLUMN next_slot;
-- Daemons show it to each other.
ALTER TABLE @.meta ADD COLUMN cluster_token bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());

-- Ended deliveries of events accepted before this are gone.
ALTER TABLE @.lanes ADD COLUMN deliveries_swept_before_ms int8 NOT NULL DEFAULT 0;

-- The sums over all endpoints are one row for each lane: -1 is that of lane 0.
UPDATE @.windows SET slot = -1 WHERE slot = 4294967295;
