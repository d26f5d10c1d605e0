-- How many records there are, for quotas: counting them takes the longer the more there are.
CREATE TABLE tally (
	account TEXT NOT NULL,
	region  TEXT NOT NULL,
	noun    TEXT NOT NULL,
	records INTEGER NOT NULL,
	PRIMARY KEY (account, region, noun)
) STRICT, WITHOUT ROWID;
INSERT INTO tally SELECT account, region, noun, count(*) FROM record GROUP BY account, region, noun;
CREATE TRIGGER record_counted AFTER INSERT ON record
BEGIN
	INSERT INTO tally VALUES (NEW.account, NEW.region, NEW.noun, 1) ON CONFLICT DO UPDATE SET records = records + 1;
END;
CREATE TRIGGER record_uncounted AFTER DELETE ON record
BEGIN
	UPDATE tally SET records = records - 1 WHERE account = OLD.account AND region = OLD.region AND noun = OLD.noun;
END;

-- What a record is made of, belongs to or names: what Query.LinksTo asks for.
CREATE TABLE link (
	target TEXT NOT NULL,
	record INTEGER NOT NULL REFERENCES record ON DELETE CASCADE,
	PRIMARY KEY (target, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX link_by_record ON link (record);
INSERT OR IGNORE INTO link
	SELECT 'arn:aws:appstream:' || region || ':' || account || ':stack/' || value, n FROM record, json_each(doc, '$.Stacks')
		WHERE noun = 'fleet' AND json_each.type = 'text'
	UNION SELECT 'arn:aws:appstream:' || region || ':' || account || ':stack/' || (value ->> '$.Name'), n FROM record, json_each(doc, '$.Stacks')
		WHERE noun = 'user' AND json_each.type = 'object'
	UNION SELECT doc ->> '$.View.ImageArn', n FROM record
		WHERE noun IN ('fleet', 'image-builder') AND doc ->> '$.View.ImageArn' IS NOT NULL
	UNION SELECT 'arn:aws:appstream:' || region || ':' || account || ':directory-config/' || (doc ->> '$.View.DomainJoinInfo.DirectoryName'), n FROM record
		WHERE noun IN ('fleet', 'image-builder') AND doc ->> '$.View.DomainJoinInfo.DirectoryName' <> ''
	UNION SELECT doc ->> '$.CopyOf', n FROM record WHERE noun = 'image' AND doc ->> '$.CopyOf' <> ''
	UNION SELECT doc ->> '$.UpdateOf', n FROM record WHERE noun = 'image' AND doc ->> '$.UpdateOf' <> '';
