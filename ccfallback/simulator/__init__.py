"""Scripted upstreams, faults, the drill and the demo."""
