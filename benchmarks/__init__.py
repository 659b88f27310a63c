"""Speed and memory as ratios against peers or limits, measured in one run: ``make bench``."""
