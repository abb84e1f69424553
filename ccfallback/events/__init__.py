"""Log events: how they are written, read, counted and put into words."""
