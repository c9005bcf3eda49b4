"""Training: tasks, recipes, the one loop, and what comes out of it."""
