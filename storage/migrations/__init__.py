"""Alembic's environment and the revisions. `storage.schema` runs them; there is no alembic.ini."""
