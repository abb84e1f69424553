"""The fixtures of tests that open sockets."""

from tests.network import certificates, pytest_pycollect_makeitem, pytest_pyfunc_call, run, stage

__all__ = ["certificates", "pytest_pycollect_makeitem", "pytest_pyfunc_call", "run", "stage"]
