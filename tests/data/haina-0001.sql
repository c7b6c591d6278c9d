BEGIN TRANSACTION;
CREATE TABLE accounts (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	name_key TEXT NOT NULL, 
	role TEXT NOT NULL, 
	password_hash TEXT, 
	created_at DATETIME NOT NULL, 
	last_seen_at DATETIME, 
	is_suspended BOOLEAN NOT NULL, 
	CONSTRAINT pk_accounts PRIMARY KEY (id), 
	CONSTRAINT uq_accounts_name_key UNIQUE (name_key)
);
INSERT INTO "accounts" VALUES('ann','Ann','ann','user','hash','2026-11-20 08:00:00.000000',NULL,0);
INSERT INTO "accounts" VALUES('guest','guest-1234abcd','guest-1234abcd','guest',NULL,'2026-11-20 08:00:00.000000',NULL,0);
INSERT INTO "accounts" VALUES('root','root','root','admin','hash','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000',1);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE api_keys (
	id TEXT NOT NULL, 
	account_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	key_hash TEXT NOT NULL, 
	prefix TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	last_used_at DATETIME, 
	revoked_at DATETIME, 
	CONSTRAINT pk_api_keys PRIMARY KEY (id), 
	CONSTRAINT fk_api_keys_account_id_accounts FOREIGN KEY(account_id) REFERENCES accounts (id) ON DELETE CASCADE, 
	CONSTRAINT uq_api_keys_key_hash UNIQUE (key_hash)
);
INSERT INTO "api_keys" VALUES('key','ann','laptop','keyhash','hn-123456','2026-11-20 08:00:00.000000',NULL,NULL);
CREATE TABLE conversations (
	id TEXT NOT NULL, 
	owner_id TEXT NOT NULL, 
	title TEXT NOT NULL, 
	title_key TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	leaf_id TEXT, 
	template_version_id TEXT, 
	variables TEXT NOT NULL, 
	is_titled_by_owner BOOLEAN NOT NULL, 
	source TEXT NOT NULL, 
	deleted_at DATETIME, 
	CONSTRAINT pk_conversations PRIMARY KEY (id), 
	CONSTRAINT fk_conversations_owner_id_accounts FOREIGN KEY(owner_id) REFERENCES accounts (id) ON DELETE CASCADE, 
	CONSTRAINT fk_conversations_template_version_id_template_versions FOREIGN KEY(template_version_id) REFERENCES template_versions (id)
);
INSERT INTO "conversations" VALUES('c','ann','rivers','rivers','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000','a2','t-1','{}',0,'page',NULL);
INSERT INTO "conversations" VALUES('d','guest','old','old','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000',NULL,NULL,'{}',1,'page','2026-11-20 08:00:00.000000');
CREATE TABLE failed_sign_ins (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	address TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_failed_sign_ins PRIMARY KEY (id)
);
INSERT INTO "failed_sign_ins" VALUES(1,'ann','127.0.0.1','2026-11-20 08:00:00.000000');
CREATE TABLE hits (
	id TEXT NOT NULL, 
	decision_id TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	stage TEXT NOT NULL, 
	action INTEGER NOT NULL, 
	category TEXT NOT NULL, 
	rule TEXT NOT NULL, 
	detector TEXT NOT NULL, 
	policy TEXT NOT NULL, 
	start INTEGER NOT NULL, 
	"end" INTEGER NOT NULL, 
	account_id TEXT, 
	conversation_id TEXT, 
	message_id TEXT, 
	is_degraded BOOLEAN NOT NULL, 
	CONSTRAINT pk_hits PRIMARY KEY (id)
);
INSERT INTO "hits" VALUES('h1','decision-of-an-answer','2026-11-20 08:00:00.000000','output',3,'hate','phrases:hate-en','phrases','general@c23dec490398',7,19,'ann','c','a1',0);
INSERT INTO "hits" VALUES('h2','decision-of-a-question','2026-11-20 08:00:00.000000','input',3,'weapons','phrases:weapons-en','phrases','general@c23dec490398',0,21,'ann','c','q2',0);
INSERT INTO "hits" VALUES('h3','handed-over','2026-11-20 08:00:00.000000','input',4,'self_harm','phrases:self-harm-en','phrases','own@000000000000',2,9,'guest','d','q3',0);
INSERT INTO "hits" VALUES('h4','handed-over','2026-11-20 08:00:00.000000','input',1,'self_harm','phrases:self-harm-zh','phrases','own@000000000000',12,15,'guest','d','q3',0);
INSERT INTO "hits" VALUES('h5','handed-over-of-nobody','2026-11-20 09:00:00.000000','output',4,'self_harm','phrases:self-harm-zh','phrases','own@000000000000',0,4,NULL,NULL,NULL,1);
CREATE TABLE message_parts (
	message_id TEXT NOT NULL, 
	n INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_message_parts PRIMARY KEY (message_id, n), 
	CONSTRAINT fk_message_parts_message_id_messages FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "message_parts" VALUES('a3',0,'hal');
INSERT INTO "message_parts" VALUES('a3',1,'f');
CREATE TABLE messages (
	n INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	conversation_id TEXT NOT NULL, 
	parent_id TEXT, 
	role TEXT NOT NULL, 
	text TEXT NOT NULL, 
	state TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	category TEXT, 
	error_code TEXT, 
	error_data TEXT DEFAULT '{}' NOT NULL, 
	continues_id TEXT, 
	receipt TEXT, 
	CONSTRAINT pk_messages PRIMARY KEY (n), 
	CONSTRAINT fk_messages_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_messages_parent_id_messages FOREIGN KEY(parent_id) REFERENCES messages (id), 
	CONSTRAINT uq_messages_id UNIQUE (id)
);
INSERT INTO "messages" VALUES(1,'q1','c',NULL,'user','Where do rivers run?','complete','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000',NULL,NULL,'{}',NULL,NULL);
INSERT INTO "messages" VALUES(2,'a1','c','q1','assistant','To the ','blocked','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000','hate','content_filter','{"category":"hate","stage":"output","decision_id":"decision-of-an-answer"}',NULL,NULL);
INSERT INTO "messages" VALUES(3,'q2','c','a1','user','','blocked','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000','weapons',NULL,'{}',NULL,NULL);
INSERT INTO "messages" VALUES(4,'a2','c','q2','assistant','','blocked','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000','weapons','content_filter','{}',NULL,NULL);
INSERT INTO "messages" VALUES(5,'q3','d',NULL,'user','And then?','complete','2026-11-20 08:00:00.000000','2026-11-20 08:00:00.000000',NULL,NULL,'{}',NULL,NULL);
INSERT INTO "messages" VALUES(6,'a3','d','q3','assistant','','running','2026-11-20 08:00:00.000000',NULL,NULL,NULL,'{}',NULL,NULL);
CREATE TABLE sessions (
	token_hash TEXT NOT NULL, 
	account_id TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	user_agent TEXT NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (token_hash), 
	CONSTRAINT fk_sessions_account_id_accounts FOREIGN KEY(account_id) REFERENCES accounts (id) ON DELETE CASCADE
);
INSERT INTO "sessions" VALUES('token','root','2026-11-20 08:00:00.000000','2026-12-20 08:00:00.000000','Firefox');
CREATE TABLE template_versions (
	id TEXT NOT NULL, 
	template_id TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	content TEXT NOT NULL, 
	content_hash TEXT NOT NULL, 
	message TEXT NOT NULL, 
	author TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_template_versions PRIMARY KEY (id), 
	CONSTRAINT fk_template_versions_template_id_templates FOREIGN KEY(template_id) REFERENCES templates (id) ON DELETE CASCADE, 
	CONSTRAINT uq_template_versions_template_id_number UNIQUE (template_id, number)
);
INSERT INTO "template_versions" VALUES('t-1','t',1,'{"system":"Help."}','0000000000000000000000000000000000000000000000000000000000000000','first','root','2026-11-20 08:00:00.000000');
CREATE TABLE templates (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	title TEXT NOT NULL, 
	description TEXT NOT NULL, 
	language TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	live_version_id TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_templates PRIMARY KEY (id), 
	CONSTRAINT uq_templates_name UNIQUE (name)
);
INSERT INTO "templates" VALUES('t','assistant','{"en":"Assistant"}','{"en":"Helps"}','en','[]','t-1','2026-11-20 08:00:00.000000');
CREATE INDEX ix_accounts_created_at_id ON accounts (created_at, id);
CREATE INDEX ix_sessions_account_id ON sessions (account_id);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);
CREATE INDEX ix_api_keys_account_id ON api_keys (account_id);
CREATE INDEX ix_failed_sign_ins_at ON failed_sign_ins (at);
CREATE INDEX ix_failed_sign_ins_name_address_at ON failed_sign_ins (name, address, at);
CREATE INDEX ix_conversations_deleted_at ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX ix_conversations_owner_id_source_updated_at_id ON conversations (owner_id, source, updated_at, id);
CREATE INDEX ix_messages_conversation_id_n ON messages (conversation_id, n);
CREATE INDEX ix_messages_parent_id ON messages (parent_id);
CREATE INDEX ix_messages_role_created_at_state ON messages (role, created_at, state);
CREATE INDEX ix_messages_running ON messages (id) WHERE state = 'running';
CREATE INDEX ix_hits_created_at_id ON hits (created_at, id);
COMMIT;
