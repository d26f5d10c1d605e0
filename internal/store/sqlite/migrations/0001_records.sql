-- A record is a document with a few columns; doc holds the rest as JSON. Times are microseconds since 1970, UTC.
CREATE TABLE record (
	n       INTEGER PRIMARY KEY,
	id      TEXT NOT NULL UNIQUE CHECK (id <> ''),
	account TEXT NOT NULL, -- '' for a public record
	region  TEXT NOT NULL,
	noun    TEXT NOT NULL,
	name    TEXT NOT NULL CHECK (name <> ''),
	version INTEGER NOT NULL,
	state   TEXT NOT NULL,
	due     INTEGER, -- when the engine looks at it; NULL: not by itself
	lease   INTEGER, -- until when an engine's worker has it; NULL: nobody
	woken   INTEGER, -- the earliest Wake during the lease: the holder may be about to write a later due over it
	doc     TEXT NOT NULL,
	-- When Claim finds it: at the earlier of due and woken, but not before the lease has run out.
	ready   INTEGER AS (coalesce(max(coalesce(min(due, woken), due, woken), lease), min(due, woken), due, woken)) VIRTUAL,
	UNIQUE (account, region, noun, name)
) STRICT;

-- For the scan over all accounts.
CREATE INDEX record_by_name ON record (noun, region, name, account);
-- For Claim and NextDue.
CREATE INDEX record_by_ready ON record (ready) WHERE ready IS NOT NULL;

-- The accounts that a record is shared with.
CREATE TABLE grants (
	account TEXT NOT NULL,
	record  INTEGER NOT NULL REFERENCES record ON DELETE CASCADE,
	PRIMARY KEY (account, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_by_record ON grants (record);

-- The tables of appstream.Transitions, written at every start. '' is: no record.
CREATE TABLE transition (
	noun     TEXT NOT NULL,
	"from"   TEXT NOT NULL,
	"to"     TEXT NOT NULL,
	PRIMARY KEY (noun, "from", "to")
) STRICT, WITHOUT ROWID;

CREATE TRIGGER record_created BEFORE INSERT ON record
WHEN NOT EXISTS (SELECT 1 FROM transition WHERE noun = NEW.noun AND "from" = '' AND "to" = NEW.state)
BEGIN SELECT RAISE(ABORT, 'nothing to ' || NEW.state); END;

CREATE TRIGGER record_moved BEFORE UPDATE OF state ON record
WHEN NEW.state <> OLD.state
	AND NOT EXISTS (SELECT 1 FROM transition WHERE noun = OLD.noun AND "from" = OLD.state AND "to" = NEW.state)
BEGIN SELECT RAISE(ABORT, OLD.state || ' to ' || NEW.state); END;

CREATE TRIGGER record_removed BEFORE DELETE ON record
WHEN NOT EXISTS (SELECT 1 FROM transition WHERE noun = OLD.noun AND "from" = OLD.state AND "to" = '')
BEGIN SELECT RAISE(ABORT, OLD.state || ' to nothing'); END;

CREATE TABLE event (
	n       INTEGER PRIMARY KEY,
	at      INTEGER,
	id      TEXT NOT NULL, -- of the record, which may be gone
	account TEXT NOT NULL,
	region  TEXT NOT NULL,
	noun    TEXT NOT NULL,
	name    TEXT NOT NULL,
	"from"  TEXT NOT NULL,
	"to"    TEXT NOT NULL,
	why     TEXT NOT NULL
) STRICT;
CREATE INDEX event_by_id ON event (id, n);

CREATE TABLE audit (
	n         INTEGER PRIMARY KEY,
	at        INTEGER,
	principal TEXT NOT NULL,
	source    TEXT NOT NULL,
	operation TEXT NOT NULL,
	resource  TEXT NOT NULL,
	result    TEXT NOT NULL,
	request   TEXT NOT NULL
) STRICT;

-- What has happened stays: the two logs only grow.
CREATE TRIGGER event_changed BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER event_removed BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER audit_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_removed BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TABLE setting (
	name  TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
