"""Records of the kinds of canaries whose values are made."""
