CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    mapping_id TEXT NOT NULL UNIQUE, -- empty: all together
    seen INTEGER NOT NULL -- the minute of its last sample
) STRICT;

-- By time first: each minute writes beside the one before, and what is too old goes in one piece.
CREATE TABLE minutes (
    number INTEGER NOT NULL, -- minutes since the epoch
    series INTEGER NOT NULL,
    lag REAL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    row_rate REAL NOT NULL,
    byte_rate REAL NOT NULL,
    complete INTEGER NOT NULL,
    PRIMARY KEY (number, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE coarse (
    number INTEGER NOT NULL, -- quarters of an hour since the epoch
    series INTEGER NOT NULL,
    lag REAL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    row_rate REAL NOT NULL,
    byte_rate REAL NOT NULL,
    complete INTEGER NOT NULL,
    PRIMARY KEY (number, series)
) STRICT, WITHOUT ROWID;
