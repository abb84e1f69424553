"""The running proxy: asynchronous I/O around the decisions of `core`."""
