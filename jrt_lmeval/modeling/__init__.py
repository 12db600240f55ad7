"""The models: prefix linear attention and what stands around it. Knows nothing of lm_eval.

Glossary (used in every shape comment of this package):

B  rows of a batch            T  tokens of a row (padded)      M  prefix length: tokens that give the head start
H  heads                      D  head dimension of q and k     F  features, after the feature map
V  head dimension of values   C  hidden size                   W  window of sliding attention, the token itself included
S  state: sum of phi(k) v^T   z  normaliser: sum of phi(k)     ke, ve  keys and values of the prefix projections
"""
