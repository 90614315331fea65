-- The tables of a log: those that Trillian's storage/postgresql reads and writes,
-- by the same names, and what keeps them to one owner.
--
-- They differ from Trillian's own in what costs a random write or a look-up for
-- each leaf and answers no question that is asked here: there is no index of
-- Merkle leaf hashes (proofs are computed from tiles), none of identities beside
-- the primary key of LeafData, which holds the index instead, and no foreign key:
-- nothing ever deletes a leaf, and leaf and position are written in one
-- transaction.

CREATE TYPE TreeState AS ENUM ('ACTIVE', 'FROZEN', 'DRAINING');
CREATE TYPE TreeType AS ENUM ('LOG', 'MAP', 'PREORDERED_LOG');

CREATE TABLE Trees (
  TreeId                BIGINT PRIMARY KEY,
  TreeState             TreeState NOT NULL,
  TreeType              TreeType NOT NULL,
  DisplayName           VARCHAR(20),
  Description           VARCHAR(200),
  CreateTimeMillis      BIGINT NOT NULL,
  UpdateTimeMillis      BIGINT NOT NULL,
  MaxRootDurationMillis BIGINT NOT NULL,
  Deleted               BOOLEAN,
  DeleteTimeMillis      BIGINT
);

CREATE TABLE TreeControl (
  TreeId                  BIGINT PRIMARY KEY,
  SigningEnabled          BOOLEAN NOT NULL,
  SequencingEnabled       BOOLEAN NOT NULL,
  SequenceIntervalSeconds INTEGER NOT NULL
);

-- A tile of the Merkle tree a row. Hashes do not compress: EXTERNAL saves trying.
CREATE TABLE Subtree (
  TreeId    BIGINT NOT NULL,
  SubtreeId BYTEA NOT NULL,
  Nodes     BYTEA NOT NULL,
  CONSTRAINT Subtree_pk PRIMARY KEY (TreeId, SubtreeId)
);
ALTER TABLE Subtree ALTER COLUMN Nodes SET STORAGE EXTERNAL;

CREATE TABLE TreeHead (
  TreeId            BIGINT NOT NULL,
  TreeHeadTimestamp BIGINT NOT NULL,
  TreeSize          BIGINT NOT NULL,
  RootHash          BYTEA NOT NULL,
  RootSignature     BYTEA NOT NULL,
  PRIMARY KEY (TreeId, TreeHeadTimestamp),
  -- Never two roots at one size.
  UNIQUE (TreeId, TreeSize)
);

CREATE TABLE LeafData (
  TreeId              BIGINT NOT NULL,
  LeafIdentityHash    BYTEA NOT NULL,
  LeafValue           BYTEA NOT NULL,
  ExtraData           BYTEA,
  QueueTimestampNanos BIGINT NOT NULL,
  -- Where the leaf is; ours. Null in LOG trees.
  SequenceNumber      BIGINT,
  PRIMARY KEY (TreeId, LeafIdentityHash)
);

CREATE TABLE SequencedLeafData (
  TreeId                  BIGINT NOT NULL,
  SequenceNumber          BIGINT NOT NULL CHECK (SequenceNumber >= 0),
  LeafIdentityHash        BYTEA NOT NULL,
  MerkleLeafHash          BYTEA NOT NULL,
  IntegrateTimestampNanos BIGINT NOT NULL,
  PRIMARY KEY (TreeId, SequenceNumber)
);

-- Of LOG trees, which this log does not use.
CREATE TABLE Unsequenced (
  TreeId              BIGINT NOT NULL,
  Bucket              INTEGER NOT NULL,
  LeafIdentityHash    BYTEA NOT NULL,
  MerkleLeafHash      BYTEA NOT NULL,
  QueueTimestampNanos BIGINT NOT NULL,
  QueueID             BYTEA DEFAULT NULL UNIQUE,
  PRIMARY KEY (TreeId, Bucket, QueueTimestampNanos, LeafIdentityHash)
);

-- The fence. An owner draws a new epoch when it opens the log and names it in
-- each of its sessions; a transaction writes only while its epoch is the one that
-- is stored, and keeps it from changing until it ends. Epochs are random and have
-- no order: a database that was restored must not give out one for a second time.
CREATE TABLE TrialogOwner (
  Sole  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (Sole),
  Epoch BIGINT NOT NULL
);
INSERT INTO TrialogOwner (Epoch) VALUES (0);

CREATE FUNCTION trialog_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM TrialogOwner
    WHERE Epoch = NULLIF(current_setting('trialog.epoch', TRUE), '')::BIGINT
    FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the log has another owner' USING ERRCODE = 'TL001';
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON Trees
  FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence();
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON Subtree
  FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence();
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON TreeHead
  FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence();
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON LeafData
  FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence();
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON SequencedLeafData
  FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence();
CREATE TRIGGER fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON Unsequenced
  FOR EACH STATEMENT EXECUTE FUNCTION trialog_fence();

-- ALWAYS: a session that replicates (session_replication_role) passes it as well.
ALTER TABLE Trees ENABLE ALWAYS TRIGGER fence;
ALTER TABLE Subtree ENABLE ALWAYS TRIGGER fence;
ALTER TABLE TreeHead ENABLE ALWAYS TRIGGER fence;
ALTER TABLE LeafData ENABLE ALWAYS TRIGGER fence;
ALTER TABLE SequencedLeafData ENABLE ALWAYS TRIGGER fence;
ALTER TABLE Unsequenced ENABLE ALWAYS TRIGGER fence;
