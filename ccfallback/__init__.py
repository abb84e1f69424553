"""A local proxy that keeps Claude Code working whatever happens to its API."""

__version__ = "0.1.0"
