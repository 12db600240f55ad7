"""The model classes lm_eval runs. Where to look:

jrt_rnn, based, mamba, hf_recall   what a user names: a checkpoint becomes an engine and a tokenizer
lm              what they share towards lm_eval: requests in, answers out
options         the model arguments that all of them take
processes       torchrun and accelerate: this process among others
request_cache   lm_eval's `--use_cache`, made safe
engines/        what a model must offer (`engine`), and who offers it
running/        from requests to answers: rows, batches, shared states, decoding, stopping, figures

Importing this package imports nothing heavy; `jrt_lmeval.plugin` names the classes as text and lm_eval imports the one
it needs.
"""
