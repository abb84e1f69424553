"""Decisions about providers: failover, breakers, outcomes. Pure: no clock, no file, no await."""
