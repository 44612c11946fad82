"""The server of the demo: HTTP, sockets, the thread of the model."""
