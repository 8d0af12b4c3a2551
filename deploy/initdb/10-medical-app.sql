-- Run once by medical-db, when its volume is empty, as the role that owns the schema.
-- Makes the role that the web process works as: row-level security binds it, and it owns nothing.
-- What it may do with each table is granted by the migrations.
\getenv password MEDICAL_APP_PASSWORD
CREATE ROLE medical_app
    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';

-- Their errors are the program's to log: PostgreSQL's messages quote values of patients.
ALTER ROLE medical_app SET log_min_messages = fatal;
ALTER ROLE medical_owner SET log_min_messages = fatal;
