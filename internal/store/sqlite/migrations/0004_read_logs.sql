-- The logs are read by name and by account, and lose what is too old.
CREATE INDEX event_by_name ON event (account, name, n);
CREATE INDEX event_by_account ON event (account, n);

DROP TRIGGER audit_changed;
ALTER TABLE audit ADD COLUMN account TEXT NOT NULL DEFAULT ''; -- of the principal
UPDATE audit SET account = substr(principal, instr(principal, '::') + 2, 12) WHERE principal LIKE 'arn:aws%::%';
UPDATE audit SET account = substr(principal, 19 + instr(substr(principal, 19), ':'), 12) WHERE principal LIKE 'arn:aws:appstream:%' AND account = '';
CREATE TRIGGER audit_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE INDEX audit_by_account ON audit (account, n);

-- Only its oldest line can be taken from a log, and never the newest.
DROP TRIGGER event_removed;
CREATE TRIGGER event_removed BEFORE DELETE ON event
WHEN EXISTS (SELECT 1 FROM event WHERE n < OLD.n) OR NOT EXISTS (SELECT 1 FROM event WHERE n > OLD.n)
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
DROP TRIGGER audit_removed;
CREATE TRIGGER audit_removed BEFORE DELETE ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE n < OLD.n) OR NOT EXISTS (SELECT 1 FROM audit WHERE n > OLD.n)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
