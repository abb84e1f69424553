"""The files that the server and the commands share; synchronous, the only home of file I/O."""
