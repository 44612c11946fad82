"""The annotation demo: a local server and its page (``mmsam2 demo``)."""
