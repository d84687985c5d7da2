"""The application: the standard tree, and the two views through which people use it."""
