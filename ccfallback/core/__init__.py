"""Every decision the proxy makes: pure, with no clock, socket, file or randomness of its own."""
