"""From one tree of a service to the next: plan, merge, apply. Prints nothing."""
