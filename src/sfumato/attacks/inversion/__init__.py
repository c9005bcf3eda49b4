"""Model inversion: what did the training records, or what the model knows of a class, look like?"""
