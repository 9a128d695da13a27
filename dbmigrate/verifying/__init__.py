"""The verifier: proves by digests, computed by both servers under live traffic, that both sides are equal.

``comparing`` computes and narrows, ``verifier`` walks every table, settles what only looked different and reports.
"""
