"""The suite's models: equal in size, and the baselines train as transformers computes them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.feature_maps import FEATURE_MAPS, MLP, build_feature_map
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.paper.plan import JRT_BYTES, SINKS
from jrt_lmeval.training import cli
from jrt_lmeval.training.models import last_hidden, logits_of, new_model
from jrt_lmeval.training.recipes import MAP_OPTIONS, RECIPES, SUITE, TEACHER, narrow, plain, suite, windowed
from model_adapters.engines.kv_window import KVWindow, WindowOptions, full_pass

MAPS = ("mlp", "taylor", "linear", "gelu", "relu", "poly", "gaussian", "hybrid", "blend")
ALL = [
    *(("jrt_rnn", name) for name in MAPS),
    ("based", "taylor"),
    ("llama", "mlp"),
    ("mamba", "mlp"),
    ("mamba2", "mlp"),
]


class Tokenizer:
    """As much of a tokenizer as a model is built from."""

    bos_token_id = eos_token_id = pad_token_id = 0
    mask_token_id = 1

    def __len__(self) -> int:
        return SUITE.vocab_size


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_models_of_the_suite_have_equal_parameters() -> None:
    counts = {names: parameters(new_model(suite(*names), Tokenizer())) for names in ALL}
    counts |= {("narrow", name): parameters(new_model(narrow("jrt_rnn", name), Tokenizer())) for name in MAP_OPTIONS}
    counts |= {("plain", name): parameters(new_model(plain("jrt_rnn", name), Tokenizer())) for name in ("relu", "gelu")}
    assert max(counts.values()) <= 1.03 * min(counts.values()), counts
    assert all(1_000_000 < count < 4_000_000 for count in counts.values())


def test_a_llama_is_trained_with_the_window_that_it_is_evaluated_with(tmp_path: Path) -> None:
    recipe = windowed()
    token = 2 * len(recipe.mixers) * recipe.hidden_size * 4  # bytes of its keys and values
    window = WindowOptions(kv_bytes=JRT_BYTES, kv_sinks=SINKS).window(token)
    assert recipe.config == {"kv_window": window.size, "kv_sinks": window.sinks}
    new_model(replace(recipe, config={"kv_window": 5, "kv_sinks": 2}), Tokenizer()).save_pretrained(tmp_path)
    model = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(2, SUITE.vocab_size, (1, 23))
    with torch.inference_mode():
        trained = logits_of(model, last_hidden(model, ids, torch.tensor([23]), torch.tensor([0])))[0]
        evaluated = full_pass(model, ids[0].tolist(), KVWindow(5, 2))
        assert torch.allclose(trained, evaluated, atol=1e-5)
        assert not torch.allclose(trained, model(ids).logits[0], atol=1e-3)
    assert RECIPES["window-leads"]("llama", "", "").config == recipe.config
    assert plain("jrt_rnn", "relu").feature_map_options == {} and windowed().role == plain().role == "control"
    with pytest.raises(JRTError, match="learned expansion to leave out 'mlp'"):
        plain("jrt_rnn", "mlp")
    with pytest.raises(JRTError, match="give --model llama"):
        RECIPES["window-leads"]("based", "taylor", "")


def test_the_models_of_the_suite_read_the_same_rows() -> None:
    same = ("batch_tokens", "sources", "curriculum", "questions", "prefixes", "seed", "vocab_size", "prose_weight")
    for model, name in ALL:
        recipe = suite(model, name, "softmax-teacher")
        assert all(getattr(recipe, field) == getattr(SUITE, field) for field in same)
        # what a student's teacher has seen counts for those that have none
        before = TEACHER.tokens if recipe.teacher else 0
        assert before + recipe.tokens == TEACHER.tokens + SUITE.tokens
        assert model == "mamba2" or recipe.learning_rate == SUITE.learning_rate
    assert suite("jrt_rnn", "mlp").tokens == suite("llama").tokens
    assert {field for field in same if getattr(TEACHER, field) != getattr(SUITE, field)} == {"sources"}


def test_a_narrow_map_has_the_state_of_the_linear_one() -> None:
    for name in MAP_OPTIONS:
        recipe = narrow("jrt_rnn", name, "softmax-teacher")
        made = build_feature_map(name, recipe.num_heads, recipe.feature_dim, **recipe.feature_map_options)
        assert made.feature_dim == suite("jrt_rnn", "linear", "softmax-teacher").feature_dim
        assert recipe.role == "control" and recipe.tokens == SUITE.tokens
    with pytest.raises(JRTError, match="unknown feature map with a number of features to choose 'taylor'"):
        narrow("jrt_rnn", "taylor")


def test_a_model_without_a_teacher_spends_nothing_on_matching() -> None:
    assert suite("jrt_rnn", "mlp").match == 0 and suite("jrt_rnn", "mlp", "softmax-teacher").match > 0


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(JRTError, match=r"unknown model to train 'lama'\. Did you mean 'llama'"):
        cli.main(["--out", "unused", "--model", "lama"])
    with pytest.raises(JRTError, match="--model llama has no feature map and no teacher"):
        cli.main(["--out", "unused", "--model", "llama", "--feature-map", "mlp"])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ("jrt_rnn", "mlp", "softmax-teacher")),
        (["--feature-map", "relu", "--teacher", "none"], ("jrt_rnn", "relu", "")),
        (["--model", "based"], ("based", "taylor", "softmax-teacher")),
        (["--model", "mamba"], ("mamba", "mlp", "")),
    ],
)
def test_the_command_line_names_a_model_of_the_suite(options, expected) -> None:
    recipe = cli.chosen_recipe(cli.parser().parse_args(["--out", "unused", *options]))
    assert recipe == suite(*expected)


@pytest.mark.parametrize(("feature_map", "options"), [("taylor", {}), ("poly", {"degree": 2}), ("relu", {})])
@pytest.mark.parametrize("mixer", ["prefix_linear", "linear"])
def test_the_kernel_form_computes_what_the_chunked_form_does(feature_map, options, mixer) -> None:
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_heads=2, feature_dim=8, shifted_heads=1,
        feature_map=feature_map, feature_map_options=options, mixers=["conv", mixer, "swa", mixer], window=8,
        initializer_range=0.4,
    )  # fmt: skip
    model = JRTForCausalLM(config).train()
    ids, lengths = torch.randint(0, 40, (3, 77)), torch.tensor([77, 50, 3])
    real = torch.arange(77) < lengths[:, None]
    found = {}
    for form, prefix in itertools.product(("chunked", "kernel"), ((70, 0, 2), (77, 50, 3), (0, 0, 0))):
        model.linear_attention = form
        model.zero_grad()
        hidden, state = model.hidden_states(ids, lengths, torch.tensor(prefix))
        hidden[real].square().sum().backward()
        found[form, prefix] = (
            hidden[real].detach(),
            [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None],
        )
        assert ("S" in state.layers[1]) == (form == "chunked" or feature_map == "relu")
    for prefix in ((70, 0, 2), (77, 50, 3), (0, 0, 0)):
        (a, da), (b, db) = found["chunked", prefix], found["kernel", prefix]
        assert torch.allclose(a, b, atol=1e-4)
        assert all((x - y).abs().max() <= 1e-3 * (1 + x.abs().max()) for x, y in zip(da, db, strict=True))
    model.eval()
    assert "S" in model.hidden_states(ids)[1].layers[1]  # outside training the state is always there


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_a_kernel_is_the_product_of_its_features(name: str) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 7, 8, dtype=torch.float64).mul(2)
    for options in [{"degree": degree} for degree in (1, 2, 3, 4)] if name == "poly" else [{}]:
        feature_map = build_feature_map(name, 2, 8, **options).double()
        product = feature_map(q) @ feature_map(k).transpose(-1, -2)
        short = feature_map.kernel(q, k)
        assert (short is not None) == (name in ("taylor", "poly", "centred"))
        assert short is None or torch.allclose(short, product, rtol=1e-6)


def test_a_normaliser_can_be_chosen_over_the_maps_own() -> None:
    for given, expected in ((None, True), ("sum", True), ("rms", False)):
        config = JRTConfig(
            hidden_size=16, num_heads=2, feature_dim=8, feature_map="taylor", mixers=["linear"], normaliser=given
        )
        assert JRTForCausalLM(config).blocks[0].mixer.by_sum == (expected,) * 2
    with pytest.raises(JRTError, match="unknown normaliser 'rmz'"):
        JRTConfig(normaliser="rmz")


def test_the_mlp_map_takes_an_activation() -> None:
    x = 30 * torch.randn(1, 2, 5, 8)
    assert torch.allclose(MLP(2, 8, 16)(x).sum(-1), torch.ones(1, 2, 5))
    features = MLP(2, 8, 16, activation="exp")(x)
    assert bool(torch.isfinite(features).all()) and features.max() > 1.5
    with pytest.raises(JRTError, match="unknown activation of feature_map=mlp 'exq'"):
        MLP(2, 8, 16, activation="exq")
