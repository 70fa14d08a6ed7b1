"""What finished runs teach: patterns, accuracy of estimates, bottlenecks, recommendations."""
