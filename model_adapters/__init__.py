"""The model classes lm_eval runs: `jrt_rnn`, `based`, `mamba` and `hf_recall`.

Importing this package imports nothing heavy; `jrt_lmeval.plugin` names the classes as text and lm_eval imports the one
it needs. `base.RecallLM` is what they share, `engine.Engine` is all a new kind of model has to offer.
"""
