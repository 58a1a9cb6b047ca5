"""Standard errors of the population parameters: covariance step, observed information, resampling."""
