-- The model server's database, version 4: rows are learned by a thread of their own, which keeps what it knows in
-- learn.db and reads the rows of one kind of machine in their order.
CREATE INDEX row_type ON row (node_type, row_id);
DROP TABLE learner;
DROP TABLE publication;
