"""The model classes that lm_eval runs.

models          what a user names (jrt_rnn, based, mamba, hf_recall): a checkpoint becomes an engine and a tokenizer
lm              what all share towards lm_eval: requests in, answers out
options         the model arguments that all take, and the machine they run on
request_cache   lm_eval's `--use_cache`, made safe
engines/        what a model must offer (`engine`), and who offers it
running/        from requests to answers

Importing this package imports nothing heavy. `jrt_lmeval.plugin` names the classes as text, and lm_eval imports the one
it needs.
"""
