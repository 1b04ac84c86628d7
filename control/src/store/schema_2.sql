-- What people did and what happened, for people. A line that may be told again has a name in `once`; lines of one kind that
-- come in numbers share an `in_group`, of which only the first are written one by one.
CREATE TABLE activity (
    activity INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL, -- of the contract
    actor TEXT NOT NULL,
    asked_for INTEGER NOT NULL,
    mapping_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    detail TEXT NOT NULL,
    count INTEGER NOT NULL, -- told in front of the detail; 0: it is not
    once TEXT,
    in_group TEXT NOT NULL
) STRICT;

-- Not unique: a copy whose write was cut short may hold a line twice, which does no harm.
CREATE INDEX activity_once ON activity (once) WHERE once IS NOT NULL;
CREATE INDEX activity_group ON activity (in_group) WHERE in_group <> '';
CREATE INDEX activity_sort ON activity (asked_for, activity);

-- What was asked of remotes, by month in UTC and mapping.
CREATE TABLE usage (
    month TEXT NOT NULL, -- such as 2026-11
    mapping_id TEXT NOT NULL,
    writes INTEGER NOT NULL,
    lists INTEGER NOT NULL,
    reads INTEGER NOT NULL,
    deletes INTEGER NOT NULL,
    bytes_sent INTEGER NOT NULL,
    bytes_received INTEGER NOT NULL,
    PRIMARY KEY (month, mapping_id)
) STRICT, WITHOUT ROWID;

-- The last count of each node's process that was added up, so that one that is sent twice counts once.
CREATE TABLE usage_reports (
    node_id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Set while it is known, and told, that a node is gone.
ALTER TABLE nodes ADD COLUMN is_lost INTEGER NOT NULL DEFAULT 0;

-- Pages of cursors in one order, whatever they are asked for by.
CREATE INDEX progress_place ON progress (account, container, mapping_id, database_id, mapping_identity);
CREATE INDEX progress_container ON progress (container, account, mapping_id, database_id, mapping_identity);
CREATE INDEX progress_mapping ON progress (mapping_id, account, container, database_id, mapping_identity);
DROP INDEX progress_node;
CREATE INDEX progress_node ON progress (node_id, account, container, mapping_id, database_id, mapping_identity);
