-- The outbox: producers write events to it in their own transactions, and the daemons take them from it. It can also be
-- installed by itself, in a database that holds nothing else of stormhook. Each statement can run again.
CREATE SCHEMA IF NOT EXISTS @;

CREATE OR REPLACE FUNCTION @.shard_of(organization text) RETURNS int2 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ((strpos('0123456789abcdef', substr(md5(organization), 1, 1)) - 1) * 16
         + strpos('0123456789abcdef', substr(md5(organization), 2, 1)) - 1)::int2
$$;

CREATE TABLE IF NOT EXISTS @.outbox_settings (
  one bool PRIMARY KEY DEFAULT true CHECK (one),
  -- The version of the outbox.
  version int4 NOT NULL,
  -- The daemon's limit, which it writes here: `limits.event_bytes`.
  event_bytes int8 NOT NULL DEFAULT 262144
);
INSERT INTO @.outbox_settings (version) VALUES (1) ON CONFLICT (one) DO UPDATE SET version = excluded.version;

CREATE SEQUENCE IF NOT EXISTS @.outbox_n;
CREATE TABLE IF NOT EXISTS @.outbox (
  -- The order within an organization.
  n int8 NOT NULL,
  id uuid NOT NULL,
  occurred timestamptz,
  shard int2 NOT NULL,
  organization text NOT NULL,
  type text NOT NULL,
  key text,
  data json NOT NULL,
  PRIMARY KEY (shard, n)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Events of the outbox that can't be accepted.
CREATE TABLE IF NOT EXISTS @.outbox_rejected (
  id uuid PRIMARY KEY,
  rejected_at timestamptz NOT NULL DEFAULT now(),
  reason text NOT NULL,
  organization text NOT NULL,
  type text NOT NULL,
  key text,
  occurred timestamptz,
  data json NOT NULL
);

-- Writes an event to the outbox, and returns its id. Whoever may use the schema may call it, and needs no right on a table.
CREATE OR REPLACE FUNCTION @.emit(organization text, type text, data json, key text DEFAULT NULL, "timestamp" timestamptz DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Crockford's base 32.
  alphabet CONSTANT text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
  place int8;
  most int8;
  hex text;
  bits bit(130);
  id text := 'evt_';
BEGIN
  IF organization IS NULL OR organization = '' OR octet_length(organization) > 128 OR organization ~ '[^A-Za-z0-9_-]' THEN
    RAISE EXCEPTION 'organization must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -' USING ERRCODE = '22023';
  END IF;
  IF type IS NULL OR type = '' OR octet_length(type) > 128 OR type ~ '[^A-Za-z0-9_.-]' OR '.' || type || '.' LIKE '%..%' THEN
    RAISE EXCEPTION 'type must be parts of A-Z, a-z, 0-9, _ and -, separated by single dots, at most 128 bytes, like order.created'
      USING ERRCODE = '22023';
  END IF;
  IF starts_with(type, 'stormhook.') THEN
    RAISE EXCEPTION 'type must not start with stormhook., which is reserved' USING ERRCODE = '22023';
  END IF;
  IF data IS NULL THEN
    RAISE EXCEPTION 'data must be a JSON value; for JSON null, pass ''null''::json' USING ERRCODE = '22023';
  END IF;
  SELECT event_bytes INTO most FROM @.outbox_settings;
  IF octet_length(convert_to(data::text, 'UTF8')) > most THEN
    RAISE EXCEPTION 'data must be at most % bytes (limits.event_bytes); this one has %', most, octet_length(convert_to(data::text, 'UTF8'))
      USING ERRCODE = '22023';
  END IF;
  IF key = '' OR length(key) > 255 OR key ~ '[^!-~]' THEN
    RAISE EXCEPTION 'key must be 1 to 255 visible ASCII characters without spaces, or null for none' USING ERRCODE = '22023';
  END IF;
  IF NOT "timestamp" BETWEEN '0001-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z' THEN
    RAISE EXCEPTION 'timestamp must be in the years 1 to 9999, or null for now' USING ERRCODE = '22023';
  END IF;
  place := nextval('@.outbox_n');
  -- Milliseconds, the number, and randomness: ids of one millisecond are in the order of the calls.
  hex := lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::int8), 12, '0')
      || lpad(to_hex(place & x'ffffffff'::int8), 8, '0')
      || right(gen_random_uuid()::text, 12);
  INSERT INTO @.outbox (n, id, occurred, shard, organization, type, key, data)
  VALUES (place, hex::uuid, "timestamp", @.shard_of(organization), organization, type, key, data);
  bits := B'00' || ('x' || hex)::bit(128);
  FOR i IN 0..25 LOOP
    id := id || substr(alphabet, substring(bits FROM i * 5 + 1 FOR 5)::int4 + 1, 1);
  END LOOP;
  RETURN id;
END
$$;

-- For drivers that send JSON as text.
CREATE OR REPLACE FUNCTION @.emit(organization text, type text, data text, key text DEFAULT NULL, "timestamp" timestamptz DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  checked json;
BEGIN
  BEGIN
    checked := data::json;
  EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
    RAISE EXCEPTION 'data must be JSON: %', SQLERRM USING ERRCODE = '22023';
  END;
  RETURN @.emit(organization, type, checked, key, "timestamp");
END
$$;

CREATE OR REPLACE FUNCTION @.emit(organization text, type text, data jsonb, key text DEFAULT NULL, "timestamp" timestamptz DEFAULT NULL)
RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'data must be json, not jsonb: partners receive data byte for byte, and jsonb does not keep the bytes'
    USING ERRCODE = '22023', HINT = 'Pass the JSON text itself, or cast it with ::json. data::text::json sends the form that jsonb has.';
END
$$;
