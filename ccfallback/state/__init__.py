"""State that the server and the commands share."""
