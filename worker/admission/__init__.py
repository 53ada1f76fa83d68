"""Who may run what, now: the doors, the pure decision, and the step that carries it out."""
