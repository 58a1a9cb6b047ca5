"""Event tables and padded batches made from a data set."""
