CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY,
    document TEXT NOT NULL,
    applied_at INTEGER NOT NULL, -- milliseconds since the epoch, as all times here
    author TEXT NOT NULL,
    comment TEXT NOT NULL,
    mappings INTEGER NOT NULL,
    rolled_back_to INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY,
    role INTEGER NOT NULL,
    version TEXT NOT NULL,
    host TEXT NOT NULL,
    addresses TEXT NOT NULL, -- JSON list
    capabilities TEXT NOT NULL, -- JSON list
    revision INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    feed INTEGER PRIMARY KEY,
    mapping_identity TEXT NOT NULL,
    database_id TEXT NOT NULL,
    mapping_id TEXT NOT NULL,
    account TEXT NOT NULL,
    container TEXT NOT NULL,
    node_id TEXT NOT NULL, -- the last that reported it
    cursors TEXT NOT NULL, -- JSON object
    replicas TEXT NOT NULL, -- JSON list
    nodes INTEGER NOT NULL,
    delete_valve TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0, -- rows of `parked` with attempts
    updated_at INTEGER NOT NULL,
    UNIQUE (mapping_identity, database_id)
) STRICT;

CREATE INDEX progress_failures ON progress (mapping_id) WHERE failures > 0;
CREATE INDEX progress_node ON progress (node_id);

-- account and container repeat those of the feed, so that pages of failures come from one index.
CREATE TABLE parked (
    feed INTEGER NOT NULL REFERENCES progress (feed) ON DELETE CASCADE,
    object TEXT NOT NULL,
    account TEXT NOT NULL,
    container TEXT NOT NULL,
    row INTEGER NOT NULL, -- ROWID in the container database
    share TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    timestamp TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_try INTEGER NOT NULL, -- seconds since the epoch
    PRIMARY KEY (feed, object)
) STRICT, WITHOUT ROWID;

CREATE INDEX parked_failures ON parked (account, container, object, feed) WHERE attempts > 0;

CREATE TABLE switches (
    mapping_id TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,
    paused_by TEXT NOT NULL,
    paused_at INTEGER,
    released_by TEXT NOT NULL,
    released_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
