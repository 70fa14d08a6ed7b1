"""What a plan takes for granted: how it is observed, judged, and what follows."""
