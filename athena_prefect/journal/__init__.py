"""What happened: events, the state they fold to, and where they are kept."""
