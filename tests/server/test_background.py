import pytest

from ccfallback.errors import ServeError
from ccfallback.paths import Paths
from ccfallback.server.background import BackgroundProxy
from ccfallback.state import server_file


def test_a_private_proxy_is_told_to_nobody(paths: Paths) -> None:
    with BackgroundProxy(paths, private=True):
        assert server_file.read(paths.server) is None
    with BackgroundProxy(paths) as proxy:
        noted = server_file.read(paths.server)
        assert noted is not None
        assert noted.url == proxy.url
    assert server_file.read(paths.server) is None


def test_a_proxy_that_fails_to_start_says_so_to_who_waits_for_it(paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True)
    paths.state.write_text('{"version": 1, "providers": {}}')
    proxy = BackgroundProxy(paths)
    # What reads the state is gone.
    proxy.proxy.services.breakers.close()
    with pytest.raises(ServeError):
        proxy.__enter__()
