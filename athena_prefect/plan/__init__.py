"""What should happen: the plan, its network, its document."""
