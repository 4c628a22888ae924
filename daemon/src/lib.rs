//! The verbs of stormhook: ingest, schedule, deliver, settle, and what operators ask of them.
