"""The tables of arXiv 2504.17397 as experiments, ours beside the paper's: ``adapteo bench paper``.

subjects ─▶ tables ─▶ setting ─▶ needs | search | running ─▶ workers ─▶ report
what is     which     one cell   can it   rate    one cell    several    ours beside
compared    cells     as a run   run?                         cells      the paper's
"""
