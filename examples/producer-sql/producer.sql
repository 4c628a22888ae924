-- Commits an order and its event in one transaction, and prints the event's id. Neither exists without the other.
--
--     psql postgres://shop@db.example/shop --set id=1001 --set amount=4200 --file producer.sql
--
-- The database has stormhook's outbox: `stormhook migrate` installs it with the store, and `stormhook migrate
-- --outbox-only` by itself. The role needs `GRANT USAGE ON SCHEMA stormhook`, and no right on any of its tables.
\set ON_ERROR_STOP on
BEGIN;
INSERT INTO orders (id, amount) VALUES (:'id', :amount);
SELECT stormhook.emit(
  'shop',
  'order.created',
  json_build_object('orderId', :'id'::text, 'amount', :amount),
  key => 'order-' || :'id' || '-created'
) AS id \gset event_
COMMIT;
\echo :event_id
