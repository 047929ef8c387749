"""What Alembic runs: always with a connection of ours."""

from alembic import context

from aegis_app.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
