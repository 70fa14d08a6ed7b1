"""When: critical path, schedules, simulation."""
