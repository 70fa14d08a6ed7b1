"""Steps that plans call: plain functions with typed arguments, each testable alone."""
