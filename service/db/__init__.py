"""Storage: engine, statements, store and schema. The only package that imports SQLAlchemy or a database driver."""
