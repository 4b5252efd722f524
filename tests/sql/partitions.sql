-- Replaces the empty tables of a migrated database by tables with a partition for each of 16 hashes of the user, as a
-- stand-in for the shards of a distributed database: a plan names the partitions that a statement touches.
ALTER TABLE users RENAME TO old_users;
ALTER TABLE tasks RENAME TO old_tasks;
CREATE TABLE users (LIKE old_users INCLUDING ALL) PARTITION BY HASH (id);
CREATE TABLE tasks (LIKE old_tasks INCLUDING ALL, FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE)
    PARTITION BY HASH (user_id);
DO $$BEGIN
    FOR number IN 0..15 LOOP
        EXECUTE format('CREATE TABLE users_%s PARTITION OF users FOR VALUES WITH (MODULUS 16, REMAINDER %1$s)', number);
        EXECUTE format('CREATE TABLE tasks_%s PARTITION OF tasks FOR VALUES WITH (MODULUS 16, REMAINDER %1$s)', number);
    END LOOP;
END$$;
DROP TABLE old_tasks, old_users;
