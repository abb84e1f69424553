"""Mutation testing: whether a test notices each small change of the code that decides."""
