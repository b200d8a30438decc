-- The oldest version of the tables whose programs may go on working on these.
ALTER TABLE claviger.turn ADD COLUMN oldest integer NOT NULL DEFAULT 1;
