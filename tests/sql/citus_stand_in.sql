-- A stand-in for the extension citus where it is not installed: its functions record the tables that they are given,
-- as Citus does in its own catalog. Needs a superuser. https://docs.citusdata.com/en/stable/develop/api_metadata.html
SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    SELECT 99999, 'citus', 10, 11, false, '13.2-1';
CREATE TABLE pg_catalog.pg_dist_partition
    (logicalrelid regclass PRIMARY KEY, partmethod "char" NOT NULL, partkey text, repmodel "char" NOT NULL);
CREATE FUNCTION create_distributed_table(table_name regclass, distribution_column text, colocate_with text = 'default')
    RETURNS void LANGUAGE sql AS
    $$INSERT INTO pg_dist_partition VALUES ($1, 'h', $2 || ' with ' || $3, 's')$$;
CREATE FUNCTION create_reference_table(table_name regclass) RETURNS void LANGUAGE sql AS
    $$INSERT INTO pg_dist_partition VALUES ($1, 'n', NULL, 't')$$;
