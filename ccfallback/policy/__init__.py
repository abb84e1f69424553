"""Decisions about failover: candidates, breakers, outcomes, learned rejections. Pure."""
