-- Whose turn it is to write: one row. Whoever has locked it writes.
CREATE TABLE claviger.turn (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    number bigint NOT NULL,
    mark bytea NOT NULL
);
INSERT INTO claviger.turn (number, mark) VALUES (0, '');

-- What groups wrote of what servers keep in memory; a value that is null was deleted.
CREATE TABLE claviger.changes (
    number bigint PRIMARY KEY,
    mark bytea NOT NULL,
    spaces text[] NOT NULL,
    keys bytea[] NOT NULL,
    vals bytea[] NOT NULL
);

-- Ordered maps, one for each space.
CREATE TABLE claviger.meta (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.entries (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.agents (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.tokens (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.audit (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.tiles (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.authorities (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.standings (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.approvals (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.policies (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE claviger.series (key bytea PRIMARY KEY, value bytea NOT NULL);

-- The same of what expires, in parts that are dropped whole. What fits nowhere else is in the rest.
CREATE TABLE claviger.psks (key bytea PRIMARY KEY, value bytea NOT NULL) PARTITION BY RANGE (key);
CREATE TABLE claviger.psks_rest PARTITION OF claviger.psks DEFAULT;
CREATE TABLE claviger.once (key bytea PRIMARY KEY, value bytea NOT NULL) PARTITION BY RANGE (key);
CREATE TABLE claviger.once_rest PARTITION OF claviger.once DEFAULT;
CREATE TABLE claviger.issued (key bytea PRIMARY KEY, value bytea NOT NULL) PARTITION BY RANGE (key);
CREATE TABLE claviger.issued_rest PARTITION OF claviger.issued DEFAULT;
