#!/bin/bash
# Gives Grafana a role of its own in the ledger's PostgreSQL, which can read and nothing else, and no query for longer than half a minute.
# PostgreSQL's image runs it when it makes the database. By hand: POSTGRES_USER, POSTGRES_DB and LEDGER_READER_PASSWORD in the environment.
set -euo pipefail
psql --set=ON_ERROR_STOP=1 --set=password="$LEDGER_READER_PASSWORD" --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE reader LOGIN PASSWORD :'password';
ALTER ROLE reader SET statement_timeout = '30s';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
SQL
