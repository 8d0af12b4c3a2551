-- Run once by medical-db, when its volume is empty, as the role that owns the schema.
-- Makes the role that the worker seals the trail as: it sees of events their ids, times and digests, and adds seals.
-- What it may do with each table is granted by the migrations.
\getenv password MEDICAL_SEALER_PASSWORD
CREATE ROLE medical_sealer
    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
