"""What to do about it: whether to replan, the alternatives, and the revision that comes of it."""
