"""SQLAlchemy: tables, repositories, the unit of work, migrations, backup. Nobody else imports it but the bootstrap."""
