"""The configuration: its model, its schema, and its file."""
