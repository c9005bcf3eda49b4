"""How each use of a private parameter is seen where it happens: no wrapper, no hook on a module."""
