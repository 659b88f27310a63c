"""AdaptEO: from your own labels to a map you can trust, with few trained parameters."""

__version__ = "0.1.0"
