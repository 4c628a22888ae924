//! The nouns of stormhook and the one file that holds them.
