//! Sign and verify stormhook deliveries.
