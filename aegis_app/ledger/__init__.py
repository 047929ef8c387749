"""Every decision and label in SQL: SQLite for one machine, PostgreSQL for a deployment. docs/ledger.md describes it."""
