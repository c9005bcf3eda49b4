"""Small reference networks; nothing special about them."""
