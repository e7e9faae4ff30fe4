"""Claims of quality, speed and memory, one script each; every speed is a ratio to a plain baseline of the same run."""
