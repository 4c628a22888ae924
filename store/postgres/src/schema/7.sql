-- Purges in progress. Numbers are given by lanes, so that they tell apart the purges of one organization only.
CREATE TABLE @.purges (
  organization text NOT NULL,
  number int8 NOT NULL,
  shard int2 NOT NULL,
  record bytea NOT NULL,
  PRIMARY KEY (organization, number)
);
