"""Parts of mmdetection and mmsegmentation; imported only where a config names them."""
