BEGIN TRANSACTION;
CREATE TABLE attributes (
	namespace VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	item BIGINT NOT NULL, 
	PRIMARY KEY (namespace, "key", value, item)
)
 WITHOUT ROWID

;
INSERT INTO "attributes" VALUES('','even','false',2);
INSERT INTO "attributes" VALUES('','even','false',8);
INSERT INTO "attributes" VALUES('','even','false',10);
INSERT INTO "attributes" VALUES('','even','false',12);
INSERT INTO "attributes" VALUES('','even','true',1);
INSERT INTO "attributes" VALUES('','even','true',3);
INSERT INTO "attributes" VALUES('','even','true',7);
INSERT INTO "attributes" VALUES('','even','true',9);
INSERT INTO "attributes" VALUES('','even','true',11);
CREATE TABLE blobs (
	kind VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (kind, name)
);
INSERT INTO "blobs" VALUES('golden_set','g/1',X'00FF');
CREATE TABLE checkpoint (
	name VARCHAR NOT NULL, 
	generation INTEGER NOT NULL, 
	shard INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	PRIMARY KEY (name, generation, shard)
);
INSERT INTO "checkpoint" VALUES('backfill',2,1,'{"item": 8}');
CREATE TABLE consumers (
	name VARCHAR NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE engagement (
	migration VARCHAR NOT NULL, 
	consumer VARCHAR NOT NULL, 
	arm VARCHAR NOT NULL, 
	metric VARCHAR NOT NULL, 
	total FLOAT NOT NULL, 
	PRIMARY KEY (migration, consumer, arm, metric)
);
CREATE TABLE generation_shards (
	generation INTEGER NOT NULL, 
	shard INTEGER NOT NULL, 
	since BIGINT NOT NULL, 
	PRIMARY KEY (generation, shard)
);
INSERT INTO "generation_shards" VALUES(1,0,0);
INSERT INTO "generation_shards" VALUES(1,1,0);
INSERT INTO "generation_shards" VALUES(2,0,4);
INSERT INTO "generation_shards" VALUES(2,1,10);
CREATE TABLE generations (
	number INTEGER NOT NULL, 
	live SMALLINT NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "generations" VALUES(1,1,'{"number":1,"model":"old","fingerprint":{"model":"old","revision":"1","dimension":4,"metric":"cosine","normalisation":"l2","tokenizer_hash":"","dtype":"float32"},"state":"serving","shards":2,"created_at":1.0}');
INSERT INTO "generations" VALUES(2,1,'{"number":2,"model":"new","fingerprint":{"model":"new","revision":"1","dimension":4,"metric":"cosine","normalisation":"l2","tokenizer_hash":"","dtype":"float32"},"state":"filling","shards":2,"created_at":2.0}');
CREATE TABLE holds (
	name VARCHAR NOT NULL, 
	shard INTEGER NOT NULL, 
	sequence BIGINT NOT NULL, 
	log SMALLINT NOT NULL, 
	generation INTEGER, 
	PRIMARY KEY (name, shard)
);
INSERT INTO "holds" VALUES('lane/g1',0,0,1,1);
INSERT INTO "holds" VALUES('lane/g1',1,0,1,1);
INSERT INTO "holds" VALUES('lane/g2',0,4,1,2);
INSERT INTO "holds" VALUES('lane/g2',1,10,1,2);
INSERT INTO "holds" VALUES('backfill/g2',0,4,0,2);
INSERT INTO "holds" VALUES('backfill/g2',1,10,0,2);
CREATE TABLE items (
	item INTEGER NOT NULL, 
	id VARCHAR NOT NULL, 
	namespace VARCHAR NOT NULL, 
	shard INTEGER NOT NULL, 
	version BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	content TEXT, 
	attributes TEXT NOT NULL, 
	deleted SMALLINT NOT NULL, 
	digest BIGINT NOT NULL, 
	PRIMARY KEY (item), 
	CONSTRAINT items_by_id UNIQUE (namespace, id)
);
INSERT INTO "items" VALUES(1,'i0','',0,1,1,1700000000.0,1700000000.0,'text 0','{"even": true}',0,807201617210362326);
INSERT INTO "items" VALUES(2,'i1','',0,1,2,1700000000.0,1700000000.0,'text 1','{"even": false}',0,-8908696030163047815);
INSERT INTO "items" VALUES(3,'i2','',1,1,1,1700000000.0,1700000000.0,'text 2','{"even": true}',0,8465086438853363868);
INSERT INTO "items" VALUES(4,'i3','',1,3,11,1700000000.0,1700000000.0,'back','{}',0,3986388833162908740);
INSERT INTO "items" VALUES(5,'i4','',1,2,10,1700000000.0,1700000000.0,NULL,'{}',1,2912280989677857262);
INSERT INTO "items" VALUES(6,'i5','',1,2,12,1700000000.0,1700000000.0,'again','{}',0,3623860937274443569);
INSERT INTO "items" VALUES(7,'i6','',0,1,3,1700000000.0,1700000000.0,'text 6','{"even": true}',0,8562079755718935376);
INSERT INTO "items" VALUES(8,'i7','',1,1,5,1700000000.0,1700000000.0,'text 7','{"even": false}',0,-436448884828272712);
INSERT INTO "items" VALUES(9,'i8','',0,1,4,1700000000.0,1700000000.0,'text 8','{"even": true}',0,-4439598842833225547);
INSERT INTO "items" VALUES(10,'i9','',1,1,6,1700000000.0,1700000000.0,'text 9','{"even": false}',0,-8400348834983344840);
INSERT INTO "items" VALUES(11,'i10','',1,1,7,1700000000.0,1700000000.0,'text 10','{"even": true}',0,5739070213382175448);
INSERT INTO "items" VALUES(12,'i11','',1,1,8,1700000000.0,1700000000.0,'text 11','{"even": false}',0,-5204540709887779737);
INSERT INTO "items" VALUES(13,'last','n',1,2,15,1700000000.0,1700000000.0,NULL,'{}',1,718535740099000223);
CREATE TABLE leader (
	epoch INTEGER NOT NULL, 
	owner VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (epoch)
);
INSERT INTO "leader" VALUES(1,'history',1700000000.0);
CREATE TABLE log (
	shard INTEGER NOT NULL, 
	sequence BIGINT NOT NULL, 
	item BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	op VARCHAR(8) NOT NULL, 
	generation INTEGER, 
	PRIMARY KEY (shard, sequence)
)
 WITHOUT ROWID

;
INSERT INTO "log" VALUES(0,1,1,1,'write',NULL);
INSERT INTO "log" VALUES(0,2,2,1,'write',NULL);
INSERT INTO "log" VALUES(0,3,7,1,'write',NULL);
INSERT INTO "log" VALUES(0,4,9,1,'write',NULL);
INSERT INTO "log" VALUES(1,1,3,1,'write',NULL);
INSERT INTO "log" VALUES(1,2,4,1,'write',NULL);
INSERT INTO "log" VALUES(1,3,5,1,'write',NULL);
INSERT INTO "log" VALUES(1,4,6,1,'write',NULL);
INSERT INTO "log" VALUES(1,5,8,1,'write',NULL);
INSERT INTO "log" VALUES(1,6,10,1,'write',NULL);
INSERT INTO "log" VALUES(1,7,11,1,'write',NULL);
INSERT INTO "log" VALUES(1,8,12,1,'write',NULL);
INSERT INTO "log" VALUES(1,9,4,2,'delete',NULL);
INSERT INTO "log" VALUES(1,10,5,2,'delete',NULL);
INSERT INTO "log" VALUES(1,11,4,3,'write',NULL);
INSERT INTO "log" VALUES(1,12,6,2,'write',NULL);
INSERT INTO "log" VALUES(1,13,8,1,'vector',2);
INSERT INTO "log" VALUES(1,14,13,1,'write',NULL);
INSERT INTO "log" VALUES(1,15,13,2,'delete',NULL);
CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','2');
INSERT INTO "meta" VALUES('shards','2');
INSERT INTO "meta" VALUES('simulated','0');
INSERT INTO "meta" VALUES('created_at','1700000000.0');
INSERT INTO "meta" VALUES('note','kept');
CREATE TABLE migration_events (
	migration VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (migration, number), 
	FOREIGN KEY(migration) REFERENCES migrations (id)
);
CREATE TABLE migrations (
	id VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (number)
);
CREATE TABLE models (
	name VARCHAR NOT NULL, 
	document TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "models" VALUES('old','{"name":"old","backend":"external","fingerprint":{"model":"old","revision":"1","dimension":4,"metric":"cosine","normalisation":"l2","tokenizer_hash":"","dtype":"float32"},"options":{}}');
INSERT INTO "models" VALUES('new','{"name":"new","backend":"external","fingerprint":{"model":"new","revision":"1","dimension":4,"metric":"cosine","normalisation":"l2","tokenizer_hash":"","dtype":"float32"},"options":{}}');
CREATE TABLE repair (
	generation INTEGER NOT NULL, 
	item BIGINT NOT NULL, 
	shard INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	enqueued_at FLOAT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (generation, item)
);
INSERT INTO "repair" VALUES(2,6,1,0,0,1700000000.0,'refused');
CREATE TABLE shards (
	shard INTEGER NOT NULL, 
	sequence BIGINT NOT NULL, 
	checksum BIGINT NOT NULL, 
	live BIGINT NOT NULL, 
	pruned BIGINT NOT NULL, 
	pruned_item BIGINT NOT NULL, 
	pruned_version BIGINT NOT NULL, 
	PRIMARY KEY (shard)
);
INSERT INTO "shards" VALUES(0,4,-3979013500066975660,4,0,0,0);
INSERT INTO "shards" VALUES(1,15,-7042859350959199795,7,0,0,0);
CREATE TABLE vectors (
	"row" INTEGER NOT NULL, 
	generation INTEGER NOT NULL, 
	shard INTEGER NOT NULL, 
	item BIGINT NOT NULL, 
	version BIGINT NOT NULL, 
	sequence BIGINT, 
	checksum BIGINT NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY ("row"), 
	CONSTRAINT vectors_by_item UNIQUE (generation, shard, item)
);
INSERT INTO "vectors" VALUES(1,1,0,1,1,1,3971697493,X'00000000000000000000000000000000');
INSERT INTO "vectors" VALUES(2,1,0,2,1,2,1338088621,X'0000803F000000000000000000000000');
INSERT INTO "vectors" VALUES(3,1,1,3,1,1,1362549502,X'00000040000000000000000000000000');
INSERT INTO "vectors" VALUES(6,1,1,6,2,12,1016345861,X'00005C42000000000000000000000000');
INSERT INTO "vectors" VALUES(7,1,0,7,1,3,2482815725,X'0000C040000000000000000000000000');
INSERT INTO "vectors" VALUES(8,1,1,8,1,5,1587067445,X'0000E040000000000000000000000000');
INSERT INTO "vectors" VALUES(9,1,0,9,1,4,2359296891,X'00000041000000000000000000000000');
INSERT INTO "vectors" VALUES(10,1,1,10,1,6,3927064343,X'00001041000000000000000000000000');
INSERT INTO "vectors" VALUES(11,1,1,11,1,7,1103395747,X'00002041000000000000000000000000');
INSERT INTO "vectors" VALUES(12,1,1,12,1,8,662063055,X'00003041000000000000000000000000');
INSERT INTO "vectors" VALUES(13,1,1,4,3,11,684122286,X'00000442000000000000000000000000');
INSERT INTO "vectors" VALUES(14,2,1,4,3,11,36925827,X'00000842000000000000000000000000');
INSERT INTO "vectors" VALUES(15,2,1,8,1,13,942311001,X'0000F040000000000000000000000000');
CREATE INDEX items_by_recency ON items (shard, deleted, created_at, item);
CREATE INDEX items_by_delete ON items (shard, sequence) WHERE deleted = 1;
CREATE INDEX items_by_namespace ON items (deleted, namespace, item);
CREATE INDEX vectors_by_sequence ON vectors (generation, shard, sequence);
CREATE INDEX repair_order ON repair (priority DESC, attempts, enqueued_at, item);
COMMIT;
