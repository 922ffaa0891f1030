"""What `star-head compare` does with each of its runs: train, time, measure, put together."""
