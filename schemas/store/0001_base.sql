-- SPDX-License-Identifier: Apache-2.0
-- The state, schema version 1. Tables journal_<feed> are made with their feed:
--   pos, sum (xxh3 of bytes), target (function of an injected event, 0: all), at_ms, bytes.
-- Columns of sums hold hr_hash() of the column bytes, as a signed 64-bit integer.

CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('id', lower(hex(randomblob(16))));

CREATE TABLE feed (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,       -- journal, pull
  identity TEXT NOT NULL UNIQUE,
  epoch INTEGER NOT NULL,   -- journal: 0
  last_fire_us INTEGER      -- cron; mqtt: since when a broker keeps its session, 0: none does
);

CREATE TABLE function (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  removed_at INTEGER        -- real time in ms; NULL: it lives
);
CREATE UNIQUE INDEX function_name ON function (name) WHERE removed_at IS NULL;

CREATE TABLE version (
  id INTEGER PRIMARY KEY,
  function INTEGER NOT NULL,
  hash BLOB NOT NULL,
  UNIQUE (function, hash)
);

-- A row of function 0 is the feed's own: low = position of the next append, base = events ever
-- appended, bytes = bytes in its journal, counters = those of its trigger.
-- While it stands in the WAL only, it may be behind the journal by some commits (broker/store_feeds.c).
-- A function's deliveries on a journal feed are the feed's base less its own base, and those that
-- its counters name.
CREATE TABLE checkpoint (
  shard INTEGER NOT NULL,
  function INTEGER NOT NULL,
  feed INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  low INTEGER NOT NULL,
  settled_count INTEGER NOT NULL,
  base INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  counters BLOB NOT NULL,   -- hr_counters, 64-bit little-endian each
  settled BLOB,
  PRIMARY KEY (shard, function, feed)
) WITHOUT ROWID;

CREATE TABLE parked (
  id INTEGER PRIMARY KEY,
  function INTEGER NOT NULL,
  feed INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  key_hash INTEGER NOT NULL,
  state INTEGER NOT NULL,   -- hr_parked_state
  due_real_ms INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  replay INTEGER NOT NULL,
  first_attempt_ms INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  version INTEGER,
  sum INTEGER NOT NULL,
  event_id BLOB,
  error BLOB,
  bytes BLOB
);
CREATE UNIQUE INDEX parked_position ON parked (function, feed, pos);

CREATE TABLE dead (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  function INTEGER NOT NULL, -- 0: malformed input of the feed's trigger
  feed INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  key_hash INTEGER NOT NULL,
  state INTEGER NOT NULL,   -- 0 open, 1 replayed, 2 dropped
  due_real_ms INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  replay INTEGER NOT NULL,
  first_attempt_ms INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,   -- when it died
  ended_ms INTEGER,         -- when it left state 0
  version INTEGER,
  sum INTEGER NOT NULL,
  event_id BLOB,
  reason BLOB,
  error BLOB,
  logs BLOB,
  bytes BLOB
);
CREATE INDEX dead_event ON dead (event_id);
CREATE INDEX dead_open ON dead (function, id) WHERE state = 0;

CREATE TABLE seen (
  feed INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  hashes BLOB NOT NULL,     -- 16 bytes each
  PRIMARY KEY (feed, at_ms, seq)
) WITHOUT ROWID;

CREATE TABLE state (
  function INTEGER NOT NULL,
  version INTEGER NOT NULL,
  shard INTEGER NOT NULL,
  key BLOB NOT NULL,
  value BLOB,
  PRIMARY KEY (function, version, shard, key)
) WITHOUT ROWID;

CREATE TABLE timer (
  function INTEGER NOT NULL,
  key BLOB NOT NULL,
  due INTEGER NOT NULL,
  payload BLOB,
  PRIMARY KEY (function, key)
) WITHOUT ROWID;
CREATE INDEX timer_due ON timer (due);
