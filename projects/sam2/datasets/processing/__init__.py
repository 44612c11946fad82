"""What tools do with whole data sets: check them, convert them, extract frames."""
