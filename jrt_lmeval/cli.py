"""`jrt-eval`: the package's own command. Each sub-command's module loads only when that command is called."""

from __future__ import annotations

import argparse
import codecs
import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import NoReturn

from jrt_lmeval import __version__
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.one_line import tell, wants_traceback
from jrt_lmeval.paths import tasks_dir

# Command -> "module:function", a function from its arguments to an exit status, and its line of help. The module is
# imported when the command is called.
COMMANDS = {
    "run": (
        "jrt_lmeval.cli:run",
        "lm_eval with our models and tasks registered; with --grid, once per combination of settings",
    ),
    "train": ("jrt_lmeval.training.cli:main", "train a small model of your own, on a CPU if need be"),
    "retrofit": ("jrt_lmeval.training.retrofit:main", "give a Transformer a constant state: memories beside it"),
    "prefix": ("jrt_lmeval.prefix_fit:main", "fit the policy of prefix=learned on logs of fixed prefixes"),
    "paper": ("jrt_lmeval.paper.cli:main", "all runs that the paper's tables need, and the tables"),
    "report": ("jrt_lmeval.report.cli:main", "tables and a picture from the logs of any lm_eval runs"),
    "compare": ("jrt_lmeval.report.compare:main", "two runs on the same questions, and where they disagree"),
    "convert": ("jrt_lmeval.checkpoints.convert:main", "write a released checkpoint as a Hugging Face model"),
    "doctor": ("jrt_lmeval.doctor:main", "what is installed and what to fix; with MODEL, a check of it"),
}

EXAMPLES = """\
examples:
  # how well does the shipped prefix-linear-attention model recall facts from a page, and from a fact sheet?
  jrt-eval run --model jrt_rnn --model_args feature_map=mlp,prefix=dynamic --tasks swde_jrt_hier,factbook_jrt_hier

  # the same through lm_eval's own command, which this package extends when it is installed
  lm_eval --model jrt_rnn --model_args feature_map=mlp,prefix=dynamic --tasks swde_jrt_hier,factbook_jrt_hier

  # how do hierarchical prompts depend on overlap and order? 'jrt-eval run --help' shows more
  jrt-eval run --grid overlap=0,0.2 --grid order=coarse_to_fine,fine_to_coarse --model jrt_rnn --tasks swde_jrt_hier \\
      --output_path runs/grid

  # which tasks are there? With --all, also those of lm_eval
  jrt-eval run ls tasks

  # lm_eval does not know 'jrt_rnn'? See why
  jrt-eval doctor
"""


def parser() -> argparse.ArgumentParser:
    """The command line up to the command's name; what follows belongs to the command's own parser, or to lm_eval's."""
    found = _Parser(
        prog="jrt-eval",
        description="Measure how well recurrent language models recall what they have just read.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("--version", action="version", version=f"jrt-eval {__version__}")
    about = "'jrt-eval COMMAND --help' tells more of a command"
    commands = found.add_subparsers(title="commands", description=about, metavar="COMMAND", dest="command")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise JRTError(f"{message}; 'jrt-eval --help' shows what there is.")


def run(argv: Sequence[str]) -> int:
    """Run lm_eval's command line with our models and tasks registered, start-up hook or not.

    `ls` lists our tasks and the user's, with `--all` lm_eval's too; with `--grid`, see `jrt_lmeval.grid`.
    """
    if not argv or argv[0] in ("-h", "--help") or any(word == "--grid" or word.startswith("--grid=") for word in argv):
        from jrt_lmeval.grid import main as run_grid

        return run_grid(argv)
    from jrt_lmeval.plugin import ours_only, register

    register()
    from lm_eval.__main__ import cli_evaluate

    listing = argv[0] == "ls" and "--all" not in argv
    sys.argv = ["lm_eval", *(word for word in argv if argv[0] != "ls" or word != "--all")]  # lm_eval reads it itself
    with ours_only() if listing or all_ours(argv) else nullcontext():
        cli_evaluate()
    if listing and len(argv) > 1:
        print("These come with jrt_lmeval; '--all' adds those of lm_eval.")
    return 0


def all_ours(argv: Sequence[str]) -> bool:
    """Whether every task that lm_eval's arguments ask for comes with this package, going by names alone.

    Patterns, paths and names that a user's `--include_path` may hold count as others': lm_eval then looks everywhere.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    options.add_argument("--tasks", "-t", nargs="+", default=[])
    try:
        found, _ = options.parse_known_args(list(argv))
    except argparse.ArgumentError:
        return False
    asked = [name for words in found.tasks for name in words.split(",") if name]
    ours = {file.stem for file in tasks_dir().rglob("*.yaml")}
    return bool(asked) and ours.issuperset(asked)


def _print_all_characters() -> None:
    """Print a table's ± in a locale without UTF-8 too: as UTF-8 under `LC_ALL=C`, elsewhere escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if ascii_only else None, errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Call a command; returns 0 on success, 1 on bad input or where a check failed, 130 after Ctrl-C."""
    _print_all_characters()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise unknown("command", arguments[0], COMMANDS)
        name = parser().parse_args(arguments[:1]).command
        if name is None:
            parser().print_help()
            return 0
        module, _, function = COMMANDS[name][0].partition(":")
        return int(getattr(import_module(module), function)(arguments[1:]) or 0)
    except JRTError as error:
        tell(f"jrt-eval: {error}")
        return 1
    except BrokenPipeError:  # the reader of our output has closed the pipe
        sys.stdout = None  # or Python complains once more when it ends
        return 1
    except OSError as error:
        # a full disk, a folder where a file should be, no permission: whatever was to be read or written
        if error.strerror is None or wants_traceback():
            raise
        tell(f"jrt-eval: {error.filename or 'a file'}: {error.strerror}.")
        return 1
    except KeyboardInterrupt as error:
        said = str(error) or "interrupted; with --use_cache FILE, or --grid, the same command resumes from there"
        print(f"\njrt-eval: {said}", file=sys.stderr)
        return 130
