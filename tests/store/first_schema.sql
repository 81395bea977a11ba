-- What migration 0001 made on SQLite when it was released, with one linked thread. Kept as it is for ever.
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE batch (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	command VARCHAR(16) NOT NULL, 
	actor VARCHAR(64) NOT NULL, 
	at BIGINT NOT NULL
);
CREATE TABLE decision (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	scope INTEGER NOT NULL, 
	thread BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	line TEXT NOT NULL, 
	reason VARCHAR(40) NOT NULL, 
	mailbox VARCHAR(64), 
	batch INTEGER, 
	rule_version INTEGER NOT NULL, 
	facts BLOB, 
	salt BLOB NOT NULL, 
	digest BLOB NOT NULL, 
	chain BLOB NOT NULL, 
	instance VARCHAR(64) NOT NULL, 
	logged_at BIGINT, 
	CONSTRAINT fk_decision_batch FOREIGN KEY(batch) REFERENCES batch (id), 
	CONSTRAINT fk_decision_scope FOREIGN KEY(scope) REFERENCES scope (id)
);
INSERT INTO "decision" VALUES(1,1,1,1765789200000000,'{"reason":"linked_single_open_item","slot":"deal:61"}','linked_single_open_item','sales',NULL,1,NULL,X'D4D4D4D4D4D4D4D4D4D4D4D4D4D4D4D4',X'C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3',X'C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3','first',1765789200000000);
CREATE TABLE folder (
	id INTEGER NOT NULL, 
	mailbox VARCHAR(64) NOT NULL, 
	name TEXT NOT NULL, 
	uidvalidity BIGINT NOT NULL, 
	top BIGINT NOT NULL, 
	bottom BIGINT NOT NULL, 
	since DATE, 
	before_since BIGINT NOT NULL, 
	CONSTRAINT pk_folder PRIMARY KEY (id), 
	CONSTRAINT uq_folder_mailbox_name UNIQUE (mailbox, name)
);
INSERT INTO "folder" VALUES(1,'sales','INBOX',17,3,0,NULL,0);
CREATE TABLE inbound (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	digest BLOB NOT NULL, 
	sender TEXT NOT NULL, 
	recipients TEXT NOT NULL, 
	client_address TEXT NOT NULL, 
	helo TEXT NOT NULL, 
	tls BOOLEAN NOT NULL, 
	received_at BIGINT NOT NULL, 
	raw BLOB NOT NULL, 
	CONSTRAINT uq_inbound_digest UNIQUE (digest)
);
CREATE TABLE item (
	kind VARCHAR(16) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	title TEXT NOT NULL, 
	status VARCHAR(16), 
	person_key VARCHAR(64), 
	organization_key VARCHAR(64), 
	owner TEXT, 
	added_at BIGINT, 
	imported_at BIGINT NOT NULL, 
	updated_at BIGINT, 
	archived BOOLEAN NOT NULL, 
	deleted BOOLEAN NOT NULL, 
	converted_from VARCHAR(64), 
	given TEXT NOT NULL, 
	CONSTRAINT pk_item PRIMARY KEY (kind, "key")
);
INSERT INTO "item" VALUES('person','7','7','Berta',NULL,NULL,NULL,NULL,NULL,1765789200000000,NULL,0,0,NULL,'{}');
INSERT INTO "item" VALUES('deal','61','61','New roof','open','7',NULL,NULL,NULL,1765789200000000,NULL,0,0,NULL,'{"person": "7"}');
CREATE TABLE item_address (
	address TEXT NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	plain TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	CONSTRAINT pk_item_address PRIMARY KEY (address, "key")
);
INSERT INTO "item_address" VALUES('berta@acme.example','7','berta@acme.example',0);
CREATE TABLE item_participant (
	person_key VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_item_participant PRIMARY KEY (person_key, kind, "key")
);
CREATE TABLE lease (
	name VARCHAR(80) NOT NULL, 
	holder TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	until BIGINT NOT NULL, 
	CONSTRAINT pk_lease PRIMARY KEY (name)
);
CREATE TABLE link (
	thread INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	slot INTEGER, 
	origin VARCHAR(16) NOT NULL, 
	added_at BIGINT, 
	reason VARCHAR(40) NOT NULL, 
	decision BIGINT NOT NULL, 
	CONSTRAINT pk_link PRIMARY KEY (thread, kind, "key"), 
	CONSTRAINT ck_link_slot CHECK ((slot IS NULL) = (kind IN ('person', 'organization')) AND (slot IS NULL OR slot = 1)), 
	CONSTRAINT fk_link_thread FOREIGN KEY(thread) REFERENCES thread (id), 
	CONSTRAINT uq_link_thread_slot UNIQUE (thread, slot)
);
INSERT INTO "link" VALUES(1,'deal','61',1,'auto',1765789200000000,'linked_single_open_item',1);
INSERT INTO "link" VALUES(1,'person','7',NULL,'auto',NULL,'linked_single_open_item',1);
CREATE TABLE mailbox_state (
	mailbox VARCHAR(64) NOT NULL, 
	state TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	CONSTRAINT pk_mailbox_state PRIMARY KEY (mailbox)
);
CREATE TABLE message (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	scope INTEGER NOT NULL, 
	node BLOB NOT NULL, 
	identity BLOB NOT NULL, 
	message_id TEXT NOT NULL, 
	made_id BOOLEAN NOT NULL, 
	sent_at BIGINT NOT NULL, 
	received_at BIGINT NOT NULL, 
	subject TEXT NOT NULL, 
	base_subject TEXT NOT NULL, 
	participants TEXT NOT NULL, 
	refers TEXT NOT NULL, 
	last_reference BLOB, 
	forward BOOLEAN NOT NULL, 
	detached BOOLEAN NOT NULL, 
	names TEXT, 
	marks TEXT NOT NULL, 
	headers BLOB NOT NULL, 
	size BIGINT NOT NULL, 
	raw BLOB, 
	undecided BOOLEAN NOT NULL, 
	CONSTRAINT fk_message_raw FOREIGN KEY(raw) REFERENCES raw_message (sha256), 
	CONSTRAINT fk_message_scope FOREIGN KEY(scope) REFERENCES scope (id), 
	CONSTRAINT uq_message_identity UNIQUE (identity)
);
INSERT INTO "message" VALUES(1,1,X'A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1',X'A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1','first@x.example',0,1765789200000000,1765789200000000,'New roof','new roof','[["from", "berta@acme.example"], ["to", "anna@ourco.example"]]','["earlier@x.example"]',NULL,0,0,NULL,'[]',X'0D0A',512,NULL,0);
CREATE TABLE message_ref (
	node BLOB NOT NULL, 
	thread INTEGER NOT NULL, 
	borne BOOLEAN NOT NULL, 
	detached BOOLEAN NOT NULL, 
	CONSTRAINT pk_message_ref PRIMARY KEY (node), 
	CONSTRAINT fk_message_ref_thread FOREIGN KEY(thread) REFERENCES thread (id)
)
 WITHOUT ROWID

;
INSERT INTO "message_ref" VALUES(X'A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1',1,1,0);
INSERT INTO "message_ref" VALUES(X'B2B2B2B2B2B2B2B2B2B2B2B2B2B2B2B2',1,0,0);
CREATE TABLE occurrence (
	folder INTEGER NOT NULL, 
	uidvalidity BIGINT NOT NULL, 
	uid BIGINT NOT NULL, 
	message INTEGER, 
	disposition VARCHAR(40) NOT NULL, 
	CONSTRAINT pk_occurrence PRIMARY KEY (folder, uidvalidity, uid), 
	CONSTRAINT fk_occurrence_folder FOREIGN KEY(folder) REFERENCES folder (id), 
	CONSTRAINT fk_occurrence_message FOREIGN KEY(message) REFERENCES message (id)
)
 WITHOUT ROWID

;
INSERT INTO "occurrence" VALUES(1,17,3,1,'stored');
CREATE TABLE participant (
	address TEXT NOT NULL, 
	message INTEGER NOT NULL, 
	CONSTRAINT pk_participant PRIMARY KEY (address, message), 
	CONSTRAINT fk_participant_message FOREIGN KEY(message) REFERENCES message (id)
)
 WITHOUT ROWID

;
INSERT INTO "participant" VALUES('anna@ourco.example',1);
INSERT INTO "participant" VALUES('berta@acme.example',1);
CREATE TABLE quarantine (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	digest BLOB NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	reason VARCHAR(40) NOT NULL, 
	error TEXT NOT NULL, 
	message_id TEXT NOT NULL, 
	received_at BIGINT NOT NULL, 
	size BIGINT NOT NULL, 
	raw BLOB NOT NULL, 
	sender TEXT NOT NULL, 
	recipients TEXT NOT NULL, 
	author TEXT NOT NULL, 
	folder INTEGER, 
	uidvalidity BIGINT, 
	uid BIGINT, 
	CONSTRAINT fk_quarantine_folder FOREIGN KEY(folder) REFERENCES folder (id), 
	CONSTRAINT uq_quarantine_digest UNIQUE (digest)
);
CREATE TABLE raw_message (
	sha256 BLOB NOT NULL, 
	size BIGINT NOT NULL, 
	compressed BLOB NOT NULL, 
	CONSTRAINT pk_raw_message PRIMARY KEY (sha256)
);
CREATE TABLE scope (
	id INTEGER NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	chain BLOB NOT NULL, 
	CONSTRAINT pk_scope PRIMARY KEY (id), 
	CONSTRAINT uq_scope_owner_channel UNIQUE (owner, channel)
);
INSERT INTO "scope" VALUES(1,'anna','imap',X'C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3C3');
CREATE TABLE setting (
	name VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	CONSTRAINT pk_setting PRIMARY KEY (name)
);
CREATE TABLE thread (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	number BIGINT, 
	scope INTEGER NOT NULL, 
	started_at BIGINT NOT NULL, 
	last_message_at BIGINT NOT NULL, 
	message_count INTEGER NOT NULL, 
	id_count INTEGER NOT NULL, 
	subject TEXT NOT NULL, 
	reason VARCHAR(40), 
	candidates TEXT NOT NULL, 
	flags TEXT NOT NULL, 
	slot_lost BOOLEAN NOT NULL, 
	unlinked_by_hand BOOLEAN NOT NULL, 
	decision BIGINT, 
	CONSTRAINT fk_thread_scope FOREIGN KEY(scope) REFERENCES scope (id), 
	CONSTRAINT uq_thread_number UNIQUE (number)
);
INSERT INTO "thread" VALUES(1,NULL,1,1765789200000000,1765789200000000,1,2,'New roof','linked_single_open_item','["deal:61"]','[]',0,0,1);
CREATE TABLE thread_alias (
	number BIGINT NOT NULL, 
	thread INTEGER NOT NULL, 
	CONSTRAINT pk_thread_alias PRIMARY KEY (number), 
	CONSTRAINT fk_thread_alias_thread FOREIGN KEY(thread) REFERENCES thread (id)
);
CREATE TABLE tombstone (
	thread INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	decision BIGINT NOT NULL, 
	CONSTRAINT pk_tombstone PRIMARY KEY (thread, kind, "key"), 
	CONSTRAINT fk_tombstone_thread FOREIGN KEY(thread) REFERENCES thread (id)
);
CREATE INDEX ix_item_converted_from ON item (converted_from);
CREATE INDEX ix_item_organization_key ON item (organization_key);
CREATE INDEX ix_item_person_key ON item (person_key);
CREATE INDEX ix_item_address_key ON item_address ("key");
CREATE INDEX ix_item_address_plain ON item_address (plain);
CREATE INDEX ix_item_participant_kind_key ON item_participant (kind, "key");
CREATE INDEX ix_decision_thread ON decision (thread);
CREATE INDEX ix_decision_unlogged ON decision (id) WHERE logged_at IS NULL;
CREATE INDEX ix_message_node ON message (node);
CREATE INDEX ix_message_undecided ON message (id) WHERE undecided;
CREATE INDEX ix_thread_reason ON thread (reason);
CREATE INDEX ix_thread_scope_last_message_at ON thread (scope, last_message_at);
CREATE INDEX ix_link_kind_key ON link (kind, "key");
CREATE INDEX ix_message_ref_thread ON message_ref (thread);
CREATE INDEX ix_occurrence_message ON occurrence (message);
CREATE INDEX ix_thread_alias_thread ON thread_alias (thread);
INSERT INTO "sqlite_sequence" VALUES('thread',1);
INSERT INTO "sqlite_sequence" VALUES('message',1);
INSERT INTO "sqlite_sequence" VALUES('decision',1);
