"""How far off: deviation, forecast, tasks at risk."""
