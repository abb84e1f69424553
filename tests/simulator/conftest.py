"""The fixtures of tests that open sockets."""

from tests.network import certificates, run, stage

__all__ = ["certificates", "run", "stage"]
