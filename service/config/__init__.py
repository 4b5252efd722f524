"""Settings: field types, cross-field checks, loading."""
