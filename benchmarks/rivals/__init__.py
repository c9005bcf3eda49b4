"""Ways to take one private step, and the networks on which `dp_overhead.py` compares them."""
