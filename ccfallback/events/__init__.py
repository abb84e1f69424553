"""The log: its events, and how they are written, read, counted and explained."""
