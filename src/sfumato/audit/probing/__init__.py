"""Which regions of a network carry accuracy, and which carry risk: what is trained for it, measured, and kept."""
