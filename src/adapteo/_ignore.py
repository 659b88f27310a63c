"""The mark of what is not to be learned; a module of its own, so that code without torch can have it."""

IGNORE = -1
"""The one internal value of a target that is not to be learned; datasets map their own ignore values to it."""
