"""Hundreds of models: jobs named by their content, a store that keeps every result, executors, progress."""
