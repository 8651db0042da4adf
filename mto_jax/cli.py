# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The console script `mto VERB` (also `python -m mto_jax.cli VERB`): flags, gin, errors."""

import argparse
import errno
import importlib
import inspect
import os
import re
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin

from mto_jax import config, environment, errors, files, macros, peers, remote

# One line a verb: what a user reads in `mto --help`. The module `mto_jax.commands.VERB` holds the
# function VERB, unless `_MODULES` names another.
VERBS = {
    "quickstart": "the whole way in minutes on a CPU: a tiny T5 pre-trained, tuned, evaluated",
    "prepare": "turn SeqIO tasks into tokenised ArrayRecord files that training reads",
    "plan": "what a training would cost on TPUs that are not here: memory, traffic, time",
    "train": "pre-train, adapt or fine-tune a T5; resumes where it stopped",
    "evaluate": "decode a data set with a checkpoint and score the predictions",
    "infer": "predict for the lines of a file or of standard input",
    "try": "type a head or a question and see what a model answers under every template",
    "match": "find the pre-training objective and the template that each task wants",
    "tune": "tune many prompts, LoRAs, ... at once on a frozen model, and ask each",
    "tables": "compute a grid of experiments, cell by cell, and print its tables and figures",
    "trajectory": "tune every checkpoint of a run: when to adapt, what tuning makes it forget",
    "advise": "measure which way of adapting a model fits a task, its data and a budget",
    "adapt": "make task-like pairs from unlabelled sentences and train a T5 on with them",
    "prompts": "list adapters, show what is in them, the words they are near, how alike they are",
    "board": "look at a grid or a run in the browser: scores, predictions side by side",
    "convert": "convert a checkpoint between Hugging Face, T5X and ours, or say what it is",
    "list": "list tasks, templates, objectives, metrics, models, runs or gin files by name",
    "show": "print a gin file that comes along",
    "completion": "print what makes a shell complete verbs, flags and macros",
}
# These two never compute on an accelerator: they leave it to the trainer.
_ENVIRONMENT = {
    "prepare": {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"},
    # libtpu compiles without a TPU, several processes at a time, if it looks for none.
    "plan": {
        "JAX_PLATFORMS": "cpu",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    },
}
# `try` is a word of Python's and can name neither a module nor a function; `list` is a type's.
_MODULES = {"try": "trial", "list": "listing"}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `mto`: prints the verbs, or runs the one named first."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        width = max(map(len, VERBS))
        print("usage: mto VERB [--gin_file=FILE ...] [--gin.NAME=VALUE ...] [flags]\n")
        print("Match tasks to pre-training objectives; adapt, tune and evaluate T5.\n\nverbs:")
        for verb, text in VERBS.items():
            print(f"  {verb:<{width}}  {text}")
        print("\n`mto VERB --help` lists the flags and parameters of a verb.")
    elif argv[0] == "--version":
        print(importlib.import_module("mto_jax").__version__)
    elif argv[0] not in VERBS:
        errors.fail(errors.unknown("verb", argv[0], VERBS))
    else:
        run(argv[0], argv[1:])


def run(verb: str, argv: Sequence[str] | None = None) -> None:
    """Parse the flags of `verb`, read its gin configuration and call its function.

    A `UserError`, a full disk or a missing file ends the process with one paragraph and status 2.
    """
    try:
        _run(verb, argv)
    except BaseException as error:
        peers.ended_by(error)
        raise


def _run(verb: str, argv: Sequence[str] | None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_failed
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _callback_failed
    for variable, value in _ENVIRONMENT.get(verb, {}).items():
        os.environ.setdefault(variable, value)
    try:
        name, (module, function) = _MODULES.get(verb, verb), _load(verb)
        known, rest = parser(verb).parse_known_args(argv)
        arguments = vars(known)
        if arguments.pop("quiet"):
            importlib.import_module("mto_jax.console").be_quiet()
        if getattr(module, "PLAIN", False):
            _check_rest(verb, rest)
            function(**arguments)
            return
        gin_bindings = _bindings(verb, rest)
        _start_jax(arguments)
        own = getattr(module, "GIN_FILE", None)
        config.load(
            arguments.pop("gin_file") or ([own] if own else []),
            gin_bindings,
            arguments.pop("gin_search_paths"),
            arguments.pop("allow_code"),
            getattr(module, "OPTIONAL_MACROS", ()),
        )
        environment.environment()
        given = {name: value for name, value in arguments.items() if value is not None}
        flags = [(f"--{flag}", value) for flag, value in given.items()]
        places = [(name, os.environ.get(name)) for name in ("MTO_CACHE_DIR", "MTO_DATA_DIR")]
        for place, value in (*flags, *places, *config.values()):
            files.check_local(value, place)
        _check_required(verb, name, function, given)
        try:
            function(**given)
        finally:
            remote.publish()
    except errors.UserError as error:
        errors.fail(error)
    except ModuleNotFoundError as error:
        errors.fail(errors.missing_package(error))
    except TypeError as error:
        errors.fail(config.missing_value(error))
    except OSError as error:  # also what gin raises in its place, which has no errno
        errors.fail(error)
    except RecursionError as error:
        errors.fail(errors.UserError(f"Something is nested too deeply: {errors.message(error)}."))
    except Exception as error:
        if os.strerror(errno.ENOSPC) not in str(error):  # as libraries in C++ and Rust say it
            raise
        errors.fail(error)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def _thread_failed(raised: threading.ExceptHookArgs) -> None:
    """Says in a line that a library's thread could not write, on a full disk for example."""
    if isinstance(raised.exc_value, OSError):
        print(f"warning: {raised.exc_value}", file=sys.stderr)
    else:
        threading.__excepthook__(raised)


def _callback_failed(raised: "sys.UnraisableHookArgs") -> None:
    """Says nothing of writes that end after Orbax has given up, which it does at the first failure.

    It closes its event loop then without waiting for TensorStore, which reports to that loop.
    """
    if not (
        isinstance(raised.exc_value, RuntimeError) and "loop is closed" in str(raised.exc_value)
    ):
        sys.__unraisablehook__(raised)


def parser(verb: str) -> argparse.ArgumentParser:
    """Returns the parser of the flags of a verb; those of gin's values are left to `run`."""
    module, function = _load(verb)
    plain = getattr(module, "PLAIN", False)
    parser = argparse.ArgumentParser(
        prog=f"mto {verb}",
        description=inspect.getdoc(module),
        epilog=None if plain else _parameters(verb, function),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no progress: results, warnings and errors alone"
    )
    if plain:
        module.add_flags(parser)
        return parser
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file; may be given several times, later files override earlier ones; looked up "
        "in the working directory, in --gin_search_paths and in the files that come with MTO-JAX",
    )
    parser.add_argument(
        "--gin_search_paths", default="", metavar="DIR,DIR", help="folders that hold gin files"
    )
    parser.add_argument(
        "--allow_code",
        action="store_true",
        help="let gin files from outside the working directory import modules, which is to run "
        "what is in them",
    )
    parser.add_argument(
        "--gin.NAME",
        dest="unused",
        metavar="VALUE",
        default=argparse.SUPPRESS,
        help="bind a macro or parameter, e.g. --gin.MODEL_DIR=runs/a (a bare word is a string)",
    )
    hosts = parser.add_argument_group("several hosts")
    hosts.add_argument(
        "--coordinator_address",
        metavar="HOST:PORT",
        help="join a multi-host run; 'auto' on TPU pods, SLURM and Open MPI",
    )
    hosts.add_argument("--process_count", type=int, metavar="N", help="processes in the run")
    hosts.add_argument("--process_index", type=int, metavar="I", help="index of this process")
    if hasattr(module, "add_flags"):
        module.add_flags(parser.add_argument_group(f"flags of {verb}"))
    return parser


def _load(verb: str) -> tuple[types.ModuleType, Callable[..., Any]]:
    """Returns the module of a verb and its function."""
    name = _MODULES.get(verb, verb)
    module = importlib.import_module(f"mto_jax.commands.{name}")
    return module, getattr(module, name)


def _bindings(verb: str, rest: Sequence[str]) -> list[str]:
    """Returns the gin statements of `--gin.NAME=VALUE` flags.

    Raises:
      UserError: something else is among them.
    """
    ours = [argument for argument in rest if argument.startswith("--gin.") and "=" in argument]
    _check_rest(verb, [argument for argument in rest if argument not in ours])
    return [config.binding(*flag.removeprefix("--gin.").split("=", 1)) for flag in ours]


def _check_rest(verb: str, rest: Sequence[str]) -> None:
    if rest:
        flags = re.findall(r"--[\w.]+", parser(verb).format_usage())
        raise errors.unknown(f"flag of 'mto {verb}' called", rest[0].split("=")[0], flags)


def _parameters(verb: str, function) -> str:
    """The macros and gin parameters of a verb, with their defaults, as the end of its help text."""
    name = _MODULES.get(verb, verb)
    lines = macros.described(verb)
    lines.append(f"parameters (bind with --gin.{name}.NAME=VALUE or in a gin file):")
    for parameter in inspect.signature(function).parameters.values():
        default = parameter.default
        shown = "required" if default is parameter.empty else f"default {default!r}"
        lines.append(f"  {name}.{parameter.name}  ({shown})")
    documentation = inspect.getdoc(function)
    files = [*config.bundled("runs"), *config.bundled("tables")]
    runs = "\n".join(f"  {name}" for name in files)
    return "\n".join(lines) + f"\n\n{documentation}\n\ngin files that come along:\n{runs}"


def _check_required(verb: str, name: str, function, given: Mapping) -> None:
    """Every parameter without a default has a value, from a flag or from gin."""
    bound = gin.get_bindings(name, resolve_references=False)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is parameter.empty and parameter.name not in {*given, *bound}:
            files = [*config.bundled("runs"), *config.bundled("tables")]
            fitting = [file for file in files if verb in re.split(r"[/_.]", file)] or ["FILE"]
            raise errors.UserError(
                f"mto {verb} needs a value for {parameter.name}: take a gin file that binds it "
                f"(--gin_file={' or '.join(fitting)}), or pass --gin.{name}.{parameter.name}=..."
            )


def _start_jax(arguments: dict) -> None:
    """Join a multi-host run when asked to (before anything touches a device).

    A run of one process on a CPU gets its cores as devices instead.
    """
    address = arguments.pop("coordinator_address")
    count, index = arguments.pop("process_count"), arguments.pop("process_index")
    if address is None:
        if count is not None or index is not None:
            raise errors.UserError(
                "--process_count and --process_index need --coordinator_address=HOST:PORT."
            )
        from mto_jax import cores

        cores.as_devices()
        return
    if address != "auto" and not re.fullmatch(r"[^\s:]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}", address):
        raise errors.UserError(
            f"--coordinator_address={address}: expected HOST:PORT, such as 10.0.0.1:8476, or auto."
        )
    peers.join(address, count, index)


if __name__ == "__main__":
    main()
