"""How Alembic runs our migrations: on the connection that store.upgrade hands it, in the transaction that is open.

Alembic executes this file; nothing imports it.
"""

from alembic import context

from maillinkd.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a table in place
    on_version_apply=context.config.attributes["on_version_apply"],
)
with context.begin_transaction():
    context.run_migrations()
