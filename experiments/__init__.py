"""Runs on real data whose results are in docs/results; each says its protocol and its command."""
