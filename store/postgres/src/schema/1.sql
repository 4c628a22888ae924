-- Version 1 of the schema. `@` stands for the name of the schema.
CREATE SCHEMA IF NOT EXISTS @;

-- The version of the schema.
CREATE TABLE @.meta (
  one bool PRIMARY KEY DEFAULT true CHECK (one),
  version int4 NOT NULL
);

-- A lane is a stream of commits. Each commit is fenced: it changes `commit_no` from the number before it, or fails.
CREATE TABLE @.lanes (
  lane int2 PRIMARY KEY,
  incarnation int8 NOT NULL,
  commit_no int8 NOT NULL,
  last_event uuid NOT NULL,
  last_stamp int8 NOT NULL,
  next_slot int4 NOT NULL,
  next_bulk int8 NOT NULL,
  paced_ms int8 NOT NULL,
  swept_before_ms int8 NOT NULL,
  -- `endpoint_states` has the sequence numbers of all events up to this one; those of later events are in the events.
  states_upto uuid NOT NULL,
  -- The counters of the current minute, the current hour and all time: a record.
  counters bytea NOT NULL
) WITH (fillfactor = 10);

CREATE TABLE @.endpoints (
  slot int4 PRIMARY KEY,
  id uuid NOT NULL UNIQUE,
  organization text NOT NULL,
  url text NOT NULL,
  active bool NOT NULL,
  deleted bool NOT NULL,
  record bytea NOT NULL
);

CREATE TABLE @.endpoint_states (
  slot int4 PRIMARY KEY,
  last_sequence int8 NOT NULL,
  failure_count int4 NOT NULL,
  failing_since_ms int8,
  last_success_at_ms int8
) WITH (fillfactor = 50);

-- What an endpoint receives from an event on.
CREATE TABLE @.revisions (
  slot int4 NOT NULL,
  from_event uuid NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (slot, from_event)
);

-- Append-only; a partition for each day of acceptance, each with PRIMARY KEY (id).
CREATE TABLE @.events (
  occurred_ms int8 NOT NULL,
  id uuid NOT NULL,
  occurred_text int8,
  deliveries int4 NOT NULL,
  organization text NOT NULL,
  type text NOT NULL,
  key text,
  -- The deliveries of the event: slot (4 bytes) and sequence number (8 bytes), big-endian, of each.
  targets bytea NOT NULL,
  data bytea
) PARTITION BY RANGE (id);

-- Open deliveries. No index holds what a retry changes, so a retry is a HOT update.
CREATE TABLE @.open (
  sequence int8 NOT NULL,
  due_ms int8 NOT NULL,
  event uuid NOT NULL,
  slot int4 NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (slot, sequence)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX open_event ON @.open (event);

-- Ended deliveries; partitions as those of `events`, each with PRIMARY KEY (slot, sequence).
CREATE TABLE @.done (
  sequence int8 NOT NULL,
  event uuid NOT NULL,
  slot int4 NOT NULL,
  undelivered bool NOT NULL,
  record bytea NOT NULL
) PARTITION BY RANGE (event);

-- Idempotency keys; a partition for each day.
CREATE TABLE @.keys (
  day int4 NOT NULL,
  fingerprint uuid NOT NULL,
  id uuid NOT NULL,
  PRIMARY KEY (day, fingerprint)
) PARTITION BY RANGE (day);

-- Bulk changes in progress.
CREATE TABLE @.bulk (
  slot int4 NOT NULL,
  number int8 NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (slot, number)
);

-- Counters of past windows; the current ones are in `lanes`.
CREATE TABLE @.counters (
  level int2 NOT NULL,
  start_ms int8 NOT NULL,
  lane int2 NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (level, start_ms, lane)
);

-- Histograms, and the counters of one endpoint.
CREATE TABLE @.windows (
  level int2 NOT NULL,
  start_ms int8 NOT NULL,
  slot int8 NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (level, start_ms, slot)
);

INSERT INTO @.meta (version) VALUES (1);
INSERT INTO @.lanes (lane, incarnation, commit_no, last_event, last_stamp, next_slot, next_bulk, paced_ms, swept_before_ms, states_upto, counters)
  VALUES (0, 0, 0, '00000000-0000-0000-0000-000000000000', 0, 0, 0, 0, 0, '00000000-0000-0000-0000-000000000000', '');
